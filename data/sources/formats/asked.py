"""What a chosen/rejected row asks in its own columns: a prompt, with an input, a history and a system message.

The columns are those of LLaMA-Factory's ranking sets. The input follows the instruction after a blank line, as in Alpaca's
template and in every other prompt here::

    {"instruction": "Name a prime.", "input": "Below ten.", "history": [["Hi", "Hello."]], "system": "Be brief.",
     "chosen": "Seven.", "rejected": "Nine."}
"""

from __future__ import annotations

from dataclasses import dataclass

from data.records import Message, RecordError
from data.sources.fields import (
    Row,
    Turns,
    as_prompt,
    as_text,
    contents,
    got,
    is_empty,
    is_null,
    text_or_turns,
    with_system,
    with_text,
)

PROMPTS = ("prompt", "conversations", "instruction")
"""The columns that can hold the prompt: of each row, the first that is not null or NaN is read."""


def prompt_columns(row: Row) -> frozenset[str]:
    """The columns from which the prompt of a row is read, if they are there."""
    return frozenset({_prompt_column(row) or "prompt", "input", "history", "system"})


def _prompt_column(row: Row) -> str | None:
    return next((name for name in PROMPTS if not is_null(row.get(name))), None)


@dataclass(frozen=True, slots=True)
class Asked:
    """The prompt in a row's own columns: `given` in the column `field` (None if there is none), and what is added to it."""

    field: str
    given: Turns | None
    extra: str
    history: Turns
    system: str

    @classmethod
    def of(cls, row: Row) -> Asked:
        field, extra = _prompt_column(row), _text(row, "input")
        given = text_or_turns(row[field], field) if field is not None else None
        if given is None and extra.strip():
            field, given, extra = "input", (Message("user", extra),), ""
        if given and extra.strip() == given[-1].content.strip():
            extra = ""  # some files repeat the prompt in this column
        as_prompt(given or (), field or "prompt")
        return cls(field or "prompt", given, extra, _history(row), _text(row, "system"))

    def before(self, row: Row, turns: Turns, side: str) -> Turns:
        """The turns before a response: `turns`, those in its own column `side`, or else this row's prompt.

        Raises RecordError if the row has no prompt, or if the conversation in `side` is another one.
        """
        if not turns and self.given is None:
            raise RecordError("prompt", f"is missing, and {side!r} is only an answer: the row {contents(row)}")
        if not turns:
            return with_text(self.given or (), self.extra)
        if not self._is_in(turns):
            raise RecordError(
                side, "is a conversation that does not contain the row's own prompt; it is unclear which is right"
            )
        return turns

    def whole(self, turns: Turns, place: str) -> Turns:
        """The prompt: the turns before the responses, found in `place`, after the row's system message and history."""
        return with_system(self._after_history(as_prompt(turns, place)), self.system, "system", place)

    def _is_in(self, turns: Turns) -> bool:
        """Whether a conversation repeats the row's prompt, or (as in UltraFeedback) one of its user turns is that prompt."""
        given = as_prompt(self.given or (), self.field)
        if self.extra.strip() or self.field in ("instruction", "input"):
            # How the conversation joins instruction and input is its own affair.
            texts = [*(turn.content for turn in given), self.extra]
            return all(any(text.strip() in turn.content for turn in turns) for text in texts)
        return not given or given == turns or (len(given) == 1 and given[0] in turns)

    def _after_history(self, prompt: Turns) -> Turns:
        if not self.history or not prompt:
            return prompt
        system, turns = (prompt[:1], prompt[1:]) if prompt[0].role == "system" else ((), prompt)
        if turns[: len(self.history)] == self.history:
            return prompt
        if len(turns) > 1:
            raise RecordError("history", "is not how the row's conversation begins; it is unclear which is right")
        return (*system, *self.history, *turns)


def _text(row: Row, name: str) -> str:
    """The text in a column; empty if there is no such column or it is null or NaN."""
    return "" if is_null(row.get(name)) else as_text(row[name], name)


def _history(row: Row) -> Turns:
    """The earlier turns in LLaMA-Factory's list of [user, assistant] pairs."""
    value = row.get("history")
    if is_empty(value):
        return ()
    if not isinstance(value, list):
        raise RecordError("history", f"must be a list of [user, assistant] pairs, got {got(value)}")
    turns: list[Message] = []
    for i, pair in enumerate(value):
        if not isinstance(pair, list) or len(pair) != 2:
            raise RecordError(f"history[{i}]", f"must be a pair of texts, [user, assistant], got {got(pair)}")
        turns += [Message("user", as_text(pair[0], f"history[{i}][0]")),
                  Message("assistant", as_text(pair[1], f"history[{i}][1]"))]  # fmt: skip
    return tuple(turns)
