"""Reading the fields of a row: each function returns a valid value or raises a `RecordError` that names the field.

A row, and its value at the path ``chosen.value``::

    {"conversations": [{"from": "human", "value": "Why?"}], "chosen": {"from": "gpt", "value": "Because."}}
    "Because."
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from data.records import Message, RecordError, Role

Row = Mapping[str, Any]


def reach(row: Row, path: str) -> Any:
    """The value at a dotted path. A column named like the whole path takes precedence. Raises RecordError if missing."""
    if path in row:
        return row[path]
    value: Any = row
    for depth, part in enumerate(path.split(".")):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and re.fullmatch(r"-?\d+", part) and -len(value) <= int(part) < len(value):
            value = value[int(part)]
        else:
            parent = "the row" if depth == 0 else repr(".".join(path.split(".")[:depth]))
            raise RecordError(path, f"is missing: {parent} {contents(value)}")
    return value


def contents(value: object) -> str:
    """The content of a value in which a field was not found, for an error message."""
    if isinstance(value, Mapping):
        return f"has the columns {', '.join(map(str, value)) or '(none)'}"
    return f"has {len(value)} items" if isinstance(value, list) else f"is {got(value)}"


def got(value: object) -> str:
    """A value for an error message: its type, and the value itself if it is short."""
    if value is None:
        return "nothing (null)"
    shown = repr(value)
    return f"{type(value).__name__} {shown}" if len(shown) <= 40 else type(value).__name__


def as_text(value: object, field: str) -> str:
    """A string that can be written to a file."""
    if not isinstance(value, str):
        raise RecordError(field, f"must be a string, got {got(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # JSON can contain half a surrogate pair, which UTF-8 cannot
        raise RecordError(field, f"is not Unicode text: half a surrogate pair at character {error.start}") from error
    return value


def text_at(row: Row, path: str) -> str:
    return as_text(reach(row, path), path)


def optional_text_at(row: Row, path: str | None) -> str:
    """The string at a path; empty if it is null or no path is given. The column itself must exist."""
    value = reach(row, path) if path is not None else None
    return "" if value is None else as_text(value, path or "")


def number_at(row: Row, path: str) -> float:
    """The number at a path. Raises RecordError if it is not a finite number."""
    value = reach(row, path)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RecordError(path, f"must be a number, got {got(value)}")
    return value


def objects_at(row: Row, path: str) -> int:
    """The number of objects in the list at a path. Raises RecordError if it is not a list of objects."""
    value = reach(row, path)
    if not isinstance(value, list):
        raise RecordError(path, f"must be a list of objects, got {got(value)}")
    for i, item in enumerate(value):
        if not isinstance(item, Mapping):
            raise RecordError(f"{path}.{i}", f"must be an object, got {got(item)}")
    return len(value)


def as_id(value: object, field: str = "id") -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise RecordError(field, f"must be a non-empty string or an integer, got {got(value)}")
    return str(value)


def given_id(row: Row) -> str | None:
    """The row's own id, if it has one."""
    return None if row.get("id") is None else as_id(row["id"])


def same(left: object, right: object) -> bool:
    """Equality of values as filters and label maps have it: 1 equals 1.0, but True does not equal 1, nor "1"."""
    return isinstance(left, bool) == isinstance(right, bool) and left == right


ROLE_NAMES: dict[object, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}


def read_turn(item: object, field: str) -> Message:
    """A message from ``{"role", "content"}``, or from ShareGPT's ``{"from", "value"}``."""
    if not isinstance(item, Mapping):
        raise RecordError(field, f"must be a message with role and content, or from and value, got {got(item)}")
    # By value, not by key: Parquet gives every message all keys, the unused ones null.
    share_gpt = item.get("role") is None and item.get("from") is not None
    role_key, text_key = ("from", "value") if share_gpt else ("role", "content")
    role = item.get(role_key)
    if not isinstance(role, str) or role not in ROLE_NAMES:
        raise RecordError(f"{field}.{role_key}", f"must be one of {', '.join(map(str, ROLE_NAMES))}, got {got(role)}")
    return Message(ROLE_NAMES[role], as_text(item.get(text_key), f"{field}.{text_key}"))


def read_turns(value: object, field: str) -> tuple[Message, ...]:
    if not isinstance(value, list):
        raise RecordError(field, f"must be a string or a list of messages, got {got(value)}")
    return tuple(read_turn(item, f"{field}[{i}]") for i, item in enumerate(value))


def text_or_turns(value: object, field: str) -> tuple[Message, ...]:
    return (Message("user", as_text(value, field)),) if isinstance(value, str) else read_turns(value, field)


def as_prompt(turns: tuple[Message, ...], field: str) -> tuple[Message, ...]:
    """The turns, validated as a prompt; () if there is nothing to answer."""
    if turns and turns[-1].role != "user":
        raise RecordError(field, f"must end with a user turn before the responses, ends with {turns[-1].role!r}")
    return turns if turns and turns[-1].content.strip() else ()


def read_prompt(value: object, field: str) -> tuple[Message, ...]:
    """A prompt from a string (one user turn) or a list of messages; () if it is empty."""
    return as_prompt(text_or_turns(value, field), field)
