"""Rows of JSONL, JSON, CSV, Parquet and Arrow files, not yet interpreted."""

from __future__ import annotations

import glob
import gzip
import hashlib
import io
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from data.files import in_blocks, is_lfs_pointer
from data.paths import PathError, expanded
from data.sources.folders import SUFFIXES, SUPPORTED, files_in, usable
from data.sources.hub import count_hub, declared_rows, hub_blocks, read_hub
from data.sources.raw import BrokenRow, DataError, RawRow, RowBlock, SourceError
from data.sources.tables import Batch, arrow_batches, count_arrow, count_parquet, csv_rows, parquet_batches, rows_of

__all__ = [
    "BrokenRow",
    "DataError",
    "RawRow",
    "RowBlock",
    "SourceError",
    "count_hub",
    "count_rows",
    "data_set_name",
    "declared_rows",
    "expand_path",
    "folder_of",
    "hub_blocks",
    "local_files",
    "read_blocks",
    "read_file",
    "read_hub",
    "sha256_by_file",
]

_BEGINNINGS = {
    b"\x1f\x8b": "a gzip file (.gz)",
    b"\x28\xb5\x2f\xfd": "a zstd file (.zst)",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"PK\x03\x04": "a zip archive, such as an .xlsx file",
}
_ONE_A_LINE = "a JSONL file has one object per line"
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


def expand_path(path: str) -> str:
    """The path with ``~`` and environment variables replaced. Raises SourceError if one of them means nothing here."""
    if "://" in path:
        raise SourceError(
            f"path {path!r}: is a URL; copy the files to a local folder, or name a hub data set as hub:owner/name"
        )
    try:
        return str(Path(expanded(path)))
    except PathError as error:
        raise SourceError(str(error)) from error


def local_files(path: str) -> list[str]:
    """The data files that an expanded path names: one file, those of a folder (`files_in`), or those that match a glob, sorted.

    Raises SourceError if there are none, if a named file is of an unsupported type, if a folder has several splits, or if a
    name is not UTF-8, in which file names are written down.
    """
    place = Path(path)
    _check_name(path)
    if place.is_dir():
        found, what = files_in(place), "the folder contains no data file"
    elif place.is_file():
        found, what = [place], ""
        if not path.lower().endswith(SUFFIXES):
            raise SourceError(f"{path}: has an unsupported type; supported are {SUPPORTED}")
    else:
        found = usable(map(Path, glob.glob(path, recursive=True)))  # noqa: PTH207 (Path.glob takes no absolute pattern)
        what = "the pattern matches no data file" if glob.has_magic(path) else "there is no such file or folder"
    if not found:
        raise SourceError(f"path {path!r}: {what} (supported: {SUPPORTED})")
    for file in found:
        _check_name(str(file))
    return [str(file) for file in found]


