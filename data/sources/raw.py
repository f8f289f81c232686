"""A row as a file holds it, before anyone asks what it means, and the errors of reading one.

One row, as it is passed to a format of `data.sources.adapters`::

    RawRow(file="pairs.jsonl", number=1, value={"prompt": "Why is the sky blue?", "chosen": "…", "rejected": "…"})
"""

from __future__ import annotations

from dataclasses import dataclass


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
