"""What flows through the pipeline: pairs of responses, with and without a label.

A row on disk (JSONL, one object a line) is ``to_json`` of one of these::

    {"id": "3f0c…", "prompt": [{"role": "user", "content": "Why is the sky blue?"}],
     "response_a": "Rayleigh scattering.", "response_b": "It reflects the sea.",
     "source": "helpsteer3", "label": "A", "rationale": "Feedback:\\n…"}

Two states, two types: a `ResponsePair` has no label field, so a label cannot leak into a prompt that must not contain it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import orjson

Label = Literal["A", "B"]
"""The better response, by the position it is shown in."""

Role = Literal["system", "user", "assistant"]
ROLES: tuple[str, ...] = get_args(Role)


class RecordError(ValueError):
    """A row that is not a valid record. The message names the field; the reader adds file and row."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"field {field!r}: {problem}")
        self.field = field
        self.problem = problem

    def __reduce__(self) -> tuple[Any, ...]:  # it may be raised in another process
        return type(self), (self.field, self.problem)


def flip(label: Label) -> Label:
    """The label of the same pair with its responses swapped."""
    return "B" if label == "A" else "A"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str

    def to_json(self) -> dict[str, str]:
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True, slots=True)
class ResponsePair:
    """A prompt x and two responses to it, y_a and y_b, without a label.

    `prompt` is the whole conversation before the responses and ends with a user turn; `source` names the data set.
    """

    id: str
    prompt: tuple[Message, ...]
    response_a: str
    response_b: str
    source: str = ""

    def swapped(self) -> ResponsePair:
        """The same pair (same id) shown in the other order."""
        return replace(self, response_a=self.response_b, response_b=self.response_a)

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "prompt": [message.to_json() for message in self.prompt],
            "response_a": self.response_a,
            "response_b": self.response_b,
            "source": self.source,
        }


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """A pair with its preference label: (s, l)."""

    pair: ResponsePair
    label: Label

    def swapped(self) -> PreferencePair:
        return PreferencePair(self.pair.swapped(), flip(self.label))

    def to_json(self) -> dict[str, Any]:
        return {**self.pair.to_json(), "label": self.label}


@dataclass(frozen=True, slots=True)
class RationalePair:
    """A labeled pair with the rationale of its label: (s, l, z).

    There is no ``swapped``: a rationale that names "Response A" is wrong for the other order.
    """

    pair: ResponsePair
    label: Label
    rationale: str

    @property
    def preference(self) -> PreferencePair:
        return PreferencePair(self.pair, self.label)

    def to_json(self) -> dict[str, Any]:
        return {**self.pair.to_json(), "label": self.label, "rationale": self.rationale}


Record = ResponsePair | PreferencePair | RationalePair


def content_id(*parts: object) -> str:
    """A stable id of 16 hex digits from the content of a record: sha256 over its canonical JSON."""
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()[:16]


def canonical_json(value: object) -> str:
    """The canonical text of a JSON value, used for hashing: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def text_id(*parts: object) -> str:
    """`content_id` of parts that hold nothing but texts, a tenth of the time: there, orjson's output is canonical JSON."""
    try:
        content = orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # half a surrogate pair
        return content_id(*parts)
    return hashlib.sha256(content).hexdigest()[:16]


def prompt_key(prompt: tuple[Message, ...]) -> str:
    """Identifies a prompt by its content; splits of data "by prompt" compare these keys."""
    return text_id([message.to_json() for message in prompt])


def pair_key(pair: ResponsePair) -> str:
    """Identifies a pair by its content, regardless of the order its responses are shown in."""
    return text_id([m.to_json() for m in pair.prompt], sorted([pair.response_a, pair.response_b]))


def parse_messages(value: object, field: str = "prompt") -> tuple[Message, ...]:
    """Chat messages from a string (one user turn) or a list of ``{"role", "content"}``.

    Raises `RecordError` for anything else, and for a conversation that does not end with a user turn.
    """
    if isinstance(value, str):
        if not value.strip():
            raise RecordError(field, "is empty")
        return (Message("user", value),)
    if not isinstance(value, list) or not value:
        raise RecordError(field, f"must be a string or a non-empty list of messages, got {type(value).__name__}")
    messages = tuple(_parse_message(item, f"{field}[{i}]") for i, item in enumerate(value))
    if messages[-1].role != "user":
        raise RecordError(field, f"must end with a user turn, ends with {messages[-1].role!r}")
    return messages


def _parse_message(item: object, field: str) -> Message:
    if not isinstance(item, Mapping):
        raise RecordError(field, f"must be an object with role and content, got {type(item).__name__}")
    role, content = item.get("role"), item.get("content")
    if role not in ROLES:
        raise RecordError(f"{field}.role", f"must be one of {', '.join(ROLES)}, got {role!r}")
    if not isinstance(content, str):
        raise RecordError(f"{field}.content", f"must be a string, got {type(content).__name__}")
    return Message(role, content)


def parse_pair(row: Mapping[str, Any]) -> ResponsePair:
    """A `ResponsePair` from a row in our own format; `label` and `rationale` fields are ignored."""
    response_a, response_b = _text(row, "response_a"), _text(row, "response_b")
    prompt = parse_messages(row.get("prompt"))
    identity = row.get("id")
    if identity is None:
        identity = text_id([m.to_json() for m in prompt], response_a, response_b)
    return ResponsePair(str(identity), prompt, response_a, response_b, source=str(row.get("source", "")))


def parse_preference(row: Mapping[str, Any]) -> PreferencePair:
    """A `PreferencePair` from a row in our own format. Raises `RecordError` if the label is not A or B."""
    label = row.get("label")
    if label not in ("A", "B"):
        raise RecordError("label", f'must be "A" or "B", got {label!r}')
    return PreferencePair(parse_pair(row), label)


def parse_rationale(row: Mapping[str, Any]) -> RationalePair:
    """A `RationalePair` from a row in our own format."""
    preference = parse_preference(row)
    return RationalePair(preference.pair, preference.label, _text(row, "rationale"))


def _text(row: Mapping[str, Any], field: str) -> str:
    value = row.get(field)
    if not isinstance(value, str):
        raise RecordError(field, f"must be a string, got {'nothing' if value is None else type(value).__name__}")
    return value
