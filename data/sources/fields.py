"""Reading the fields of a row: each function returns a valid value or raises a `RecordError` that names the field.

A row, and its value at the path ``chosen.value``::

    {"conversations": [{"from": "human", "value": "Why?"}], "chosen": {"from": "gpt", "value": "Because."}}
    "Because."
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal

from data.records import Message, RecordError, Role
from data.sources.raw import Unreadable

Row = Mapping[str, Any]
Turns = tuple[Message, ...]


class NotShowable(RecordError):
    """A well-formed row with something that no judge can be shown. The reader drops and counts it by its `reason`.

    "not_text" is an image, a video, a sound or a file; "tools" are tool definitions, calls and results.
    """

    def __init__(self, reason: Literal["not_text", "tools"], field: str, problem: str) -> None:
        super().__init__(field, problem)
        self.reason: Literal["not_text", "tools"] = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, self.field, self.problem)


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


def outermost(row: Row, path: str) -> str:
    """The column of a row that a dotted path leads into."""
    return path if path in row else path.split(".")[0]


def contents(value: object) -> str:
    """The content of a value in which a field was not found, for an error message."""
    if isinstance(value, Mapping):
        names = ", ".join(map(str, value)).encode(errors="backslashreplace").decode()
        return f"has the columns {names or '(none)'}"
    return f"has {len(value)} items" if isinstance(value, list) else f"is {got(value)}"


def got(value: object) -> str:
    """A value for an error message: its type, and the value itself if it is short."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, Unreadable):
        return value.problem
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
    """The string at a path; empty if it is null or NaN, or no path is given. The column itself must exist."""
    value = reach(row, path) if path is not None else None
    return "" if is_null(value) else as_text(value, path or "")


def number_at(row: Row, path: str) -> float:
    """The number at a path, also of one written as text, as in CSV. Raises RecordError if it is not a finite number."""
    value = reach(row, path)
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(value)
    with suppress(OverflowError):  # of an integer that no float can hold
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return value
    raise RecordError(path, f"must be a number, got {got(value)}")


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
    return as_text(value, field) if isinstance(value, str) else str(value)


def given_id(row: Row, column: str = "id") -> str | None:
    """The row's own id, if it has one."""
    return None if is_null(row.get(column)) else as_id(row[column], column)


def same(left: object, right: object) -> bool:
    """Equality of values as filters and label maps have it: 1 equals 1.0, but True does not equal 1, nor "1"."""
    return isinstance(left, bool) == isinstance(right, bool) and left == right


def is_empty(value: object) -> bool:
    """Whether a cell holds nothing: null, NaN, blank text, JSON text of nothing, or a list or object of only such values."""
    if isinstance(value, str):
        return value.strip() in ("", "[]", "{}", "null")
    if isinstance(value, Mapping):
        return all(map(is_empty, value.values()))
    return all(map(is_empty, value)) if isinstance(value, list) else is_null(value)


def is_null(value: object) -> bool:
    """Whether a value is null, or the NaN that pandas writes in its place."""
    return value is None or (isinstance(value, float) and math.isnan(value))


# ---- messages --------------------------------------------------------------------------------------------------------

ROLE_NAMES: dict[object, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
}
_TOOL_ROLES = ("tool", "function", "observation", "function_call", "tool_call", "tool_response", "ipython")
_TOOL_KEYS = ("tool_calls", "function_call")
_TEXT_PARTS = ("text", "input_text", "output_text")

UNSHOWN: Mapping[str, Literal["not_text", "tools"]] = {
    "images": "not_text",
    "image": "not_text",
    "videos": "not_text",
    "video": "not_text",
    "audios": "not_text",
    "audio": "not_text",
    "tools": "tools",
    "functions": "tools",
}
"""Columns that public sets name for what a judge cannot be shown, and the reason that a row with one is dropped for."""
_WHAT = {"not_text": "a judge is shown text only", "tools": "a judge's prompt has no form for tools"}


def unshown_in(row: Row) -> list[NotShowable]:
    """A refusal for each column of `UNSHOWN` that holds something."""
    return [
        NotShowable(UNSHOWN[column], column, f"is not empty, but {_WHAT[UNSHOWN[column]]}")
        for column in sorted(UNSHOWN.keys() & row.keys())
        if not is_empty(row[column])
    ]


