"""Run folders as they are on disk, with only what is read of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

NOW = 1_800_000_000.0


def stage(name: str, kind: str, round: int | None = None, **metrics: Any) -> dict[str, Any]:
    return {"name": name, "stage": kind, "round": round, "seconds": 12.0, "rows_in": 160, "kept": 150, **metrics}


STAGES = [
    stage("data", "data"),
    stage("round-0/proofs", "prove", 0),
    stage("round-0/benchmark", "benchmark", 0, accuracy=0.769),
    stage("round-1/benchmark", "benchmark", 1, accuracy=0.936),
    stage("round-1/benchmark-ppe", "benchmark-ppe", 1, accuracy=0.5),
]


def make_run(folder: Path, *stages: dict[str, Any], hours_ago: float = 0.0) -> Path:
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in stages))
    os.utime(folder / "metrics.jsonl", (NOW - 3600 * hours_ago,) * 2)
    return folder
