"""The prompts and responses that a judge is given, by a program or in a file: the shapes that data sources are read in.

A prompt is a string or messages; a response is a string, an assistant's message, or a conversation that ends with one::

    "Why?"        [{"role": "user", "content": "Why?"}]        [{"from": "human", "value": "Why?"}]
    "Because."    {"role": "assistant", "content": "Because."}  [{"role": "assistant", "content": "Because."}]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from data.records import Message, RecordError, ResponsePair, content_id
from data.sources.fields import as_text, got, read_prompt
from data.sources.formats.chosen_rejected import split_turns

Prompt = str | Sequence[Message] | Sequence[dict[str, str]]
"""A string (one user turn), or chat messages that end with a user turn."""


def read_messages(prompt: object) -> tuple[Message, ...]:
    """A prompt's messages. Raises RecordError for anything else, for a last turn that is blank, and for half a surrogate pair."""
    given: Any = prompt
    if isinstance(prompt, Sequence) and not isinstance(prompt, str):
        given = [turn.to_json() if isinstance(turn, Message) else turn for turn in prompt]
    turns = read_prompt(given, "prompt")
    if not turns:
        raise RecordError("prompt", "is empty")
    return turns


def read_response(value: object, field: str, prompt: tuple[Message, ...] = ()) -> str:
    """The text of a response; `prompt` is what a whole conversation must begin with. Raises RecordError naming the field."""
    if isinstance(value, str):
        return as_text(value, field)
    if not isinstance(value, list | tuple | dict):
        raise RecordError(field, f"must be a string, or an assistant's message, got {got(value)}")
    before, answer = split_turns(list(value) if isinstance(value, tuple) else value, field)
    if before and prompt and before != prompt and not (len(prompt) == 1 and prompt[0] in before):
        raise RecordError(field, "is a conversation that does not contain the row's own prompt; which one is right?")
    return answer


def read_responses(value: object, prompt: tuple[Message, ...]) -> list[str]:
    """The texts of a row's responses. Raises RecordError if it is not a list of at least one."""
    if isinstance(value, list | tuple) and not value:
        raise RecordError("responses", "must be a list with at least one response, got an empty list")
    if not isinstance(value, list | tuple):
        raise RecordError("responses", f"must be a list of responses, got {got(value)}")
    return [read_response(one, f"responses[{i}]", prompt) for i, one in enumerate(value)]


def pair_of(prompt: Prompt, a: object, b: object) -> ResponsePair:
    """The pair of a comparison. Its id, from which its seeds are derived, is that of its content."""
    turns = read_messages(prompt)
    response_a, response_b = read_response(a, "response_a", turns), read_response(b, "response_b", turns)
    identity = content_id([turn.to_json() for turn in turns], response_a, response_b)
    return ResponsePair(identity, turns, response_a, response_b)


def pair_or_error(prompt: Prompt, a: object, b: object) -> ResponsePair | RecordError:
    """`pair_of`, or why there is none: one bad row must not fail the others of its batch."""
    try:
        return pair_of(prompt, a, b)
    except RecordError as error:
        return error
