"""Pairs of a task, and the settings of adapting."""

from __future__ import annotations

from typing import Any

from data.world import taste
from tasks.settings import TaskSettings


def task(**changes: Any) -> TaskSettings:
    """Three sizes of the world's pairs, which all ask the same question."""
    values = {"pairs": [{"path": "pairs.jsonl"}], "sizes": [3, 6, 9], "validation_share": 0.3, "overlap": "pair"}
    return TaskSettings.model_validate({**values, **changes})


def pairs(n: int, seed: int = 31) -> list[dict[str, Any]]:
    return [pair.to_json() for pair in taste.draw_pairs(n, seed)]
