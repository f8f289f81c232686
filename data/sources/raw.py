"""A row as a file holds it, before anyone asks what it means, and the errors of reading one.

One row, as it is passed to a format of `data.sources.adapters`::

    RawRow(file="pairs.jsonl", number=1, value={"prompt": "Why is the sky blue?", "chosen": "…", "rejected": "…"})
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any


class SourceError(ValueError):
    """A source that cannot be read as configured. The message names the file, the row, the field, and what to do."""


class DataError(ValueError):
    """Data that the run cannot use. The message states what was found and what to change."""


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """Stands for an unreadable row in a file whose other rows may be fine."""

    problem: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for an unreadable value in a row: it makes the row malformed only where its column is read."""

    problem: str
    """What the value is, for "must be a string, got …"."""


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as read. `number` is 1-based: the line of a JSONL file, otherwise the position in the file."""

    file: str
    number: int
    value: object | BrokenRow

    @property
    def where(self) -> str:
        return f"{self.file}:{self.number}"


@dataclass(frozen=True, slots=True)
class RowBlock:
    """Consecutive rows of a file, read but not parsed: parsing them costs more than reading, and another process can do it.

    `parse` turns `content`, a list or a `data.sources.tables.Batch`, into the rows' values.
    """

    file: str
    numbers: Sequence[int]
    content: Any
    parse: Callable[[Any], Sequence[object]]

    def __len__(self) -> int:
        return len(self.numbers)

    def rows(self) -> Iterator[RawRow]:
        for number, value in zip(self.numbers, self.parse(self.content), strict=True):
            yield RawRow(self.file, number, value)

    def only(self, places: Sequence[int]) -> RowBlock:
        """The rows in these places of the block, from 0, in their order."""
        taken = [self.content[i] for i in places] if isinstance(self.content, list) else self.content.only(places)
        return replace(self, numbers=[self.numbers[i] for i in places], content=taken)
