"""What is wrong with a model, from its folder's small files and the headers of its weights, or from its endpoint's first answer.

Nothing is loaded.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tasks.model.endpoint import KEY_VARIABLE

ADAPTER = "adapter_config.json"
_INDEX = "model.safetensors.index.json"
_POINTER = b"version https://git-lfs.github.com/spec/"
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
_POSITIONS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
_SCALED_ALREADY = ("su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling")
"""Kinds of RoPE scaling that the number of positions in config.json includes, as vLLM reads it."""


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that transformers and vLLM load, as named by the index if there is one.

    Repositories also hold other copies, such as ``consolidated.safetensors``, and adapters.
    """
    index = folder / _INDEX
    if index.is_file():
        named = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        return [folder / name for name in sorted(set(named))]
    single = folder / "model.safetensors"
    return [single] if single.exists() else []


def problems_in(folder: Path, weights: bool = True, remote_code: bool = False) -> Iterator[str]:
    """What keeps a model in a folder from being used. Without `weights`, they are not looked for."""
    if not (folder / "config.json").is_file():
        yield _no_config(folder)
        return
    if _json(folder / "config.json") is None:
        yield f"{folder / 'config.json'} is no JSON object; copy the model again"
        return
    if not remote_code and not any((folder / name).is_file() for name in _TOKENIZERS):
        yield f"{folder} has no tokenizer (one of {', '.join(_TOKENIZERS)}): copy it from the model's repository"
    small = [folder / name for name in _TOKENIZERS if (folder / name).is_file()]
    yield from (problem for file in small if (problem := _not_downloaded(file)))
    if weights:
        yield from weight_problems(folder)


def weight_problems(folder: Path) -> Iterator[str]:
    """What is wrong with a model's weights: missing, empty, cut off, or Git LFS pointers."""
    try:
        files = weight_files(folder)
    except (ValueError, KeyError, AttributeError):
        yield f"{folder / _INDEX} is no index of weights; copy the model again"
        return
    if not files and not any(folder.glob("pytorch_model*.bin")):
        yield f"{folder} has no weights (model.safetensors, or the files of {_INDEX})"
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        yield f"{folder} lacks {len(missing)} of the {len(files)} files of its weights, such as {missing[0]}"
    yield from (problem for file in files if file.is_file() and (problem := _broken(file)))


def positions(folder: Path) -> tuple[str, int] | None:
    """The longest sequence that a model can read, as vLLM derives it, and the key in config.json that says so."""
    config = _json(folder / "config.json") or {}
    text = config.get("text_config") or config
    given = {name: text[name] for name in _POSITIONS if isinstance(text.get(name), int)}
    if isinstance(text.get("model_max_length"), int):
        given = {"model_max_length": text["model_max_length"]}
    if not given:
        return None
    key = min(given, key=lambda name: given[name])
    return key, int(given[key] * _rope_factor(text))


def _rope_factor(config: Mapping[str, Any]) -> float:
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type"))
    if kind in _SCALED_ALREADY or "gemma3" in str(config.get("model_type")):
        return 1.0
    return float(rope.get("factor") or 1.0)


def _no_config(folder: Path) -> str:
    adapter = _json(folder / ADAPTER)
    if adapter is not None:
        base = adapter.get("base_model_name_or_path") or "its base model"
        return f"{folder} holds an adapter of {base}, not a whole model: merge it into its base first (peft: merge_and_unload)"
    return f"{folder} has no config.json: it is no model's folder"


def _json(file: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _not_downloaded(file: Path) -> str | None:
    with file.open("rb") as stream:
        head = stream.read(len(_POINTER))
    if head == _POINTER:
        return f"{file} is a Git LFS pointer, not the file itself: run `git lfs pull` in its folder"
    return None if head else f"{file} is empty: copy it again"


def _broken(file: Path) -> str | None:
    """What is wrong with a safetensors file: its header must fit its size."""
    if problem := _not_downloaded(file):
        return problem
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np"):
            return None
    except (SafetensorError, OSError) as error:
        return f"{file} is no whole safetensors file ({error}): copy it again"


def endpoint_problem(judge: str, timeout_s: float = 20.0) -> str | None:
    """What keeps an endpoint, URL#MODEL, from being used, in its own words; None if nothing does."""
    from openai import APIConnectionError, APIStatusError, OpenAI

    url = judge.partition("#")[0]
    try:
        client = OpenAI(base_url=url, api_key=os.environ.get(KEY_VARIABLE) or "none", timeout=timeout_s, max_retries=1)
        client.models.list()
    except APIConnectionError as error:
        return f"nothing answers at {url} ({error.__cause__ or error}): start the server, or correct the address"
    except APIStatusError as error:
        if error.status_code in (401, 403):
            return f"{url} refuses the key in {KEY_VARIABLE} ({error.message})"
        # Some servers list no models; but most of those that have no such page were given without the version.
        if error.status_code == 404 and not url.rstrip("/").endswith("/v1"):
            return f"{url} is no OpenAI-compatible address ({error.message}): it usually ends in /v1"
    return None
