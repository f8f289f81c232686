"""A stage that writes a line, for tests of the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from data.store.artifacts import Counts, Outcome, Stage

STAGE = Stage("round-1/labels", "label", 1, {"votes": 8, "prompt": "compact"}, {"batch": "aa", "judge": "bb"}, round=1)


def writes(text: str) -> Callable[[Path], Outcome]:
    def body(work: Path) -> Outcome:
        (work / "labels.jsonl").write_text(text)
        return Outcome(Counts(3, 2, {"tie": 1}), {"balance": 0.5})

    return body


def must_not_run(work: Path) -> Outcome:
    raise AssertionError(f"the body ran again in {work}")
