"""The short self-training that several slow tests run: the small world, small sizes, a round and a final fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data.world.__main__ import main as write_world

_SHORT = {
    "rounds.count": 1,
    "rounds.pairs": 40,
    "labels.votes": 4,
    "labels.min_confidence": 0.5,
    "labels.orders_agree": False,
    "proofs.k": 2,
    "training.prover": {"learning_rate": 3e-4, "max_steps": 10, "batch_size": 12},
    "training.first_judge": {"learning_rate": 1e-3, "max_steps": 30, "batch_size": 16},
    "training.judge": {"learning_rate": 1e-3, "max_steps": 30, "batch_size": 16},
    "training.final": {"learning_rate": 1e-4, "max_steps": 5, "batch_size": 12},
    "generation.shard_rows": 20,
}


def short_run(world: Path) -> dict[str, Any]:
    """The overrides that make the deployment self-train/demo this run; its data is written to the folder `world`."""
    if not world.exists():
        write_world(["--out", str(world), "--seed", "7", "--unlabeled", "60", "--heldout", "30"])
    kinds = ("rationale", "labeled", "unlabeled", "heldout")
    return {**_SHORT, **{f"data.{kind}": [{"path": f"{world}/{kind}.jsonl"}] for kind in kinds}}
