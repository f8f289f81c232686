"""Rows of a known data set, and what is read of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data.sources.sources import Source, read_source
from tests.support.data_sets import ROWS

each_set = pytest.mark.parametrize("name", ROWS)


def read(folder: Path, name: str, kind: str, rows: list[Any] | None = None, seed: int = 0, **config: Any) -> list[Any]:
    path = folder / "copy.jsonl"
    given = ROWS[name] if rows is None else rows  # type: ignore[index]
    path.write_text("".join(json.dumps(row) + "\n" for row in given))
    source = Source(dataset=name, path=str(path), **config)  # type: ignore[arg-type]
    return list(read_source(source, kind, seed))  # type: ignore[call-overload]
