"""Files that the stages read and write: JSON and text (atomically), JSONL, hard links, and content hashes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import IO, Any, TypeVar

import orjson

from data.records import canonical_json

BLOCK_ROWS = 256
"""Rows of a block: enough that handing it to another process costs little, few enough that many fit into memory."""
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
_T = TypeVar("_T")


class StoreError(RuntimeError):
    """A file or an artifact that cannot be trusted or written."""


def content_hash(files: Mapping[str, Mapping[str, Any]]) -> str:
    """One hash over the names and hashes of an artifact's files, for the keys of downstream stages."""
    return hashlib.sha256(canonical_json({name: facts["sha256"] for name, facts in files.items()}).encode()).hexdigest()


def sha256_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file is what Git LFS leaves in place of the real one until it is pulled."""
    with path.open("rb") as stream:
        return stream.read(len(_LFS_POINTER)) == _LFS_POINTER


def flush(path: Path) -> None:
    """Syncs a file, or a folder's entries, to disk: a power failure must not leave half of it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def inside(folder: Path, path: str) -> str:
    """The full path of a file that another machine names relative to `folder`. Raises StoreError if it leads outside."""
    full = (folder / path).resolve()
    if not full.is_relative_to(folder.resolve()):
        raise StoreError(f"a job, or a part of one, may only name files in its store, {folder}; got {full}")
    return str(full)


def hash_folder(path: Path) -> str:
    """The content hash of a folder that is not an artifact, such as a base model on disk."""
    files = {f.relative_to(path).as_posix(): {"sha256": sha256_file(f)} for f in sorted(path.rglob("*")) if f.is_file()}
    return content_hash(files)


def link_tree(source: Path, target: Path, linked: str = "*") -> None:
    """Makes `target` a copy of the folder `source`, by hard links if the file system supports them.

    Files that do not match `linked` are really copied, because someone may edit them in place.
    """
    for file in sorted(source.rglob("*")):
        if file.is_file():
            copy = target / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            link_file(file, copy) if file.match(linked) else shutil.copy2(file, copy)


def link_file(source: Path, target: Path) -> None:
    """Hard-links a file, or copies it if the file system has no hard links; replaces an existing target."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.link.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copy2(source, temporary)
    temporary.replace(target)
    temporary.unlink(missing_ok=True)  # if both were the same file, replacing did nothing


def write_json(path: Path, value: object) -> None:
    """Writes JSON so that a crash leaves the old file or the new one, never half of it."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Like `write_json`, for text: a temporary file next to it, flushed to disk, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSONL file, one at a time. Raises StoreError with file and line if one is not JSON."""
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            yield parse_line(line, path, number)


def parse_line(line: str | bytes, path: Path, number: int) -> dict[str, Any]:
    """The row in a line of a JSONL file. Raises StoreError with file and line number if it is not JSON."""
    try:
        row: dict[str, Any] = json.loads(line)
    except json.JSONDecodeError as error:
        raise StoreError(f"{path}, line {number}: not JSON ({error})") from error
    return row


@dataclass(frozen=True)
class Lines:
    """Consecutive lines of a JSONL file that this software wrote and that no longer changes, not read yet.

    `first` is the number of the first one, from 1, `start` where it begins, in bytes, and `n` how many there are.
    """

    path: Path
    first: int
    start: int
    n: int

    @classmethod
    def next_in(cls, stream: IO[bytes], path: Path, first: int, most: int) -> Lines:
        """The next lines of an open file, up to `most`."""
        start = stream.tell()
        return cls(path, first, start, sum(1 for _ in islice(stream, most)))

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows in these lines. Raises StoreError as `read_jsonl` does."""
        with self.path.open("rb") as stream:
            stream.seek(self.start)
            for number, line in enumerate(islice(stream, self.n), start=self.first):
                yield parse_own_line(line, self.path, number)


def parse_own_line(line: bytes, path: Path, number: int) -> dict[str, Any]:
    """As `parse_line` in a third of its time, for a line without integers of more than 64 bits, which would be rounded."""
    try:
        row: dict[str, Any] = orjson.loads(line)
    except orjson.JSONDecodeError:
        row = parse_line(line, path, number)
    return row


def line_blocks(path: Path) -> Iterator[Lines]:
    """The lines of a JSONL file in blocks of BLOCK_ROWS, for `tasks.machine.parallel.over_blocks`."""
    with path.open("rb") as stream:
        block = Lines.next_in(stream, path, 1, BLOCK_ROWS)
        while block.n:
            yield block
            block = Lines.next_in(stream, path, block.first + block.n, BLOCK_ROWS)


def in_blocks(items: Iterable[_T]) -> Iterator[list[_T]]:
    """The items in lists of BLOCK_ROWS, the last one shorter. If they end with an error, it comes after what was before it."""
    block: list[_T] = []
    try:
        for item in items:
            block.append(item)
            if len(block) == BLOCK_ROWS:
                yield block
                block = []
    except Exception:
        if block:
            yield block
        raise
    if block:
        yield block


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Writes rows as JSONL, one at a time, and returns their number. Not atomic: writing the manifest commits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with path.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json_line(row))
            count += 1
    return count


def json_line(row: Mapping[str, Any]) -> str:
    """``json.dumps(row, ensure_ascii=False, allow_nan=False)`` and a line break, in a third of its time if texts are long."""
    return _json(row) + "\n"


def _json(value: object) -> str:
    # orjson escapes texts exactly as json does, but writes no spaces between fields.
    kind = type(value)
    if kind is str:
        try:
            return orjson.dumps(value).decode()
        except TypeError:  # half a surrogate pair, which json passes on
            return _JSON.encode(value)
    if kind is dict:
        assert isinstance(value, dict)
        if all(type(key) is str for key in value):
            return "{" + ", ".join([f"{_json(key)}: {_json(item)}" for key, item in value.items()]) + "}"
    if kind is list or kind is tuple:
        assert isinstance(value, list | tuple)
        return "[" + ", ".join([_json(item) for item in value]) + "]"
    if kind is int or (isinstance(value, float) and kind is float and isfinite(value)):
        return repr(value)
    return _JSON.encode(value)
