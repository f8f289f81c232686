"""A stage that writes a line, for tests of the store."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from data.files import write_json
from data.store.artifacts import Counts, Outcome, Stage
from data.store.worked import WORKED

STAGE = Stage("round-1/labels", "label", 1, {"votes": 8, "prompt": "compact"}, {"batch": "aa", "judge": "bb"}, round=1)


def writes(text: str) -> Callable[[Path], Outcome]:
    def body(work: Path) -> Outcome:
        (work / "labels.jsonl").write_text(text)
        return Outcome(Counts(3, 2, {"tie": 1}), {"balance": 0.5})

    return body


def began_earlier(work: Path, seconds: float) -> None:
    """As if the attempt at the stage in this folder had begun so many seconds ago, and noted nothing since."""
    noted = json.loads((work / WORKED).read_bytes())
    write_json(work / WORKED, {**noted, "started": noted["started"] - seconds})
    os.utime(work / WORKED, (0, 0))


def must_not_run(work: Path) -> Outcome:
    raise AssertionError(f"the body ran again in {work}")
