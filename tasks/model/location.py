"""Where a model is (a folder on this machine, or a name on the hub), and what identifies it in keys."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data.files import hash_folder
from data.paths import PathError, expanded
from tasks.model.folder import ModelError, base_of_adapter, check_model_folder
from tasks.model.merging import merged_folder


@dataclass(frozen=True)
class Checkpoint:
    """A model that was not made by a stage. `content` identifies it in keys; `model` is its folder, or an endpoint's URL."""

    content: str
    model: str


def find_model(model: str) -> tuple[str, dict[str, str]]:
    """The folder of a base model, and what identifies it in a stage's key: its content, or its commit on the hub."""
    folder, named = model_folder(model), local_folder(model)
    if base_of_adapter(str(named)) is not None:
        return folder, {"content": Path(folder).name}
    if named.is_dir():
        return folder, {"content": hash_folder(Path(folder))}
    return folder, {"hub": _expanded(model).partition("@")[0], "commit": Path(folder).name}


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
        return str(folder) if base is None else _whole_model(str(folder), base, weights)
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
        raise FileNotFoundError(
            f"the model {model!r} is neither a local folder (relative paths start in {Path.cwd()}; in a recipe of your "
            "own, ./FOLDER is beside the recipe) nor a name on the hub, such as Qwen/Qwen3-14B"
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise FileNotFoundError(
            f"the model {model!r} is neither a local folder nor available from the hub: {' '.join(str(error).split())} For gated "
            f"models, set HF_TOKEN; relative paths start in {Path.cwd()}; in a recipe of your own, ./FOLDER is beside the recipe"
        ) from error


def _whole_model(adapter: str, base: str, weights: bool) -> str:
    """The folder of an adapter's base model or, with `weights`, of both merged."""
    if not base:
        check_model_folder(adapter)
    try:
        folder, known = find_model(base) if weights else (model_folder(base, weights=False), {})
    except FileNotFoundError as error:
        raise ModelError(
            f"{adapter} holds an adapter of {base}, which is not available ({error}): "
            f"correct base_model_name_or_path in its adapter_config.json, or merge the two and give the merged folder"
        ) from error
    return merged_folder(adapter, folder, known) if weights else folder
