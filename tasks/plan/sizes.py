"""The size of a model, from the headers of its weight files or from its config.json; no weights are read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.paths import from_home
from tasks.model.folder import ModelError, check_model_folder, is_head, linear_size, shapes_of, weight_files
from tasks.model.location import model_folder
from tasks.plan.assumptions import PlanError


@dataclass(frozen=True)
class ModelSize:
    """`parameters` in total, tied ones once. `linear` is Σ (inputs + outputs) over the linear layers except the head.

    LoRA of rank r on all of these layers has r · `linear` parameters.
    """

    parameters: int
    linear: int


@dataclass(frozen=True)
class Located:
    """A base model as named in the settings, and the folder with its tokenizer and config."""

    model: str
    folder: Path
    stand_in: bool = False


def locate(model: str, stand_ins: Mapping[str, str]) -> Located:
    """Where a model or its stand-in is. From the hub, everything but the weights is fetched.

    Raises PlanError if it is not available.
    """
    if model in stand_ins:
        folder = Path(from_home(stand_ins[model]))
        if not (folder / "config.json").is_file():
            raise PlanError(f"the stand-in for {model!r}, {folder}, has no config.json: pass a model folder")
        return Located(model, folder, stand_in=True)
    try:
        return Located(model, Path(model_folder(model, weights=False)))
    except FileNotFoundError as error:
        raise PlanError(
            f"{error}. To plan without it, pass a folder with a config.json and a tokenizer: --stand-in {model}=FOLDER"
        ) from error


def model_size(folder: Path, trust_remote_code: bool = False, scalar: bool = False) -> ModelSize:
    """The size of the model in a folder, or of a `scalar` model made from it, with one output instead of a vocabulary.

    Raises PlanError if the folder has neither weights nor a known config, or if its weights are broken.
    """
    try:
        shards = weight_files(folder)
        known = not scalar and bool(shards) and all(shard.is_file() for shard in shards)
        if known:
            check_model_folder(str(folder))
    except ModelError as error:
        raise PlanError(str(error)) from error
    if known:
        shapes = shapes_of(shards)
        return ModelSize(sum(math.prod(shape) for shape in shapes.values()), linear_size(shapes))
    return _from_config(folder, trust_remote_code, scalar)


def _from_config(folder: Path, trust_remote_code: bool, scalar: bool) -> ModelSize:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    kind = AutoModelForSequenceClassification if scalar else AutoModelForCausalLM
    try:
        outputs = {"num_labels": 1} if scalar else {}
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code, **outputs)
        with torch.device("meta"):  # shapes without memory
            model: Any = kind.from_config(config, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise PlanError(f"the size of the model in {folder} cannot be found from its config.json: {error}") from error
    layers = (m for name, m in model.named_modules() if isinstance(m, torch.nn.Linear) and not is_head(name))
    return ModelSize(model.num_parameters(), sum(m.in_features + m.out_features for m in layers))
