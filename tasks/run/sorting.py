"""Rows that a stage keeps or drops, block by block: the lines of its two files, and how many rows went where."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from data.files import json_line
from data.store.artifacts import Counts
from tasks.model.malformed import UselessReplies


@dataclass
class SortedRows:
    """The rows of one block, or the numbers of all of them.

    `useless` are replies that were of no use, whatever the row; `tallies` are what else a stage counts, by name and value.
    """

    kept_lines: list[bytes] = field(default_factory=list)
    dropped_lines: list[bytes] = field(default_factory=list)
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    useless: UselessReplies = field(default_factory=UselessReplies)
    tallies: defaultdict[str, Counter[Any]] = field(default_factory=lambda: defaultdict(Counter))

    def keep(self, row: Mapping[str, Any]) -> None:
        self.kept += 1
        self.kept_lines.append(json_line(row).encode())

    def drop(self, row: Mapping[str, Any], reason: str, **facts: object) -> None:
        self.dropped[reason] += 1
        self.dropped_lines.append(json_line({**row, "reason": reason, **facts}).encode())

    def leave_out(self, row: Mapping[str, Any], line: Mapping[str, Any]) -> None:
        """A row for which nothing was generated: dropped or failed, for the reason in the generation's line."""
        reason = line.get("dropped") or line["failed"]
        (self.dropped if "dropped" in line else self.failed)[reason] += 1
        self.dropped_lines.append(json_line({**row, "reason": reason}).encode())

    def include(self, other: SortedRows) -> None:
        """Adds the numbers of the rows that follow; their lines are not held."""
        self.kept += other.kept
        self.dropped.update(other.dropped)
        self.failed.update(other.failed)
        self.useless.include(other.useless)
        for name, tally in other.tallies.items():
            self.tallies[name].update(tally)

    @property
    def counts(self) -> Counts:
        rows_in = self.kept + self.dropped.total() + self.failed.total()
        return Counts(rows_in, self.kept, dict(self.dropped), dict(self.failed))


Sorted = TypeVar("Sorted", bound=SortedRows)


def written(work: Path, name: str, blocks: Iterable[Sorted]) -> Iterator[Sorted]:
    """Writes the lines of each block into the file `name` and into ``dropped.jsonl``, and passes the block on."""
    with (work / name).open("wb") as kept_file, (work / "dropped.jsonl").open("wb") as dropped_file:
        for block in blocks:
            kept_file.writelines(block.kept_lines)
            dropped_file.writelines(block.dropped_lines)
            yield block
