"""What a model's folder must hold before anything is started with it, read from its files alone: no torch, no weights loaded."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data.files import is_lfs_pointer
from data.sources.fields import got

ADAPTER = "adapter_config.json"
_ALLOWED_LONGER = "VLLM_ALLOW_LONG_MAX_MODEL_LEN"
_INDEX = "model.safetensors.index.json"
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tiktoken.model", "tekken.json")
_POSITIONS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
_ALREADY_SCALED = ("default", "su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling")
"""Ways to scale rotary positions for which config.json states the scaled number, as vLLM reads it, not one to be multiplied."""


class ModelError(ValueError):
    """A model that cannot be used: what is wrong with its folder, and what to do."""


def check_model_folder(folder: str, context: int | None = None, weights: bool = True) -> None:
    """Raises ModelError for a folder that no engine or training can load, or whose model has fewer positions than `context`.

    Looks for config.json, the tokenizer and, with `weights`, every weight file in full length: Git LFS pointers, empty
    files, and downloads that were broken off are named. Without `weights`, only the other files have to be there.
    """
    place = Path(folder)
    base = base_of_adapter(folder)
    if base is not None:
        raise ModelError(
            f"{folder} holds an adapter of {base or 'a base model that it does not name'}, not a whole model: merge the two "
            "(peft: merge_and_unload, then save_pretrained together with the tokenizer) and give the merged folder, or give "
            "the base model"
        )
    config = read_config(folder)
    _check_files(place, [name for name in _TOKENIZERS if (place / name).is_file()], "tokenizer")
    if not any((place / name).is_file() for name in _TOKENIZERS) and "auto_map" not in config:
        raise ModelError(
            f"{folder} has no tokenizer (tokenizer.json): copy the tokenizer files of its base model there"
        )
    if weights:
        _check_weights(place)
    if context is not None:
        check_context(folder, context)


def check_context(folder: str, context: int) -> None:
    """Raises ModelError if a model has fewer positions than `context`: longer prompts would fail, or give nonsense."""
    positions = longest_context(folder)
    if positions is not None and context > positions:
        raise ModelError(
            f"a context of {context} tokens is more than the {positions} positions of the model in {folder} (its "
            f"config.json): set the context to at most {positions}, or use a model with a longer one"
        )


def longest_context(folder: str) -> int | None:
    """As `positions_of`; None also if the user has allowed longer contexts by vLLM's own switch."""
    return None if os.environ.get(_ALLOWED_LONGER) == "1" else positions_of(folder)


def positions_of(folder: str) -> int | None:
    """The longest context of a model, in tokens, as vLLM derives it from config.json; None if the file does not state it."""
    config = read_config(folder)
    text = config.get("text_config")
    text = {**config, **text} if isinstance(text, Mapping) else config
    known = [int(text[name]) for name in _POSITIONS if isinstance(text.get(name), int)]
    allowed = text.get("model_max_length")
    longest = int(allowed) if isinstance(allowed, int) else 0
    if not known:
        return longest or None
    factors = [] if "gemma3" in str(config.get("model_type")) else list(_rope_factors(text))
    return max(int(min(known) * (factors[-1] if factors else 1)), longest)


def layers_of(folder: str) -> int | None:
    """The number of a model's layers; None if config.json does not state it."""
    config = read_config(folder)
    text = config.get("text_config")
    stated = (text if isinstance(text, Mapping) else config).get("num_hidden_layers")
    return stated if isinstance(stated, int) else None


def trained_share(folder: str, trainable_layers: int | None) -> float:
    """The share of a model's layers that is trained; all of them if that or their number is not given."""
    layers = layers_of(folder)
    return 1.0 if trainable_layers is None or layers is None else min(1.0, trainable_layers / layers)


def _rope_factors(config: Mapping[str, Any]) -> Iterator[float]:
    for name in ("rope_parameters", "rope_scaling"):
        found = config.get(name)
        if not isinstance(found, Mapping):
            continue
        # One set for all layers, or one for each type of layer.
        for one in (found, *found.values()):
            kind = (one.get("rope_type") or one.get("type")) if isinstance(one, Mapping) else None
            if kind and kind not in _ALREADY_SCALED and one.get("factor"):
                yield float(one["factor"])


