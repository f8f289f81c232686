"""Raw rows from JSONL, JSON and Parquet files and from the hub, not yet interpreted.

One row of a file, as it is passed to a format of `data.sources.adapters`::

    RawRow(file="pairs.jsonl", number=1, value={"prompt": "Why is the sky blue?", "chosen": "…", "rejected": "…"})
"""

from __future__ import annotations

import glob
import gzip
import hashlib
import json
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))")


class SourceError(ValueError):
    """A source that cannot be read as configured. The message names the file, the row, the field, and what to do."""


class DataError(ValueError):
    """Data that the run cannot use. The message states what was found and what to change."""


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """Stands for an unreadable row in a file whose other rows may be fine."""

    problem: str


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as read. `number` is 1-based: the line of a JSONL file, otherwise the position in the file."""

    file: str
    number: int
    value: object | BrokenRow

    @property
    def where(self) -> str:
        return f"{self.file}:{self.number}"


def expand_path(path: str) -> str:
    """The path with ``~`` and environment variables replaced. Raises SourceError for an unset variable."""

    def value_of(match: re.Match[str]) -> str:
        name = match.group(1) or match.group(2)
        if name not in os.environ:
            raise SourceError(
                f"path {path!r}: the environment variable {name} is not set; set it, or write the full path"
            )
        return os.environ[name]

    if "://" in path:
        raise SourceError(
            f"path {path!r}: is a URL; copy the files to a local folder, or name a hub data set as hub:owner/name"
        )
    return str(Path(_VARIABLE.sub(value_of, path)).expanduser())


def local_files(path: str) -> list[str]:
    """The data files that an expanded path names, sorted: one file, the files directly in a folder, or those that match a glob.

    Raises SourceError if there are none, or if a named file is of an unsupported type.
    """
    if Path(path).is_dir():
        found = sorted(str(p) for p in Path(path).iterdir() if p.is_file() and _is_data(p.name))
        what = "the folder contains no data file"
    elif Path(path).is_file():
        found, what = [path], ""
        if not _is_data(Path(path).name):
            raise SourceError(f"{path}: has an unsupported type; supported are {', '.join(SUFFIXES)}")
    else:
        matches = glob.glob(path, recursive=True)  # noqa: PTH207 (Path.glob takes no absolute pattern)
        found = sorted(p for p in matches if Path(p).is_file() and _is_data(Path(p).name))
        what = "the pattern matches no data file" if glob.has_magic(path) else "there is no such file or folder"
    if not found:
        raise SourceError(f"path {path!r}: {what} (supported: {', '.join(SUFFIXES)})")
    return found


def _is_data(name: str) -> bool:
    return name.endswith(SUFFIXES) and not name.startswith(".")


def data_set_name(path: str) -> str:
    """The source name for the records of an expanded local path: the file's stem, or the folder's name."""
    if Path(path).is_file():
        name = Path(path).name
        return next(
            (name.removesuffix(suffix) for suffix in sorted(SUFFIXES, reverse=True) if name.endswith(suffix)), name
        )
    folder = Path(path)
    while glob.has_magic(str(folder)):
        folder = folder.parent
    return folder.resolve().name


def sha256_by_file(path: str) -> dict[str, str]:
    """The content of an expanded local path: the sha256 of each file, by its name relative to the files' common folder."""
    files = local_files(path)
    base = os.path.commonpath([str(Path(file).parent) for file in files])
    digests = {}
    for file in files:
        with Path(file).open("rb") as stream:
            digests[os.path.relpath(file, base or ".")] = hashlib.file_digest(stream, "sha256").hexdigest()
    return digests


# ---- files -----------------------------------------------------------------------------------------------------------


def read_file(file: str) -> Iterator[RawRow]:
    """The rows of one file in file order. Raises SourceError if the file as a whole cannot be read."""
    plain = file.removesuffix(".gz")
    try:
        if plain.endswith(".parquet"):
            yield from _read_parquet(file)
        elif plain.endswith(".jsonl"):
            yield from _read_json_lines(file)
        else:
            yield from _read_json(file)
    except (OSError, EOFError, zlib.error) as error:  # gzip raises all three for a file that is truncated or not gzip
        raise SourceError(f"{file}: cannot be read ({error}); is the file complete?") from error


