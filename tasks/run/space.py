"""Whether the disk has room for what a stage is about to write, before GPU hours are spent on it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from data.store.artifacts import StageError
from tasks.model.folder import linear_size, shapes_of, weight_files
from tasks.settings import Optimization

_GIB = 1 << 30
BYTES_A_TOKEN = 4
ENCODED_BYTES_A_TOKEN = 8
"""Of an example in a training's cache: its id and its label, 4 bytes each."""
_TEXT_BYTES_A_TOKEN = 3
"""Fewer than in most languages, as the prompt around an example is not in its file."""
_FP32 = 4
_CHECKPOINTS = 3
"""At the same time: two are kept, and the older one is deleted when the newest is complete."""


def check_room(work: Path, what: str, forecast_bytes: float, reserve_gib: float) -> None:
    """Raises StageError if the disk of a stage's folder has no room for the rest of this forecast plus the reserve."""
    there = sum(file.stat().st_size for file in work.rglob("*") if file.is_file())  # of an earlier attempt
    forecast_bytes = max(0.0, forecast_bytes - there)
    free = shutil.disk_usage(work).free
    if forecast_bytes + reserve_gib * _GIB > free:
        raise StageError(
            f"{what} may write {forecast_bytes / _GIB:.1f} GiB, but the disk of {work} has {free / _GIB:.1f} GiB free, of "
            f"which retention.reserve_gib = {reserve_gib:g} must stay free: free up space, or have old judges and "
            'completions deleted (retention.judges = "last_and_best", retention.completions = "last_round")'
        )


def generation_bytes(params: Mapping[str, Any], n_rows: int) -> float:
    """The bytes of a stage's completions if they are half as long as allowed."""
    orders = 1 if params.get("orders") == "one" else 2
    completions = int(params["votes"]) if "votes" in params else orders * int(params.get("k", 1))
    return n_rows * completions * int(params.get("max_tokens", 0)) / 2 * BYTES_A_TOKEN


def encoding_bytes(sets: Iterable[Path], cache: Path | None, packed: bool) -> float:
    """The bytes that encoded examples will take besides those in the run's cache, if it has one; packing copies them."""
    whole = sum(file.stat().st_size for file in sets) / _TEXT_BYTES_A_TOKEN * ENCODED_BYTES_A_TOKEN
    there = sum(file.stat().st_size for file in cache.glob("*.arrow")) if cache else 0
    return max(0.0, whole - there) + (whole if packed else 0.0)


def training_bytes(base: Path, optimization: Optimization, trained: float = 1.0) -> float:
    """The bytes that a training writes: the final checkpoint with its adapter, if any, and the checkpoints for resuming."""
    weights = sum(file.stat().st_size for file in base.glob("*.safetensors"))
    there = (file for file in weight_files(base) if file.is_file())
    linear = linear_size(shapes_of(there)) if optimization.lora is not None else 0
    return weights + adapter_bytes(linear, optimization) + checkpoint_bytes(weights, linear, optimization, trained)


def adapter_bytes(linear: float, optimization: Optimization) -> float:
    """The bytes of an adapter in fp32; `linear` is the number of its parameters by rank (see `linear_size`)."""
    return 0.0 if optimization.lora is None else _FP32 * optimization.lora.r * linear


def checkpoint_bytes(weights: float, linear: float, optimization: Optimization, trained: float = 1.0) -> float:
    """The bytes of the checkpoints for resuming a training; `weights` are the bytes of its base in a 16-bit format.

    They have all weights in fp32, with AdamW's two moments for each of the `trained` share, by however many processes; or
    only the adapter, with its moments.
    """
    if optimization.lora is not None:
        return _CHECKPOINTS * 3 * adapter_bytes(linear, optimization)
    return _CHECKPOINTS * (1 + 2 * trained) * 2 * weights
