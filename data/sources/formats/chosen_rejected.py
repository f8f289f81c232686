r"""Rows that name the better response: chosen and rejected, as texts, messages, whole conversations or transcripts.

Three of the supported shapes; the second is LLaMA-Factory's ranking format and the third that of hh-rlhf::

    {"prompt": "Name a prime.", "chosen": "Seven.", "rejected": "Nine."}
    {"conversations": [{"from": "human", "value": "Name a prime."}],
     "chosen": {"from": "gpt", "value": "Seven."}, "rejected": {"from": "gpt", "value": "Nine."}}
    {"chosen": "\n\nHuman: Name a prime.\n\nAssistant: Seven.", "rejected": "\n\nHuman: …\n\nAssistant: Nine."}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import zip_longest

from data.records import Message, RecordError
from data.sources.fields import (
    ROLE_NAMES,
    Row,
    as_prompt,
    as_text,
    contents,
    given_id,
    reach,
    read_prompt,
    read_turn,
    read_turns,
)
from data.sources.formats.candidate import Candidate, Unusable

Turns = tuple[Message, ...]

_SPEAKER = re.compile(r"\n\n(Human|Assistant):[ ]?")


def chosen_rejected(row: Row) -> Candidate | Unusable:
    field = "conversations" if row.get("prompt") is None and row.get("conversations") is not None else "prompt"
    given = read_prompt(row[field], field) if row.get(field) is not None else None
    identity = given_id(row)
    sides = (split_side(row, "chosen", given), split_side(row, "rejected", given))
    differ = prompts_differ(("chosen", "rejected"), (sides[0][0], sides[1][0]), identity)
    if differ is not None:
        return differ
    prompt = as_prompt(sides[0][0], "chosen")
    return Candidate(prompt, (sides[0][1], sides[1][1]), positioned=False, truth="A", id=identity)


def prompts_differ(names: tuple[str, str], prompts: tuple[Turns, Turns], identity: str | None) -> Unusable | None:
    """The `Unusable` for a row whose two conversations differ before their last answers; None if they do not."""
    if prompts[0] == prompts[1]:
        return None
    turns = zip_longest(*prompts)
    place = next(i for i, (left, right) in enumerate(turns, start=1) if left != right)
    detail = f"{names[0]} and {names[1]} differ in turn {place}, before their last answers"
    return Unusable(identity, "prompts_differ", detail)


def split_side(row: Row, field: str, given: Turns | None) -> tuple[Turns, str]:
    """The turns before the last answer of one side, and that answer. `given` is the row's own prompt, if it has one."""
    value = reach(row, field)
    turns: Turns
    if isinstance(value, str):
        text = as_text(value, field)
        turns = _transcript(text) if text.startswith("\n\nHuman:") else (Message("assistant", text),)
    else:
        turns = (read_turn(value, field),) if isinstance(value, Mapping) else read_turns(value, field)
    if not turns or turns[-1].role != "assistant":
        ends = f"ends with {turns[-1].role!r}" if turns else "is empty"
        raise RecordError(field, f"must end with the assistant's answer, {ends}")
    before, response = turns[:-1], turns[-1].content
    if not before and given is None:
        raise RecordError("prompt", f"is missing, and {field!r} is only an answer: the row {contents(row)}")
    if before and given and not _agrees(given, before):
        raise RecordError(
            field, "is a conversation that does not contain the row's own prompt; it is unclear which is right"
        )
    return before or given or (), response


def _transcript(text: str) -> Turns:
    r"""The turns of ``\n\nHuman: …\n\nAssistant: …``."""
    _, *parts = _SPEAKER.split(text)
    return tuple(Message(ROLE_NAMES[who.lower()], text) for who, text in zip(parts[::2], parts[1::2], strict=True))


def _agrees(given: Turns, before: Turns) -> bool:
    """A separate prompt repeats the conversation, or (as in UltraFeedback) one user turn of it."""
    return given == before or (len(given) == 1 and given[0] in before)
