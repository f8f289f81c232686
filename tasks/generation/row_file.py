"""The rows of a JSONL file by their numbers, for shards that may come in any order."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from data.files import StoreError


class RowFile:
    """An open JSONL file that is read from where it was left; for earlier rows, from its beginning again."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._next = 0

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[int, dict[str, Any]]]:
        """The rows with these numbers, which must increase. Raises StoreError for one that is missing or is not JSON."""
        for number in numbers:
            if number < self._next:
                self._stream.seek(0)
                self._next = 0
            line = b""
            while self._next <= number:
                line = self._stream.readline()
                self._next += 1
            if not line:
                raise StoreError(f"{self._stream.name} has no row {number}: it is shorter than when the stage began")
            try:
                yield number, json.loads(line)
            except ValueError as error:
                raise StoreError(f"{self._stream.name}, line {number + 1}: not JSON ({error})") from error
