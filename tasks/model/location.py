"""Where a model is (a folder on this machine, or a name on the hub), and what identifies it in keys."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data.files import hash_folder


@dataclass(frozen=True)
class Checkpoint:
    """A model that was not made by a stage. `content` identifies it in keys; `model` is its folder, or an endpoint's URL."""

    content: str
    model: str


def find_model(model: str) -> tuple[str, dict[str, str]]:
    """The folder of a base model, and what identifies it in a stage's key: its content, or its commit on the hub."""
    folder = model_folder(model)
    if Path(model).expanduser().is_dir():
        return folder, {"content": hash_folder(Path(folder))}
    return folder, {"hub": model.partition("@")[0], "commit": Path(folder).name}


def model_folder(model: str, weights: bool = True) -> str:
    """The folder of a model on disk, or of one on the hub, which is downloaded into the hub's own cache.

    Without `weights`, only the configuration and tokenizer are downloaded.

    A hub name may include a revision, as in ``Qwen/Qwen3-14B@main``. Raises FileNotFoundError if it is neither.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return str(folder)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name, _, revision = model.partition("@")
    try:
        # Some repositories also have weights in formats other than safetensors, which are not needed.
        skipped = ["original/*", "*.pth", "*.bin", "*.gguf", "*.onnx", *([] if weights else ["*.safetensors"])]
        return snapshot_download(name, revision=revision or None, ignore_patterns=skipped)
    except HFValidationError as error:
        raise FileNotFoundError(
            f"the model {model!r} is neither a local folder (relative paths start in {Path.cwd()}) nor a name on the hub, such "
            "as Qwen/Qwen3-14B"
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise FileNotFoundError(
            f"the model {model!r} is neither a local folder nor available from the hub: {' '.join(str(error).split())} For gated "
            f"models, set HF_TOKEN; relative paths start in {Path.cwd()}"
        ) from error
