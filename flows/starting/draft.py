"""A recipe before it is written: sections of values with their reasons, and the sources of its data.

As text, of which `values` are the same::

    [rounds]
    # How often the judge labels fresh pairs and is trained again.
    count = 3   # paper: 3
"""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.sources.source import HUB, Source
from flows.starting.scale import Value

_WIDEST = 120


@dataclass(frozen=True)
class Rows:
    """Where some rows come from: a source, or a set of a benchmark, with a comment."""

    key: str
    values: Mapping[str, Any]
    comment: str = ""


@dataclass(frozen=True)
class Section:
    """A table of a recipe: what it does, its values, and the sources in it."""

    name: str
    does: str
    values: Mapping[str, Value]
    rows: tuple[Rows, ...] = ()


@dataclass(frozen=True)
class Draft:
    """A whole recipe. Paths in it are absolute; the text has them relative to the recipe's folder where that is shorter."""

    flow: str
    name: str
    title: str
    sections: tuple[Section, ...]
    notes: list[str] = field(default_factory=list)
    """What a person must know of the choices, for the terminal."""

    def values(self) -> dict[str, Any]:
        """The configuration."""
        found: dict[str, Any] = {"run_name": self.name}
        for section in self.sections:
            given = {key: value.value for key, value in section.values.items()}
            for rows in section.rows:
                given.setdefault(rows.key, []).append(dict(rows.values))
            found[section.name] = given
        return found

    def text(self, folder: Path) -> str:
        """The recipe as it is written to a folder."""
        lines = [*_comment(self.title)]
        if self.flow != "self-train":
            lines += [f"run_name = {_toml(self.name)}"]
        for section in self.sections:
            lines += ["", f"[{section.name}]", *_comment(section.does)]
            for key, value in section.values.items():
                lines += _line(key, _shown(value.value, folder), value.why)
            for rows in section.rows:
                lines += ["", *_table(f"{section.name}.{rows.key}", rows, folder)]
        return "\n".join(lines) + "\n"


def source_values(source: Source) -> dict[str, Any]:
    """A source as a recipe has it: without what is at its default, or follows from the name of a known data set."""
    given = source.model_dump(mode="json", exclude_defaults=True)
    known = Source(dataset=source.dataset).model_dump(mode="json") if source.dataset else {}
    given = {key: value for key, value in given.items() if key == "dataset" or known.get(key) != value}
    if source.columns is not None:
        given["columns"] = source.columns.model_dump(mode="json", exclude_defaults=True)
    return given


def path_in(folder: Path, path: str) -> str:
    """A path as a recipe in this folder writes it: relative if it lies below the folder or beside it, else as it is."""
    if path.startswith(HUB) or "://" in path or not Path(path).is_absolute():
        return path
    beside = Path(path).is_relative_to(folder.absolute().parent)
    return os.path.relpath(path, folder.absolute()) if beside else path


def _table(name: str, rows: Rows, folder: Path) -> Iterator[str]:
    yield f"[[{name}]]"
    yield from _comment(rows.comment)
    for key, value in rows.values.items():
        if key != "columns":
            yield f"{key} = {_shown(value, folder)}"
    columns = rows.values.get("columns")
    if columns:
        yield f"[{name}.columns]"
        yield from (f"{key} = {_toml(value)}" for key, value in columns.items())


def _line(key: str, shown: str, why: str) -> list[str]:
    """A value with its reason beside it, or above if that would be too wide."""
    line = f"{key} = {shown}"
    if not why:
        return [line]
    beside = f"{line}   # {why}"
    return [beside] if len(beside) <= _WIDEST else [*_comment(why), line]


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, _WIDEST - 2)] if text else []


def _shown(value: Any, folder: Path) -> str:
    return _toml(path_in(folder, value) if isinstance(value, str) else value)


def _toml(value: Any) -> str:
    """A value as TOML: texts are written as JSON, which are basic strings."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        mantissa, _, exponent = f"{value:.12e}".partition("e")
        short = f"{float(mantissa):g}e{int(exponent)}"
        return short if 0 < abs(value) < 0.01 else repr(value)  # as people write a learning rate
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {_toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else json.dumps(name)
