"""``gram-r2 describe`` on rows that a test writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.commands import gram_r2

Rows = Sequence[object]


def write(path: Path, rows: Rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def describe(*arguments: str, code: int = 0) -> str:
    """What ``gram-r2 describe`` says: on stderr where it only refuses, else on stdout."""
    done = gram_r2("describe", *arguments)
    assert done.code == code, done.out + done.err
    said = any(text in done.out for text in ("No known format", "Several formats", "A run would stop"))
    assert bool(done.err) == bool(code and not said)
    return str(done.err or done.out)


def own(n: int, label: str | None = "A", **changes: Any) -> dict[str, Any]:
    row = {"prompt": f"Question {n}?", "response_a": f"good {n}", "response_b": f"bad {n}", **changes}
    return row if label is None else {**row, "label": label}


MIXED = [
    own(0),
    own(1, "B"),
    own(1, "B", id="again"),
    own(0, "B", response_a="bad 0", response_b="good 0"),  # the same pair and label, shown the other way round
    own(1, "A"),  # the other label
    own(2, None),
    own(3, response_b=" "),
    own(4, "neither"),
    "no row",
    own(5, rationale="Feedback:\nOne.\n\nComparision:\nTwo.\n\nConclusion:\nResponse A is better."),
    own(6, rationale="It is the better one."),
]
