"""The command `describe` on rows that a test writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tasks.describe.command import main

Rows = Sequence[object]


def write(path: Path, rows: Rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


class Describe:
    """Runs the command in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: str, code: int = 0) -> str:
        assert main(arguments) == code
        out, err = self.capsys.readouterr()
        said = any(text in out for text in ("No known format", "Several formats", "A run would stop"))
        assert bool(err) == bool(code and not said)
        return str(err or out)


def own(n: int, label: str | None = "A", **changes: Any) -> dict[str, Any]:
    row = {"prompt": f"Question {n}?", "response_a": f"good {n}", "response_b": f"bad {n}", **changes}
    return row if label is None else {**row, "label": label}
