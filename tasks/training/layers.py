"""Which weights of a model are trained, where not all of them are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_OTHER_INPUT = ("vision_config", "audio_config")
"""Sections in config.json of a model that takes more than text."""


def parts_beside_text(model: Any) -> list[str]:
    """The parts of a model that text does not pass through: towers for images and sound, and what projects from them.

    None for most models; Gemma 3 from 4B on has them.
    """
    if model.config.get_text_config() is model.config:
        return []
    decoder = model.get_decoder()
    name = next((name for name, part in model.named_modules() if part is decoder), "")
    if not name:
        return []
    around, _, own = name.rpartition(".")
    heads = (model.get_output_embeddings(), getattr(model, "score", None))
    others = [(child, part) for child, part in model.get_submodule(around).named_children() if child != own]
    return [f"{around}.{child}".lstrip(".") for child, part in others if part not in heads]


def freeze_beside_text(model: Any) -> None:
    """Has no part learn that text does not pass through: without a gradient, processes would wait for it forever."""
    for part in parts_beside_text(model):
        model.get_submodule(part).requires_grad_(False)


def pattern_beside_text(model: Any) -> str | None:
    """A regular expression for the names of all modules that are to have no adapter; None if there are none."""
    parts = parts_beside_text(model)
    return rf"({'|'.join(map(re.escape, parts))})(\..*)?" if parts else None


def train_upper_layers(model: Any, n: int) -> None:
    """Has only a model's last `n` layers learn, and a scalar head, which is new; all other weights are frozen.

    Raises ValueError if it has fewer layers.
    """
    import torch

    count = model.config.get_text_config().num_hidden_layers
    stacks = (
        part for part in model.get_decoder().modules() if isinstance(part, torch.nn.ModuleList) and len(part) == count
    )
    layers = next(stacks, None)
    if layers is None or n > count:
        raise ValueError(too_many(n, count))
    model.requires_grad_(False)
    layers[count - n :].requires_grad_(True)
    if hasattr(model, "score"):
        model.score.requires_grad_(True)


def too_many(n: int, layers: int) -> str:
    """What is said of a model with fewer layers than are to be trained."""
    return f"training.trainable_layers = {n}, but the model has {layers} layers: lower it, or leave it out to train all"


def not_for_text(config: Mapping[str, Any]) -> str | None:
    """What is said of a model that also takes other input, by its config.json, if it cannot be trained on text; else None."""
    if config.keys().isdisjoint(_OTHER_INPUT) or "auto_map" in config:
        return None
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind = config.get("model_type")
    if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return None
    return f"a model of the type {kind} also takes images or sound, and transformers cannot train it on text alone: use another"
