"""What a run has dropped and why: by kind of stage and reason, over all rounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from tasks.run.stage import Run

_ROWS = {
    "data": "Data: rows read",
    "reviewed-data": "Reviews: rows of the data",
    "human-examples": "Human rationales",
    "batch": "Batches with earlier pairs",
    "label": "Labels: unlabeled pairs",
    "select": "Proofs: labeled pairs",
    "training-set": "Training sets: examples",
    "pretrain": "Pre-training: examples",
    "train-prover": "Training the prover: examples",
    "train-judge": "Training judges: examples",
    "benchmark": "Measuring: held-out pairs",
}
"""Whose rows are counted: not those of stages that generate, as the stages that read these account for them."""
_PARTS = {
    "label": ("Votes without a verdict", "malformed", "votes"),
    "select": ("Proof candidates", "rejected", "candidates"),
    "benchmark": ("Held-out judgments without a verdict", "malformed", "games"),
}
"""Of the same kinds of stages, parts of rows that were of no use: a title, and the two metrics that count them."""


@dataclass
class Loss:
    """Rows lost to each reason, of how many."""

    title: str
    of: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, of: int, reasons: Mapping[str, int]) -> None:
        self.of += of
        self.reasons.update(reasons)


def losses(run: Run) -> list[Loss]:
    """What has lost something, in the order of the method; the rounds are added up."""
    found = []
    for kind, title in _ROWS.items():
        stages = [a.manifest for a in run.finished_stages() if a.manifest.kind == kind]
        rows = Loss(title)
        for made in stages:
            rows.add(made.counts.rows_in, made.counts.dropped)
            rows.add(0, made.counts.failed)
        found.append(rows)
        if kind in _PARTS:
            name, lost, of = _PARTS[kind]
            parts = Loss(name)
            for made in stages:
                parts.add(made.metrics.get(of, 0), made.metrics.get(lost, {}))
            found.append(parts)
    return [loss for loss in found if loss.reasons]
