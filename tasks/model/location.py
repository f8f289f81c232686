"""Where a model is (a folder on this machine, or a name on the hub), and what identifies it in keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from data.files import hash_folder
from data.paths import PathError, expanded
from tasks.model.folder import ModelError, base_of_adapter, check_model_folder
from tasks.model.merging import merged_folder

_T = TypeVar("_T")


@dataclass(frozen=True)
class Checkpoint:
    """A model that was not made by a stage. `content` identifies it in keys; `model` is its folder, or an endpoint's URL."""

    content: str
    model: str


Found = tuple[str, dict[str, str]]
"""The folder of a base model, and what identifies it in a stage's key: its content, or its commit on the hub."""


def find_on_hub(model: str) -> Found:
    """A model of the hub, downloaded if need be. Raises what `model_folder` raises."""
    folder = model_folder(model)
    return folder, {"hub": _expanded(model).partition("@")[0], "commit": Path(folder).name}


def find_model(model: str, on_hub: Callable[[str], Found] = find_on_hub) -> Found:
    """A base model on disk or on the hub. `on_hub` looks up a name of the hub, the model's own or that of an adapter's base."""
    model = _expanded(model)
    path = Path(model)
    if not path.exists():
        return on_hub(model)
    base = base_of_adapter(str(path))
    if base is None:
        folder = model_folder(model)
        return folder, {"content": hash_folder(Path(folder))}
    folder = merged_folder(str(path), *_of_base(str(path), base, lambda name: find_model(name, on_hub)))
    return folder, {"content": Path(folder).name}


def end_of_adapters(model: str) -> str:
    """The model that an adapter on disk, or an adapter of an adapter, ends at; any other model itself."""
    model = _expanded(model)
    base = base_of_adapter(model)
    return end_of_adapters(base) if base else model


def local_folder(model: str) -> Path:
    """Where a model would be if it were on this machine, with ``~`` and ``${VARIABLES}`` replaced.

    Raises FileNotFoundError for a variable that is not set, or a user who is not known.
    """
    return Path(_expanded(model))


def _expanded(model: str) -> str:
    try:
        return expanded(model)
    except PathError as error:
        raise FileNotFoundError(f"the model {model!r} cannot be found: {error}") from error


def model_folder(model: str, weights: bool = True) -> str:
    """The folder of a model on disk, or of one on the hub, which is downloaded into the hub's own cache.

    Without `weights`, only the configuration and tokenizer are downloaded. An adapter on disk is merged with the base model
    that it names, in the user's cache; without `weights`, the folder is its base's.

    A hub name may include a revision, as in ``Qwen/Qwen3-14B@main``. Raises FileNotFoundError if there is no such folder, and
    ModelError for an adapter without its base.
    """
    model = _expanded(model)
    folder = Path(model)
    if folder.is_dir():
        base = base_of_adapter(str(folder))
        if base is None:
            return str(folder)
        if weights:
            return find_model(model)[0]
        return _of_base(str(folder), base, lambda name: model_folder(name, weights=False))
    if folder.is_file():
        raise FileNotFoundError(f"the model {model!r} is a file: give the folder of a Hugging Face model")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name, _, revision = model.partition("@")
    try:
        # Some repositories also have weights in formats other than safetensors, which are not needed.
        skipped = ["original/*", "*.pth", "*.bin", "*.gguf", "*.onnx", *([] if weights else ["*.safetensors"])]
        return snapshot_download(name, revision=revision or None, ignore_patterns=skipped)
    except HFValidationError as error:
        starts = f" (relative paths start in {Path.cwd()}; in a recipe of your own, ./FOLDER is beside the recipe)"
        raise FileNotFoundError(
            f"the model {model!r} is neither a local folder{'' if folder.is_absolute() else starts} nor a name on the hub, such "
            "as Qwen/Qwen3-14B"
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise FileNotFoundError(
            f"the model {model!r} is neither a local folder nor available from the hub: {' '.join(str(error).split())} For gated "
            f"models, set HF_TOKEN; relative paths start in {Path.cwd()}; in a recipe of your own, ./FOLDER is beside the recipe"
        ) from error


def _of_base(adapter: str, base: str, find: Callable[[str], _T]) -> _T:
    """What `find` finds of an adapter's base model. Raises ModelError if there is none, or it is not available."""
    if not base:
        check_model_folder(adapter)
    try:
        return find(base)
    except FileNotFoundError as error:
        raise ModelError(
            f"{adapter} holds an adapter of {base}, which is not available ({error}): "
            f"correct base_model_name_or_path in its adapter_config.json, or merge the two and give the merged folder"
        ) from error
