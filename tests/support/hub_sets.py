"""Data sets of the hub whose rows are the test's: what is asked of the hub is seen, and nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import pyarrow
import pytest

Asked = tuple[str, str | None, str]
"""A data set's name, subset and split."""
Rows = Sequence[dict[str, Any]]


@dataclass
class _Streamed:
    rows: Rows

    def with_format(self, name: str) -> _Streamed:
        assert name == "arrow"
        return self

    def iter(self, batch_size: int) -> Iterator[pyarrow.Table]:
        yield pyarrow.Table.from_pylist(list(self.rows))


def stand_in_sets(monkeypatch: pytest.MonkeyPatch, rows: Callable[[str | None, str], Rows]) -> list[Asked]:
    """Gives every hub data set these rows of a subset and a split; the list returned has what is asked for."""
    asked: list[Asked] = []

    def load_dataset(name: str, subset: str | None, *, split: str, **_: Any) -> _Streamed:
        asked.append((name, subset, split))
        return _Streamed(rows(subset, split))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked
