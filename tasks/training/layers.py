"""Which weights of a model are trained, where not all of them are."""

from __future__ import annotations

from typing import Any


def train_upper_layers(model: Any, n: int) -> None:
    """Has only a model's last `n` layers learn, and a scalar head, which is new; all other weights are frozen.

    Raises ValueError if it has fewer layers.
    """
    import torch

    count = model.config.get_text_config().num_hidden_layers
    stacks = (part for part in model.modules() if isinstance(part, torch.nn.ModuleList) and len(part) == count)
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
