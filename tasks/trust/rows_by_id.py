"""Rows of large JSONL files by their id.

A small file is searched from its beginning to its end. A large one is indexed when it is first needed: one SQLite file, named
after the content of the file that it indexes, so that it never has to be renewed, and serves every run with that file.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from data.files import parse_own_line
from tasks.machine.parallel import in_order

SMALL = 8 << 20
"""Bytes up to which a file is searched, which takes 5 ms, instead of being indexed."""
FOLDER = ".index"
_ID = re.compile(rb'"id": "((?:[^"\\]|\\.)*)"')
_MOST_BUILT = 16
_LAST = "\U0010ffff"

Row = dict[str, Any]
Say = Callable[[str], object]


@dataclass(frozen=True)
class RowFile:
    """A JSONL file that this software wrote and that no longer changes; `index` is where its index is, or will be."""

    path: Path
    index: Path

    @classmethod
    def of(cls, path: Path, sha256: str, folder: Path) -> RowFile:
        """The file with this content, with its index in `folder`."""
        return cls(path, folder / f"{sha256[:32]}.sqlite")

    @property
    def is_small(self) -> bool:
        return self.path.stat().st_size <= SMALL

    def rows(self, identity: str) -> list[tuple[int, Row]]:
        """The rows with this id, each with its number from 0."""
        wanted = b'"id": "' + _escaped(identity) + b'"'
        found = self._searched(wanted) if self.is_small else self._looked_up(identity)
        rows = [(number, parse_own_line(line, self.path, number + 1)) for number, line in found]
        return [(number, row) for number, row in rows if row.get("id") == identity]

    def rows_with(self, text: str, then: str) -> list[Row]:
        """The rows whose line has this text, as JSON writes it, directly followed by `then`; the file is searched."""
        return [
            parse_own_line(line, self.path, number + 1)
            for number, line in self._searched(_escaped(text) + then.encode())
        ]

    def ids_from(self, beginning: str, most: int) -> list[str]:
        """The ids that begin like this, each once, in order; up to `most` of them."""
        if self.is_small:
            pattern = re.compile(rb'"id": "(' + re.escape(_escaped(beginning)) + rb'(?:[^"\\]|\\.)*)"')
            return sorted({_text(match[1]) for match in pattern.finditer(self.path.read_bytes())})[:most]
        with self._opened() as database:
            asked = "SELECT DISTINCT id FROM rows WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"
            least = _expressible(beginning)
            return [str(one) for (one,) in database.execute(asked, (least, least + _LAST, most))]

    def _searched(self, wanted: bytes) -> Iterator[tuple[int, bytes]]:
        if not self.path.stat().st_size:  # which cannot be mapped
            return
        with self.path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            number = start = end = 0
            while (place := content.find(wanted, end)) >= 0:
                number += content[start:place].count(b"\n")
                start, end = content.rfind(b"\n", 0, place) + 1, content.find(b"\n", place)
                end = len(content) if end < 0 else end
                yield number, content[start:end]

    def _looked_up(self, identity: str) -> Iterator[tuple[int, bytes]]:
        with self._opened() as database, self.path.open("rb") as stream:
            for number, start in database.execute(
                "SELECT rowid - 1, start FROM rows WHERE id = ? ORDER BY rowid", (_expressible(identity),)
            ).fetchall():
                stream.seek(start)
                yield number, stream.readline()

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        if not self.index.exists():
            build(self)
        with contextlib.closing(sqlite3.connect(f"{self.index.as_uri()}?mode=ro&immutable=1", uri=True)) as database:
            yield database


def index_all(files: Sequence[RowFile], say: Say) -> None:
    """Indexes the large files among these that are not indexed yet, several at once."""
    new = [file for file in dict.fromkeys(files) if not file.is_small and not file.index.exists()]
    if not new:
        return
    size = sum(file.path.stat().st_size for file in new)
    say(f"indexing {len(new)} files of {size / 1e9:,.1f} GB by id, once, into {new[0].index.parent}")
    new.sort(key=lambda file: -file.path.stat().st_size)
    with in_order(build, new, min(_MOST_BUILT, len(new))) as built:
        for _ in built:
            pass


def build(file: RowFile) -> None:
    """Writes the index of a file: of each line its id and where it starts, in the order of the file."""
    temporary = file.index.with_name(f".{file.index.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        with contextlib.closing(sqlite3.connect(temporary)) as database:
            # A crash leaves a temporary file, which nobody opens.
            database.execute("PRAGMA journal_mode = OFF")
            database.execute("PRAGMA synchronous = OFF")
            database.execute("CREATE TABLE rows (id TEXT, start INTEGER)")
            database.executemany("INSERT INTO rows VALUES (?, ?)", _places(file.path))
            database.execute("CREATE INDEX by_id ON rows (id)")
            database.commit()
        temporary.replace(file.index)
    finally:
        temporary.unlink(missing_ok=True)


def _places(path: Path) -> Iterator[tuple[str | None, int]]:
    start = 0
    with path.open("rb") as stream:
        for line in stream:
            found = _ID.search(line)
            yield (_text(found[1]) if found else None), start
            start += len(line)


def _expressible(text: str) -> str:
    """The text as UTF-8 can express it: half a surrogate pair, which a terminal may give, is in no file."""
    return text.encode("utf-8", "replace").decode()


def _escaped(text: str) -> bytes:
    """A text as it stands between the quotes of a line of JSON."""
    return json.dumps(_expressible(text), ensure_ascii=False)[1:-1].encode()


def _text(escaped: bytes) -> str:
    return escaped.decode() if b"\\" not in escaped else str(orjson.loads(b'"' + escaped + b'"'))


def index_folder(run_folder: Path) -> Path:
    """Where a run's indexes go: into the run folder or, if that cannot be written to, into this user's cache."""
    cache = Path(os.environ.get("GRAM_R2_CACHE", "~/.cache/gram-r2")).expanduser() / "index"
    for folder in (run_folder / FOLDER, cache):
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                return folder
    return cache
