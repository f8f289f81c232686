"""The columns of a source that no rule reads, and the files of its folder: what may be lost must be said.

::

    {"prompt": "Why?", "chosen": "Because.", "rejected": "No.", "context": "…"}    of the format chosen-rejected
    {"context"}
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import islice

from data.sources.adapters import columns_read
from data.sources.fields import is_empty, outermost
from data.sources.rows import RawRow, expand_path, folder_of
from data.sources.source import Source
from data.sources.sources import read_rows, unread_files

COLUMN_ROWS = 1000
"""Rows whose columns are examined; the others are assumed to be alike."""
_MOST_FILES = 8


def read_in(raw: RawRow, source: Source) -> frozenset[str]:
    """The columns of a row that the source's format or column map, or its filter, reads."""
    if not isinstance(raw.value, Mapping):
        return frozenset()
    filters = (outermost(raw.value, path) for path in source.where)
    return columns_read(raw.value, source.format, source.columns).union(filters)


def unread_columns(source: Source) -> list[str]:
    """The columns that one of the first `COLUMN_ROWS` rows fills, but that nothing reads, in the file's order.

    Raises SourceError if the source cannot be read.
    """
    unread: dict[str, None] = {}
    # Not those of a sample: the whole source would be counted for them.
    for raw in islice(read_rows(source.model_copy(update={"sample": None})), COLUMN_ROWS):
        if isinstance(raw.value, Mapping):
            read = read_in(raw, source)
            unread |= {str(name): None for name, value in raw.value.items() if name not in read and not is_empty(value)}
    return list(unread)


def not_read(source: Source) -> str:
    """The columns and files of a source that are not read, in words; empty if all are. Raises SourceError as they do."""
    columns, files = ", ".join(unread_columns(source)), named_unread_files(source)
    parts = [f"the columns {columns}" if columns else "", f"the files {files}" if files else ""]
    return "; ".join(filter(None, parts))


def named_unread_files(source: Source) -> str:
    """The names of the files in a source's folder that are not read; empty if there are none."""
    files = unread_files(source)
    return listed(files, str(folder_of(expand_path(source.path)))) if files else ""


def listed(files: Sequence[str], base: str) -> str:
    """The names of some files, relative to a folder, and how many more there are."""
    names = (os.path.relpath(file, base or ".") for file in files[:_MOST_FILES])
    shown = [os.fsencode(name).decode(errors="backslashreplace") for name in names]  # a name may be no text
    more = f" and {len(files) - len(shown):,} more" if len(files) > len(shown) else ""
    return ", ".join(shown) + more
