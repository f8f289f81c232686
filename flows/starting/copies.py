"""Copies of given rows, which `gram-r2 init` writes to the recipe's folder: whole or not at all, never over a given file.

A row of a Parquet file, and its copy with only the columns that are read::

    {"question": "Why?", "answer_a": "Because.", "answer_b": "No.", "winner": 1, "asked": datetime(2024, 5, 1)}
    {"question": "Why?", "answer_a": "Because.", "answer_b": "No.", "winner": 1}
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from math import isfinite
from pathlib import Path
from typing import Any

from data.files import json_line
from data.sources.source import Source
from data.sources.sources import read_rows, source_files
from data.sources.unread import read_in
from flows.config.recipes import ConfigError
from flows.starting.inputs import Inputs

LABELED, HELDOUT, CONCLUDED = "prepared/labeled.jsonl", "prepared/heldout.jsonl", "prepared/rationale.jsonl"


def check_not_given(inputs: Inputs, folder: Path) -> None:
    """Raises ConfigError if a copy would take the place of a file that was given."""
    places = {(folder / name).resolve() for name in (LABELED, HELDOUT, CONCLUDED)}
    given = [*inputs.labeled, inputs.unlabeled, *inputs.rationale, inputs.heldout]
    for file in (file for found in given if found is not None for file in source_files(found.source)):
        if Path(file).resolve() in places:
            raise ConfigError(
                f"{file}: lies where init would write copies of rows: move it, or choose another folder than {folder}"
            )


def write_copies(folder: Path, copies: Mapping[str, Iterable[Mapping[str, Any]]]) -> None:
    """Writes the rows of each name as JSONL. If one cannot be written to its end, none of them is."""
    temporary = {folder / name: folder / f"{name}.tmp" for name in copies}
    try:
        for path, rows in zip(temporary.values(), copies.values(), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Half of a surrogate pair, which JSON can contain and UTF-8 cannot, is written as the escape that it was.
            with path.open("w", encoding="utf-8", errors="backslashreplace") as stream:
                stream.writelines(map(json_line, rows))
        for place, path in temporary.items():
            path.replace(place)
    finally:
        for path in temporary.values():
            path.unlink(missing_ok=True)


def copied_rows(source: Source) -> Iterator[dict[str, Any]]:
    """The rows of a source that are objects, each with the columns that are read, as JSON can hold them."""
    for raw in read_rows(source):
        if isinstance(raw.value, Mapping):
            read = read_in(raw, source)
            yield {str(name): _plain(value) for name, value in raw.value.items() if name in read}


def _plain(value: object) -> Any:
    """A value as JSON. What JSON cannot hold, such as a date, is no text, label or score either: it becomes null."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Decimal) and value.is_finite():
        return int(value) if value == int(value) else float(value)
    if isinstance(value, float) and not isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float) else None
