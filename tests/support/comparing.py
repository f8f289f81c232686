"""Methods whose costs a test writes."""

from __future__ import annotations

from typing import Any

from tasks.baselines import per_cost


def row(method: str, accuracy: float, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "method": method, "accuracy": accuracy, "interval": [accuracy - 0.05, accuracy + 0.05], "tokens_trained": 1000,
        "tokens_generated": 0, "seconds": 60.0, "tokens_a_judgment": 1.0, "warnings": [], "sets": {"own": 0.5, "part": None},
        "pretrained": False,
    }  # fmt: skip
    values |= changes
    return {**values, **per_cost(values)}
