"""What a benchmark has a judge compare: items of one prompt with several responses, and the comparisons between them.

One item of JudgeBench, whose only cell compares its two responses::

    Item(id="e302b0a0-…", group="knowledge", prompt=(Message("user", "A college student …"),),
         responses=("To determine if …", "To determine whether …"), right=(True, False), cells=(Cell("", 0, 1),))

A game is one cell shown in one of the benchmark's two orders, with one vote of the judge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from data.records import Message, RecordError, ResponsePair, content_id, parse_messages
from data.sources import rows
from data.sources.fields import Row, as_prompt, as_text, text_or_turns
from data.sources.rows import BrokenRow, RawRow, SourceError

CHOSEN_ORDERS = ("chosen_first", "rejected_first")
"""The orders of cells that compare a chosen response with a rejected one."""
AB_ORDERS = ("AB", "BA")
"""The orders of cells whose responses have their own positions: as published, and swapped."""

HUB = "hub:"
Notice = Callable[[Row, Collection[str]], None]
"""Called with each row of a benchmark's data and the names of the columns that were read from it."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Cell:
    """One comparison within an item. `first` and `second` are indices into its responses, as shown in the first order."""

    name: str
    first: int
    second: int


@dataclass(frozen=True, slots=True)
class Item:
    """One row of a benchmark. `right` states for each response whether it is correct (or chosen).

    `group` is the domain, category or subset that it is scored in. `better` has the known preferences among more than two
    responses, where these are not simply right or wrong, each as (better, worse).
    """

    id: str
    group: str
    prompt: tuple[Message, ...]
    responses: tuple[str, ...]
    right: tuple[bool, ...]
    cells: tuple[Cell, ...]
    better: tuple[tuple[int, int], ...] = ()

    def pair(self, cell: Cell, order: int = 0) -> ResponsePair:
        """A cell as a pair to be judged, shown in the first (0) or the second (1) order."""
        pair = ResponsePair(self.id, self.prompt, self.responses[cell.first], self.responses[cell.second])
        return pair.swapped() if order else pair

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Item:
        """The item from a row that `to_json` produced."""
        return cls(
            str(row["id"]),
            str(row["group"]),
            parse_messages(row["prompt"]),
            tuple(row["responses"]),
            tuple(row["right"]),
            tuple(Cell(*cell) for cell in row["cells"]),
            tuple((first, second) for first, second in row.get("better", ())),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "group": self.group,
            "prompt": [message.to_json() for message in self.prompt],
            "responses": list(self.responses),
            "right": list(self.right),
            "cells": [[cell.name, cell.first, cell.second] for cell in self.cells],
            **({"better": [list(edge) for edge in self.better]} if self.better else {}),
        }


@dataclass(frozen=True)
class Benchmark:
    """A benchmark as loaded. `groups` are those that its authors score, whether or not this data has all of them.

    `lacks` names parts of a group that are missing from this data; `dropped` counts the rows that were read but are not
    items, by reason. If the items were drawn (see `data.benchmarks.draw`), `drawn_from` has the number of all by group.
    """

    name: str
    orders: tuple[str, str]
    groups: tuple[str, ...]
    items: tuple[Item, ...]
    lacks: tuple[str, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    drawn_from: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def by_id(self) -> dict[str, Item]:
        return {item.id: item for item in self.items}

    @cached_property
    def digest(self) -> str:
        """Identifies the benchmark's content, in the key of a stage that plays it."""
        return content_id(self.name, self.orders, [item.to_json() for item in self.items])

    def __post_init__(self) -> None:
        if not self.items:
            raise SourceError(f"{self.name}: no items were found in the data")
        ids = Counter(item.id for item in self.items)
        [(most, times)] = ids.most_common(1)
        if times > 1:
            raise SourceError(f"{self.name}: {times} items have the id {most!r}; was a file given twice?")


# ---- reading ----------------------------------------------------------------------------------------------------------


def files_of(data: str, what: str, names: Sequence[str] = ()) -> list[Path]:
    """The file `data`, or the files in the folder `data` that have one of these names (all files if no names are given).

    Raises SourceError if there are none.
    """
    path = Path(rows.expand_path(data))
    if not path.is_dir():
        return [Path(file) for file in rows.local_files(str(path))]
    found = [path / name for name in names if (path / name).is_file()]
    if names and not found:
        raise SourceError(f"{data}: the folder contains none of {what}'s files, which are {', '.join(names)}")
    return found or [Path(file) for file in rows.local_files(str(path))]


class _Noting(Mapping[str, Any]):
    """A row that keeps the names of the columns whose values were taken from it."""

    def __init__(self, row: Row) -> None:
        self._row = row
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        value = self._row[name]
        self.read.add(name)
        return value

    def __contains__(self, name: object) -> bool:
        return name in self._row

    def __iter__(self) -> Iterator[str]:
        return iter(self._row)

    def __len__(self) -> int:
        return len(self._row)


def read_items(
    raw_rows: Iterator[RawRow], read: Callable[[Row, int], _T], notice: Notice | None = None
) -> Iterator[_T]:
    """What `read` returns for each row and its 0-based number. Raises a SourceError that names file, row and field.

    `notice` is called with each row and the columns that `read` has read from it.
    """
    for raw in raw_rows:
        try:
            if isinstance(raw.value, BrokenRow):
                raise RecordError("", raw.value.problem)
            if not isinstance(raw.value, Mapping):
                raise RecordError("", f"the row must be an object with columns, got {type(raw.value).__name__}")
            row = _Noting(raw.value)
            item = read(row, raw.number - 1)
            if notice is not None:
                notice(raw.value, row.read)
            yield item
        except RecordError as error:
            problem = str(error) if error.field else error.problem
            raise SourceError(f"{raw.file}, row {raw.number}: {problem}") from error


def prompt_of(value: object, field: str) -> tuple[Message, ...]:
    """A prompt from a string or messages. Raises RecordError if there is nothing to answer."""
    prompt = as_prompt(text_or_turns(value, field), field)
    if not prompt:
        raise RecordError(field, "is empty")
    return prompt


def texts_of(value: object, field: str) -> tuple[str, ...]:
    """A non-empty list of strings. Raises RecordError for anything else."""
    if not isinstance(value, list) or not value:
        raise RecordError(field, f"must be a non-empty list of strings, got {type(value).__name__}")
    return tuple(as_text(item, f"{field}[{i}]") for i, item in enumerate(value))


def round_robin(n: int) -> tuple[Cell, ...]:
    """All comparisons among n responses, "i-j" with i < j."""
    return tuple(Cell(f"{i}-{j}", i, j) for i in range(n) for j in range(i + 1, n))
