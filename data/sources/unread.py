"""The columns of a source that no rule reads: what may be lost must be said.

::

    {"prompt": "Why?", "chosen": "Because.", "rejected": "No.", "context": "…"}    of the format chosen-rejected
    {"context"}
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from data.sources.adapters import columns_read
from data.sources.fields import is_empty, outermost
from data.sources.rows import RawRow
from data.sources.source import Source
from data.sources.sources import read_rows

COLUMN_ROWS = 1000
"""Rows whose columns are examined; the others are assumed to be alike."""


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