def read_turn(item: object, field: str) -> Message:
    """A message from ``{"role", "content"}``, or from ShareGPT's ``{"from", "value"}``.

    The case of a role does not matter, and content may be a list of text parts, which are joined by line breaks as vLLM does.
    Raises NotShowable for tool calls, turns of tools, and parts that are not text.
    """
    if not isinstance(item, Mapping):
        raise RecordError(field, f"must be a message with role and content, or from and value, got {got(item)}")
    # By value, not by key: Parquet gives every message all keys, the unused ones null.
    share_gpt = is_null(item.get("role")) and not is_null(item.get("from"))
    role_key, text_key = ("from", "value") if share_gpt else ("role", "content")
    role = _role(item.get(role_key), f"{field}.{role_key}")
    for key in _TOOL_KEYS:
        if not is_empty(item.get(key)):
            raise NotShowable("tools", f"{field}.{key}", f"calls a tool, but {_WHAT['tools']}")
    for refusal in unshown_in(item):
        raise NotShowable(refusal.reason, f"{field}.{refusal.field}", refusal.problem)
    return Message(role, _content(item.get(text_key), f"{field}.{text_key}"))


def _role(value: object, field: str) -> Role:
    name = value.lower() if isinstance(value, str) else value
    if name in _TOOL_ROLES:
        raise NotShowable("tools", field, f"is a turn of {value!r}, but {_WHAT['tools']}")
    if not isinstance(name, str) or name not in ROLE_NAMES:
        raise RecordError(field, f"must be one of {', '.join(map(str, ROLE_NAMES))}, got {got(value)}")
    return ROLE_NAMES[name]


def _content(value: object, field: str) -> str:
    if not isinstance(value, list) or not value:
        return as_text(value, field)
    texts = []
    for i, part in enumerate(value):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if not isinstance(part, Mapping) or not isinstance(kind, str):
            raise RecordError(f"{field}[{i}]", f"must be a part with a type, such as text, got {got(part)}")
        if kind not in _TEXT_PARTS:
            raise NotShowable(
                "tools" if kind.startswith(("tool", "function")) else "not_text",
                f"{field}[{i}]",
                f"is a part of type {kind!r}, but a judge is shown text only",
            )
        texts.append(as_text(part.get("text"), f"{field}[{i}].text"))
    return "\n".join(texts)


def read_turns(value: object, field: str) -> Turns:
    if not isinstance(value, list):
        raise RecordError(field, f"must be a string or a list of messages, got {got(value)}")
    return tuple(read_turn(item, f"{field}[{i}]") for i, item in enumerate(value))


def text_or_turns(value: object, field: str) -> Turns:
    return (Message("user", as_text(value, field)),) if isinstance(value, str) else read_turns(value, field)


def as_prompt(turns: Turns, field: str) -> Turns:
    """The turns, validated as a prompt; () if there is nothing to answer."""
    if turns and turns[-1].role != "user":
        raise RecordError(field, f"must end with a user turn before the responses, ends with {turns[-1].role!r}")
    return turns if turns and turns[-1].content.strip() else ()


def read_prompt(value: object, field: str) -> Turns:
    """A prompt from a string (one user turn) or a list of messages; () if it is empty."""
    return as_prompt(text_or_turns(value, field), field)


# ---- what other columns add to a prompt --------------------------------------------------------------------------------


def with_text(turns: Turns, text: str) -> Turns:
    """The prompt with a further text, such as Alpaca's input, after a blank line in its last turn."""
    if not text.strip() or not turns:
        return turns
    joined = "\n\n".join(part for part in (turns[-1].content, text) if part.strip())
    return (*turns[:-1], Message(turns[-1].role, joined))


def with_system(prompt: Turns, system: str, field: str, other: str) -> Turns:
    """The prompt after a system turn; an empty prompt stays empty. Raises RecordError if `other` begins with a different one."""
    if not (system.strip() and prompt):
        return prompt
    if prompt[0].role != "system":
        return (Message("system", system), *prompt)
    if prompt[0].content.strip() != system.strip():
        raise RecordError(field, f"is a second system turn: {other!r} already begins with one")
    return prompt