def _check_name(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise SourceError(f"{os.fsencode(path)!r}: the name is not UTF-8 text: rename the file or folder") from error


def data_set_name(path: str) -> str:
    """The source name for the records of an expanded local path: the file's stem, or the folder's name."""
    if Path(path).is_file():
        name = Path(path).name
        suffix = max((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), key=len, default="")
        return name[: len(name) - len(suffix)]
    return folder_of(path).resolve().name


def folder_of(path: str) -> Path:
    """The folder that an expanded local path is, or in which a glob looks."""
    folder = Path(path)
    while glob.has_magic(str(folder)):
        folder = folder.parent
    return folder


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
    for block in read_blocks(file):
        yield from block.rows()


def read_blocks(file: str) -> Iterator[RowBlock]:
    """The rows of one file in file order, not parsed yet. Raises SourceError as `read_file` does, after the rows before."""
    kind = _kind(file)
    with _as_source_errors(file):
        if kind == ".jsonl":
            for lines in in_blocks(_json_lines(file)):
                yield RowBlock(file, [number for number, _ in lines], [line for _, line in lines], _json_values)
        elif kind in (".parquet", ".arrow"):
            yield from _numbered(file, parquet_batches(file) if kind == ".parquet" else arrow_batches(file), rows_of)
        else:
            yield from _numbered(file, in_blocks(_values(file, kind)), list)


def _numbered(
    file: str, contents: Iterable[list[object] | Batch], parse: Callable[[Any], Sequence[object]]
) -> Iterator[RowBlock]:
    first = 1
    for content in contents:
        yield RowBlock(file, range(first, first + len(content)), content, parse)
        first += len(content)


def count_rows(file: str) -> int:
    """How many rows `read_file` yields, usually without parsing them. Raises SourceError in the same cases."""
    kind = _kind(file)
    with _as_source_errors(file):
        if kind == ".jsonl":
            with _open(file) as stream, _lines(stream) as lines:
                return sum(1 for line in lines if line.strip())
        if kind == ".parquet":
            return count_parquet(file)
        if kind == ".arrow":
            return count_arrow(file)
        return sum(1 for _ in _values(file, kind))


def _kind(file: str) -> str:
    """The type of a file by its name; .json for any other name."""
    kind = Path(re.sub(r"\.(gz|zst)$", "", file.lower())).suffix
    return kind if kind in (".jsonl", ".parquet", ".arrow", *_DELIMITERS) else ".json"


def _values(file: str, kind: str) -> Iterator[object]:
    if kind == ".json":
        yield from _read_json(file)
    else:
        with _open(file) as stream, _text(stream, errors="surrogateescape", newline="") as text:
            yield from csv_rows(file, text, _DELIMITERS[kind])


@contextmanager
def _as_source_errors(file: str) -> Iterator[None]:
    """Around the reading of a file: what makes it unreadable as a whole becomes a SourceError that says so."""
    try:
        _check_content(file)
        yield
    except SourceError:
        raise
    except FileNotFoundError as error:
        raise SourceError(f"{file}: there is no such file") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{file}: is not {error.encoding.upper()} text ({error.reason}); save it as UTF-8") from error
    except (OSError, EOFError, zlib.error, ValueError, NotImplementedError) as error:
        # gzip raises the first three for a file that is truncated or not gzip, pyarrow all but the third
        raise SourceError(f"{file}: cannot be read ({error}); is the file complete, and what its name says?") from error


def _check_content(file: str) -> None:
    """Raises SourceError for a Git LFS pointer, and for a file that is named as text but begins as something else does."""
    if is_lfs_pointer(Path(file)):
        raise SourceError(f"{file}: is a Git LFS pointer, not the data; run `git lfs pull` in its folder")
    if file.lower().endswith((".gz", ".zst", ".parquet", ".arrow")):
        return  # their readers notice
    with Path(file).open("rb") as stream:
        head = stream.read(6)
    found = next((name for begin, name in _BEGINNINGS.items() if head.startswith(begin)), None)
    if found is not None:
        raise SourceError(f"{file}: is {found}, not text; give it the name of its type (supported: {SUPPORTED})")


def _open(file: str) -> io.BufferedReader:
    """The bytes of a file, decompressed."""
    if file.lower().endswith(".gz"):
        return cast("io.BufferedReader", gzip.open(file, "rb"))
    if file.lower().endswith(".zst"):
        import pyarrow as pa

        return io.BufferedReader(pa.input_stream(file, compression="zstd"))
    return Path(file).open("rb")


def _encoding(stream: io.BufferedReader) -> str:
    """UTF-8, with or without a byte order mark, or the UTF-16 or UTF-32 that a stream begins in."""
    encoding = json.detect_encoding(stream.peek(4)[:4])
    return "utf-8-sig" if encoding == "utf-8" else encoding


def _text(stream: io.BufferedReader, errors: str, newline: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(stream, _encoding(stream), errors, newline)


def _lines(stream: io.BufferedReader) -> IO[Any]:
    """The lines as bytes, or as text if they are not UTF-8: the bytes of a line end stand for other characters there."""
    return stream if _encoding(stream) == "utf-8-sig" else _text(stream, errors="strict", newline="\n")


def _json_lines(file: str) -> Iterator[tuple[int, bytes | str]]:
    with _open(file) as stream, _lines(stream) as lines:
        yield from ((number, line) for number, line in enumerate(lines, start=1) if line.strip())


def _json_values(lines: Sequence[bytes | str]) -> list[object]:
    return [_json_value(line) for line in lines]


def _json_value(line: bytes | str) -> object:
    try:
        return json.loads(line)
    except UnicodeDecodeError as error:
        return BrokenRow(f"the line is not UTF-8 text ({error.reason} at byte {error.start}); save the file as UTF-8")
    except (ValueError, RecursionError) as error:  # not JSON, an integer of thousands of digits, or nested too deeply
        begins_a_list = line.strip() in (b"[", "[")
        hint = "a file that holds one list of rows must be named .json" if begins_a_list else _ONE_A_LINE
        several = isinstance(error, json.JSONDecodeError) and error.msg == "Extra data"
        problem = "holds more than one JSON value" if several else f"is not JSON ({error})"
        return BrokenRow(f"the line {problem}; {hint}")


def _read_json(file: str) -> Iterator[object]:
    with _open(file) as stream:
        content = stream.read()
    if not content.strip():
        return
    try:
        rows = json.loads(content)
    except json.JSONDecodeError as error:
        hint = "; a file with one object per line must be named .jsonl" if error.msg == "Extra data" else ""
        raise SourceError(f"{file}, line {error.lineno}: is not JSON ({error.msg}){hint}") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SourceError(f"{file}, line {line}: is not {error.encoding.upper()} text ({error.reason})") from error
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits, or nested too deeply
        hint = "in a .jsonl file, one row per line, only the row itself would be malformed"
        raise SourceError(f"{file}: cannot be read as JSON ({error}); {hint}") from error
    if not isinstance(rows, list):
        inside = f" with the keys {', '.join(map(repr, rows))}" if isinstance(rows, dict) else ""
        raise SourceError(
            f"{file}: must be a list of rows, is {_type_name(rows)}{inside}; it is unclear which list is meant: "
            "write the rows to a .jsonl file, one per line"
        )
    yield from rows


def _type_name(value: object) -> str:
    return "an object" if isinstance(value, dict) else type(value).__name__
