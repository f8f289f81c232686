"""The common form of the rows of every format, before ordering, filtering and conversion to a kind of record.

A row of the format "chosen-rejected", and its candidate::

    {"prompt": "Why is the sky blue?", "chosen": "Rayleigh scattering.", "rejected": "It reflects the sea."}
    Candidate(prompt=(Message("user", "Why is the sky blue?"),),
              responses=("Rayleigh scattering.", "It reflects the sea."), positioned=False, truth="A")
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from data.records import Label, Message

Kind = Literal["pair", "pair_with_truth", "preference", "rationale"]
Truth = Label | Literal["tie"] | None
DropReason = Literal[
    "filtered",
    "tie",
    "no_label",
    "empty_prompt",
    "empty_response",
    "equal_responses",
    "few_responses",
    "too_long",
    "prompts_differ",
    "no_rationale",
    "rationale_by_position",
    "not_text",
    "tools",
    "malformed",
]
REFUSED: tuple[DropReason, ...] = ("not_text", "tools")
"""Why a row that its format reads cannot be shown to a judge."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pair as its format states it. `responses` are in file order and `truth` refers to it; an empty prompt is ().

    If the responses have no positions other than their order in the file (`positioned` is False), the reader draws
    positions for them. `truth` is None if labels are not read or the row has none.
    """

    prompt: tuple[Message, ...]
    responses: tuple[str, str]
    positioned: bool = True
    truth: Truth = None
    rationale: str | None = None
    id: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Unusable:
    """A well-formed row that describes no pair."""

    id: str | None
    reason: DropReason
    detail: str


def truth_of_scores(first: float, second: float) -> Truth:
    """The truth according to two scores: the higher one is better."""
    return "tie" if first == second else "A" if first > second else "B"
