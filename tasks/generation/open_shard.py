"""A shard in progress: its rows are appended to disk as they finish, in any order, and none is held in memory."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from data.files import json_line
from tasks.generation.shards import FEW, Shard

_FEW_ROWS = 32


class OpenShard:
    """The unfinished rows of a shard, and what to know of them while they are in an engine: `in_engine` counts those.

    `crashed` are rows that were alone in an engine that died.
    """

    def __init__(self, shard: Shard, attempt: int) -> None:
        """Reads which of its rows are on disk."""
        self.shard, self.attempt = shard, attempt
        crashes = shard.crashes()
        self.crashed = {row for row in crashes if isinstance(row, int)}
        self._last_crash = crashes[-1] if crashes else -1
        self._places = shard.done()
        self._failed: set[int] = set()
        self.n_found = len(self._places)
        self.todo = [row for row in range(shard.start, shard.stop) if row not in self._places]
        self.in_engine = self.tokens = 0
        self._admitted = 0
        self._mark: int | str | None = -1
        self._partial: IO[bytes] | None = None

    @property
    def is_complete(self) -> bool:
        return len(self._places) == self.shard.n_rows

    @property
    def most_rows(self) -> int:
        """How many rows may be in the engine together with the next of this shard.

        After a death of which nobody knows the cause only a few, and after one of those the rows that were among the few one by
        one: they are the first that are not done.
        """
        if self._last_crash is None:
            return _FEW_ROWS
        return 1 if self._last_crash == FEW and self._admitted < _FEW_ROWS else sys.maxsize

    def admit(self, row: int) -> None:
        """Notes on disk that this row is given to the engine."""
        most = self.most_rows
        mark = row if most == 1 else FEW if most == _FEW_ROWS else None
        if mark != self._mark:
            self.shard.mark(mark)
            self._mark = mark
        self._admitted += 1
        self.in_engine += 1

    def write(self, line: Mapping[str, Any], tokens: int = 0) -> None:
        """Appends a row's line."""
        if self._partial is None:
            self._partial = self.shard.appending()
        written = json_line(line).encode()
        self._partial.write(written)
        self._partial.flush()
        # The end of the file is asked for: an engine that was presumed lost may append to the same one.
        self._places[line["row"]] = (Path(self._partial.name), self._partial.tell() - len(written))
        if "failed" in line:
            self._failed.add(line["row"])
        self.tokens += tokens

    def commit(self, seconds: float) -> None:
        """Finishes the shard, all of whose rows must be written, and says so at once: an engine may be killed after it."""
        if self._partial is not None:
            self._partial.close()
        self.shard.finish(self._places, len(self._failed), self.attempt, self.tokens, seconds)
        print(f"{self}\n", end="", flush=True)

    def __str__(self) -> str:
        n_made = len(self.todo)
        return f"shard {self.shard.number}: {n_made} rows made, {self.n_found} there, {self.tokens} tokens"

    def close(self, crashed: bool) -> None:
        """Leaves the shard as it is. Unless the engine `crashed`, its rows are under no suspicion."""
        if self._partial is not None:
            self._partial.close()
        if not crashed:
            self.shard.forget_work()
