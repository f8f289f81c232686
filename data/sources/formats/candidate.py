"""What the rows of every format become, before order, filters and kind of record.

A row of the format "chosen-rejected", and what it says::

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
    "malformed",
]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pair as its format tells it. `responses` are in file order and `truth` goes by it; an empty prompt is ().

    Where nothing but the order in the file gives the responses their places (`positioned` is False), the reader draws
    places for them. `truth` is None where labels are not read or the row has none.
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
    """A row that is well-formed and yet describes no pair."""

    id: str | None
    reason: DropReason
    detail: str


def truth_of_scores(first: float, second: float) -> Truth:
    """What two scores say, of which the higher one is the better."""
    return "tie" if first == second else "A" if first > second else "B"