def count_rows(file: str) -> int:
    """How many rows `read_file` yields, usually without parsing them. Raises SourceError in the same cases."""
    plain = file.removesuffix(".gz")
    try:
        if plain.endswith(".jsonl"):
            with _open(file) as stream:
                return sum(1 for line in stream if line.strip())
        if plain.endswith(".parquet"):
            import pyarrow.parquet as pq

            return int(pq.read_metadata(file).num_rows)
    except (OSError, EOFError, zlib.error, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise SourceError(f"{file}: cannot be read ({error}); is the file complete?") from error
    return sum(1 for _ in _read_json(file))


def _open(file: str) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(file, "rb")) if file.endswith(".gz") else Path(file).open("rb")


def _read_json_lines(file: str) -> Iterator[RawRow]:
    with _open(file) as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested too deeply
                value = BrokenRow(f"the line is not JSON ({error}); a JSONL file has one object per line")
            yield RawRow(file, number, value)


def _read_json(file: str) -> Iterator[RawRow]:
    with _open(file) as stream:
        content = stream.read()
    try:
        rows = json.loads(content)
    except json.JSONDecodeError as error:
        hint = "; a file with one object per line must be named .jsonl" if error.msg == "Extra data" else ""
        raise SourceError(f"{file}, line {error.lineno}: is not JSON ({error.msg}){hint}") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SourceError(f"{file}, line {line}: is not UTF-8 text ({error.reason})") from error
    if not isinstance(rows, list):
        inside = f" with the keys {', '.join(map(repr, rows))}" if isinstance(rows, dict) else ""
        raise SourceError(
            f"{file}: must be a list of rows, is {_type_name(rows)}{inside}; it is unclear which list is meant: "
            "write the rows to a .jsonl file, one per line"
        )
    for number, value in enumerate(rows, start=1):
        yield RawRow(file, number, value)


def _read_parquet(file: str) -> Iterator[RawRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=1024):
                for value in batch.to_pylist():
                    number += 1
                    yield RawRow(file, number, value)
    except pa.ArrowException as error:
        raise SourceError(f"{file}: cannot be read as Parquet after row {number} ({error})") from error


def _type_name(value: object) -> str:
    return "an object" if isinstance(value, dict) else type(value).__name__


# ---- the hub ---------------------------------------------------------------------------------------------------------


def read_hub(name: str, *, subset: str | None, split: str, revision: str | None) -> Iterator[RawRow]:
    """The rows of a hub data set, streamed in order; `number` counts them from 1.

    Raises SourceError if the data set, subset or split does not exist. A connection error is raised unchanged, because a
    retry may succeed.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError

    file = f"hub:{name}"
    try:
        rows = load_dataset(name, subset, split=split, revision=revision, streaming=True)
    except (DatasetNotFoundError, ValueError) as error:
        raise SourceError(
            f"{file}: cannot be opened with subset={subset!r}, split={split!r}, revision={revision!r} ({error}); "
            "see the data set's page for its subsets and splits"
        ) from error
    for number, value in enumerate(rows, start=1):
        yield RawRow(file, number, dict(value))


def declared_rows(name: str, subset: str | None, split: str, revision: str | None) -> int | None:
    """How many rows a split has according to the hub data set's page; None if it does not state that."""
    from datasets import load_dataset_builder
    from datasets.exceptions import DatasetNotFoundError

    try:
        splits = load_dataset_builder(name, subset, revision=revision).info.splits
    except (DatasetNotFoundError, ValueError) as error:
        raise SourceError(
            f"hub:{name}: cannot be opened with subset={subset!r}, revision={revision!r} ({error})"
        ) from error
    return int(splits[split].num_examples) or None if splits and split in splits else None
