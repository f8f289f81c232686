"""The columns of a file as they are seen before anything is known of them: names in words, and what kind of values they hold.

A row, and the columns that are seen in it::

    {"id": 7, "answerA": {"text": "Yes."}, "winner": "a"}
    Seen("id", "number"), Seen("answerA.text", "text"), Seen("winner", "text")
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

from data.sources.fields import Row, is_empty

Kind = Literal["text", "conversation", "number", "flag", "other"]
_DEEPEST = 3
_WORD = re.compile(r"[^\W\d_]+|\d+")
_PYTHON = re.compile(r"\s*(?:array\()?\[?\s*\{'(?:role|content|from|value)'\s*:")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True)
class Seen:
    """A column, by the path to it. `values` are those that are not empty, in the order of the rows."""

    path: str
    values: tuple[Any, ...] = field(repr=False, default=())
    rows: int = 0

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the name in lower case: "Answer_A", "answerA" and "answer.a" are answer, a."""
        return tuple(word.lower() for word in _WORD.findall(_HUMP.sub(" ", self.path)))

    @property
    def kind(self) -> Kind:
        """What all its values are, or most of them if those are conversations; "flag" is true and false, or 0 and 1."""
        if self._are_most(_is_conversation):
            return "conversation"
        for kind, fits in _KINDS.items():
            if self.values and all(map(fits, self.values)):
                return kind
        return "other"

    @property
    def is_json_text(self) -> bool:
        """Whether most of its values are conversations written as JSON text, as in a CSV file: a cell may be cut off."""
        return self._are_most(lambda value: isinstance(value, str) and _is_conversation(value))

    @property
    def is_json_list(self) -> bool:
        """Whether most are lists of texts written as JSON, as in Chatbot Arena's CSV file; a text in it may be missing."""
        return self._are_most(_is_json_list)

    @property
    def is_python_text(self) -> bool:
        """Whether most are conversations written as Python does: pandas writes lists of a table to a CSV file in this way."""
        return self._are_most(lambda value: isinstance(value, str) and _PYTHON.match(value) is not None)

    def _are_most(self, fits: Callable[[object], bool]) -> bool:
        return 2 * sum(map(fits, self.values)) > len(self.values)

    @property
    def distinct(self) -> list[Any]:
        """Its different values, in the order in which they are seen first."""
        return list({repr(value): value for value in self.values}.values())

    @property
    def unique(self) -> bool:
        """Whether every row has a value, each another one."""
        return len(self.values) == self.rows == len(self.distinct)


def _is_flag(value: object) -> bool:
    return isinstance(value, bool) or str(value).strip().lower() in ("0", "1", "true", "false")


def _is_number(value: object) -> bool:
    with suppress(TypeError, ValueError, OverflowError):
        return not isinstance(value, bool) and float(value) == float(value)  # type: ignore[arg-type]
    return False


def _is_conversation(value: object) -> bool:
    if isinstance(value, str) and value.lstrip().startswith("["):
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    turns = value if isinstance(value, list) else [value] if isinstance(value, Mapping) else []
    return bool(turns) and all(
        isinstance(turn, Mapping) and ({"role", "content"} <= turn.keys() or {"from", "value"} <= turn.keys())
        for turn in turns
    )


def _is_json_list(value: object) -> bool:
    texts: object = None
    if isinstance(value, str) and value.lstrip().startswith("["):
        with suppress(ValueError, RecursionError):
            texts = json.loads(value)
    return isinstance(texts, list) and bool(texts) and all(text is None or isinstance(text, str) for text in texts)


_KINDS: dict[Kind, Any] = {
    "flag": _is_flag,
    "number": _is_number,
    "text": lambda value: isinstance(value, str),
}


def columns_seen(rows: Sequence[Row]) -> list[Seen]:
    """The columns of these rows, those in nested objects too, in the order in which they are seen first."""
    values: dict[str, list[Any]] = {}
    for row in rows:
        for path, value in _leaves(row, ""):
            found = values.setdefault(path, [])
            if not is_empty(value):
                found.append(value)
    return [Seen(path, tuple(found), len(rows)) for path, found in values.items()]


def _leaves(row: Row, prefix: str, depth: int = 1) -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, Mapping) and depth < _DEEPEST and not _is_conversation(value):
            yield from _leaves(value, f"{prefix}{name}.", depth + 1)
        else:
            yield f"{prefix}{name}", value


def pairs_in(columns: Iterable[Seen], sides: Set[tuple[str, str]]) -> Iterator[tuple[Seen, Seen]]:
    """Columns whose names differ only in the word that says which of two sides they are of, the first side first."""
    for one, other in combinations(columns, 2):
        differ = [pair for pair in zip(one.words, other.words, strict=False) if pair[0] != pair[1]]
        if len(one.words) != len(other.words) or len(differ) != 1:
            continue
        if differ[0] in sides:
            yield one, other
        elif differ[0][::-1] in sides:
            yield other, one