def read_config(folder: str) -> dict[str, Any]:
    """The content of config.json. Raises ModelError if there is none, or it is no JSON object."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise ModelError(
            f"{folder} has no config.json: give the folder of a Hugging Face model, with config and weights"
        )
    _check_files(path.parent, [path.name], "config")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is not JSON ({error}): restore the file") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path} must be a JSON object, got {got(config)}: restore the file")
    return config


def base_of_adapter(folder: str) -> str | None:
    """The base model that an adapter's folder names ("" if it names none); None for a folder with a whole model."""
    place = Path(folder)
    if not (place / ADAPTER).is_file() or (place / "config.json").is_file():
        return None
    try:
        found = json.loads((place / ADAPTER).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{place / ADAPTER} is not JSON ({error}): restore the file") from error
    return str(found.get("base_model_name_or_path") or "") if isinstance(found, dict) else ""


def weight_files(place: Path) -> list[Path]:
    """The safetensors files that are loaded: those of the index, else ``model.safetensors``, else all; none if there are none.

    Repositories also have other copies, such as ``consolidated.safetensors``. Raises ModelError for a broken index.
    """
    if (place / _INDEX).is_file():
        _check_files(place, [_INDEX], "index of the weights")
        try:
            listed = set(json.loads((place / _INDEX).read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{place / _INDEX} is not an index of weights: copy or download it again") from error
        return [place / name for name in sorted(listed)]
    single = place / "model.safetensors"
    return (
        [single]
        if single.exists()
        else sorted(f for f in place.glob("*.safetensors") if not f.name.startswith("adapter_"))
    )


def _check_weights(place: Path) -> None:
    files = weight_files(place)
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ModelError(
            f"{place} lacks {len(missing)} of the {len(files)} weight files that {_INDEX} lists ({missing[0]}, …): "
            "finish the download"
        )
    names = [file.name for file in files]
    if not names:
        names = sorted(file.name for file in place.glob("pytorch_model*.bin"))
    if not names:
        raise ModelError(f"{place} has no weights (*.safetensors): give the folder of a whole model")
    _check_files(place, names, "weights")
    for name in names:
        if name.endswith(".safetensors"):
            _check_length(place / name)


def _check_files(place: Path, names: list[str], what: str) -> None:
    """Raises ModelError for a file that is empty, or that Git LFS has not fetched."""
    for name in names:
        size = (place / name).stat().st_size
        if size == 0:
            raise ModelError(f"{place / name} ({what}) is empty: copy or download it again")
        if is_lfs_pointer(place / name):
            raise ModelError(
                f"{place / name} ({what}) is a Git LFS pointer, not the file itself: run `git lfs pull` in that folder"
            )


def _check_length(file: Path) -> None:
    """Raises ModelError for a safetensors file shorter than its header says."""
    size, (_, whole) = file.stat().st_size, _tensors(file)
    if size < whole:
        raise ModelError(f"{file} is cut off at {size} of {whole} bytes: copy or download it again")


def _tensors(file: Path) -> tuple[dict[str, list[int]], int]:
    """The shape of each tensor of a safetensors file, and the bytes that the file must have.

    Raises ModelError for a broken header: 8 bytes of length, then JSON.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        try:
            header = json.loads(stream.read(length) if length < size else b"")
            tensors = {name: facts for name, facts in header.items() if name != "__metadata__"}
            end = max((facts["data_offsets"][1] for facts in tensors.values()), default=0)
            return {name: facts["shape"] for name, facts in tensors.items()}, 8 + length + end
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise ModelError(f"{file} is not a safetensors file, or is damaged: copy or download it again") from error


# ---- shapes -------------------------------------------------------------------------------------------------------------


def shapes_of(files: Iterable[Path]) -> dict[str, list[int]]:
    """Tensor → shape of a model's safetensors files. Raises ModelError for one whose header is broken."""
    return {name: shape for file in files for name, shape in _tensors(file)[0].items()}


def linear_size(shapes: Mapping[str, Sequence[int]]) -> int:
    """Σ (inputs + outputs) over the linear layers except the head: LoRA of rank r on them has r times as many parameters."""
    return sum(sum(shape) for name, shape in shapes.items() if len(shape) == 2 and not is_head(name))


def is_head(name: str) -> bool:
    """Whether a layer turns tokens into vectors, or vectors into what the model outputs."""
    return "embed" in name or "lm_head" in name or name.startswith("score")
