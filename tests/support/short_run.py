"""Short runs of the flows for slow tests: the small world, small sizes; self-training has a round and a final fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data.world.splits import SIZES, write_splits

FIXED_THRESHOLD = {
    "data.calibration": [],
    "labels.target_precision": None,
    "labels.min_confidence": 0.75,
    "proofs.audit_pairs": 0,
    "rounds.gate": "off",
}
"""What makes the recipe demo self-training alone: no promised precision, no audit of proofs, no gate."""
_SHORT = {
    **FIXED_THRESHOLD,
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


_GRAM = {
    "training.pretraining": {"learning_rate": 3e-4, "max_steps": 3, "batch_size": 8},
    "training.fine_tuning": {"learning_rate": 1e-3, "max_steps": 5, "batch_size": 8},
    "generation.shard_rows": 20,
}
_ADAPT = {
    "task.sizes": [8],
    "training.optimization": {
        "learning_rate": 3e-4, "max_steps": 6, "batch_size": 8, "early_stopping": {"every": 2, "patience": 1},
    },
    "generation.shard_rows": 20,
}  # fmt: skip
_BASELINES = {
    **{name: value for name, value in _SHORT.items() if name != "training.final"},
    "labels.votes": 2,
    "training.prover": {"learning_rate": 3e-4, "max_steps": 3, "batch_size": 8},
    "training.first_judge": {"learning_rate": 1e-3, "max_steps": 3, "batch_size": 8},
    "baselines.discriminative": {"learning_rate": 1e-3, "max_steps": 3, "batch_size": 8},
    "baselines.label_only": {"learning_rate": 3e-4, "max_steps": 3, "batch_size": 8},
    "baselines.gram": {"learning_rate": 1e-3, "max_steps": 3, "batch_size": 8},
    "baselines.gram_pretraining": {"learning_rate": 3e-4, "max_steps": 2, "batch_size": 8},
}


def short_run(world: Path) -> dict[str, Any]:
    """The overrides that make the deployment self-train/demo this run; its data is written to the folder `world`."""
    return {**_SHORT, **{f"data.{kind}": source for kind, source in _sources(world).items()}}


def _sources(world: Path, seed: int = 7) -> dict[str, list[dict[str, str]]]:
    """The sources of each kind in a draw of the world, which is made where it is not there."""
    if not (world / "heldout.jsonl").exists():
        write_splits(world, seed, {**SIZES, "unlabeled": 60, "heldout": 30})
    kinds = ("rationale", "labeled", "unlabeled", "heldout")
    return {kind: [{"path": f"{world}/{kind}.jsonl"}] for kind in kinds}


def short_gram(world: Path) -> dict[str, Any]:
    """The overrides of gram/demo, on the same data as the short run."""
    sources = {kind: source[0]["path"] for kind, source in _sources(world).items()}
    return {
        **_GRAM,
        "data.labeled": [{"path": sources["labeled"]}, {"path": sources["rationale"]}],
        "data.pretraining": [{"path": sources["unlabeled"]}],
        "data.heldout": [{"path": sources["heldout"]}],
    }


def short_adapt(world: Path, judge: Path) -> dict[str, Any]:
    """The overrides of adapt/demo: this judge, on other pairs of the world than it has seen."""
    task = _sources(world / "task", seed=8)
    return {
        **_ADAPT,
        "judge.path": str(judge),
        "task.pairs": task["labeled"],
        "task.heldout": task["heldout"],
        "benchmarks.sets": [],
    }


def short_baselines(world: Path, seeds: tuple[int, ...]) -> dict[str, Any]:
    """The overrides of baselines/world, with data of its own for each seed."""
    for seed in seeds:
        _sources(world / f"seed-{seed}", seed)
    kinds = ("rationale", "labeled", "unlabeled", "heldout")
    data = {f"data.{kind}": [{"path": f"{world}/seed-{{seed}}/{kind}.jsonl"}] for kind in kinds}
    return {**_BASELINES, "seeds": list(seeds), **data}
