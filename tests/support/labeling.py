"""Labels of a batch of the small world by a judge of the test's choice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data.world import taste
from tasks.label import cast_votes, keep_labels
from tasks.model.chat import ChatEncoder
from tests.conftest import artifact, run_with

PAIRS = taste.draw_pairs(12, 0)


def labels_of(folder: Path, encoder: ChatEncoder, engine: Any, pairs: Any = PAIRS, **settings: Any) -> Any:
    """(labels, run) of a batch of these pairs by this judge."""
    run = run_with(
        folder,
        encoder,
        engine,
        labels={"max_tokens": 64, "voting": "all", **settings},
        generation={"max_failed_share": 0.5},
    )
    judge = artifact(run, "judge", {"checkpoint/weights.jsonl": []})
    batch = artifact(run, "data", {"batch-1.jsonl": [p.pair.to_json() for p in pairs]}).ref("batch-1.jsonl")
    return keep_labels(run, 1, cast_votes(run, 1, judge, batch), batch), run
