r"""Rows that name the better response: chosen and rejected, as texts, messages, whole conversations or transcripts.

Four of the supported shapes; the second is LLaMA-Factory's ranking format and the third that of hh-rlhf. The fourth has two
pairs: the chosen response with each of the rejected ones::

    {"prompt": "Name a prime.", "chosen": "Seven.", "rejected": "Nine."}
    {"conversations": [{"from": "human", "value": "Name a prime."}],
     "chosen": {"from": "gpt", "value": "Seven."}, "rejected": {"from": "gpt", "value": "Nine."}}
    {"chosen": "\n\nHuman: Name a prime.\n\nAssistant: Seven.", "rejected": "\n\nHuman: …\n\nAssistant: Nine."}
    {"prompt": "Name a prime.", "chosen": "Seven.", "rejected": ["Nine.", "One."]}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import zip_longest

from data.records import Message, RecordError
from data.sources.fields import ROLE_NAMES, Row, Turns, as_text, given_id, reach, read_turn, read_turns
from data.sources.formats.asked import Asked
from data.sources.formats.candidate import Candidate, Unusable

_SPEAKER = re.compile(r"\n\n(Human|Assistant):[ ]?")


def chosen_rejected(row: Row) -> tuple[Candidate | Unusable, ...]:
    reach(row, "chosen")  # that a column is missing comes before what another one cannot show
    others = each_rejected(row, "rejected", given_id(row))
    turns, chosen = split_side(row, "chosen")
    asked = Asked.of(row)
    before, place = asked.before(row, turns, "chosen"), "chosen" if turns else asked.field
    pairs: list[Candidate | Unusable] = []
    for field, identity in others:
        turns, rejected = split_side(row, field)
        differ = prompts_differ(("chosen", field), (before, asked.before(row, turns, field)), identity)
        prompt = asked.whole(before, place) if differ is None else ()
        pairs.append(differ or Candidate(prompt, (chosen, rejected), positioned=False, truth="A", id=identity))
    return tuple(pairs)


def each_rejected(row: Row, field: str, identity: str | None) -> list[tuple[str, str | None]]:
    """The path and the id of each rejected response: several if the column is a list of texts or of conversations."""
    value = reach(row, field)
    # A conversation is a list of objects.
    if not (isinstance(value, list) and any(isinstance(item, str | list) for item in value)):
        return [(field, identity)]
    ids = [None if identity is None else f"{identity}/{i}" for i in range(len(value))]
    return [(f"{field}.{i}", own) for i, own in enumerate(ids)]


def prompts_differ(names: tuple[str, str], prompts: tuple[Turns, Turns], identity: str | None) -> Unusable | None:
    """The `Unusable` for a row whose two conversations differ before their last answers; None if they do not."""
    if prompts[0] == prompts[1]:
        return None
    turns = zip_longest(*prompts)
    place = next(i for i, (left, right) in enumerate(turns, start=1) if left != right)
    detail = f"{names[0]} and {names[1]} differ in turn {place}, before their last answers"
    return Unusable(identity, "prompts_differ", detail)


def split_side(row: Row, field: str) -> tuple[Turns, str]:
    """The turns before the last answer in a column, and that answer; () and the text if it is only an answer."""
    value = reach(row, field)
    if isinstance(value, str) and value.startswith("\n\nHuman:"):
        return split_answer(_transcript(as_text(value, field)), field)
    return split_turns(value, field)


def split_turns(value: object, field: str) -> tuple[Turns, str]:
    """As `split_side`, of a text (which is only an answer), a message, or a list of messages."""
    if isinstance(value, str):
        return (), as_text(value, field)
    return split_answer((read_turn(value, field),) if isinstance(value, Mapping) else read_turns(value, field), field)


def split_answer(turns: Turns, field: str) -> tuple[Turns, str]:
    if not turns or turns[-1].role != "assistant":
        ends = f"ends with {turns[-1].role!r}" if turns else "is empty"
        raise RecordError(field, f"must end with the assistant's answer, {ends}")
    return turns[:-1], turns[-1].content


def _transcript(text: str) -> Turns:
    r"""The turns of ``\n\nHuman: …\n\nAssistant: …``."""
    _, *parts = _SPEAKER.split(text)
    return tuple(Message(ROLE_NAMES[who.lower()], text) for who, text in zip(parts[::2], parts[1::2], strict=True))
