"""The column map: how a user says which columns of an unknown data set hold what.

For a row such as ``{"instruction": "Why?", "output_1": "Because.", "output_2": "Ask again.", "annotator": 2}``::

    ColumnMap(prompt="instruction", response_a="output_1", response_b="output_2",
              label="annotator", label_a=[1], label_b=[2], label_tie=[0])
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from data.records import Label, RecordError
from data.sources.fields import got

Scalar = str | int | float | bool


class ColumnMap(BaseModel):
    """Which column of a row holds what. Dots reach into nested columns: ``chosen.value``, ``messages.1.content``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str = Field(title="Prompt", description="Column of the prompt: a text, or a list of messages.")
    prompt_extra: str | None = Field(
        default=None,
        title="More of the prompt",
        description="Column appended after a blank line if not empty (Alpaca's input).",
    )
    system: str | None = Field(
        default=None, title="System", description="Column of the system turn; may be empty in a row."
    )
    response_a: str | None = Field(
        default=None, title="Response A", description="Column of the response that is shown first."
    )
    response_b: str | None = Field(
        default=None, title="Response B", description="Column of the response that is shown second."
    )
    chosen: str | None = Field(
        default=None, title="Chosen", description="Column of the better response; its place is seeded."
    )
    rejected: str | None = Field(default=None, title="Rejected", description="Column of the worse response.")
    label: str | None = Field(default=None, title="Label", description="Column that says which of A and B is better.")
    label_a: list[Scalar] = Field(
        default=[], title="Values for A", description="Values of the label column that mean A."
    )
    label_b: list[Scalar] = Field(
        default=[], title="Values for B", description="Values of the label column that mean B."
    )
    label_tie: list[Scalar] = Field(
        default=[], title="Values for a tie", description="Values of the label column: neither."
    )
    rationale: str | None = Field(
        default=None, title="Rationale", description="Column of the text that argues for the label."
    )
    id: str | None = Field(
        default=None, title="Id", description="Column of the row's id; without one, a hash of its content."
    )

    @property
    def has_label(self) -> bool:
        return self.label is not None or self.chosen is not None

    @model_validator(mode="after")
    def _one_way_to_name_the_responses(self) -> ColumnMap:
        pair, preference = (self.response_a, self.response_b), (self.chosen, self.rejected)
        if (None in pair) == (None in preference) or (any(pair) and any(preference)):
            raise ValueError(
                "name both of response_a and response_b, or both of chosen and rejected, and not a mix: "
                "the first two keep the positions of the file, the last two get seeded positions"
            )
        if self.chosen is not None and self.label is not None:
            raise ValueError("label is for response_a and response_b; chosen and rejected are the label already")
        if self.rationale is not None and self.label is None:
            raise ValueError(
                "a rationale needs response_a, response_b and label: its text names the responses by position"
            )
        return self

    @model_validator(mode="after")
    def _label_values(self) -> ColumnMap:
        values = [*self.label_a, *self.label_b, *self.label_tie]
        if self.label is None and values:
            raise ValueError("label_a, label_b and label_tie are values of the label column, and label is not given")
        if self.label is not None and not (self.label_a and self.label_b):
            raise ValueError("label needs label_a and label_b: which of its values mean A, and which mean B")
        for i, value in enumerate(values):
            if any(_same(value, other) for other in values[:i]):
                raise ValueError(f"the label value {value!r} is given twice; each value means one thing")
        return self

    def label_of(self, value: object) -> Label | Literal["tie"]:
        """What a value of the label column means. Raises RecordError for one that the map does not name."""
        meanings: list[tuple[Label | Literal["tie"], list[Scalar]]]
        meanings = [("A", self.label_a), ("B", self.label_b), ("tie", self.label_tie)]
        for meaning, values in meanings:
            if any(_same(value, known) for known in values):
                return meaning
        known_values = ", ".join(f"{values} for {meaning}" for meaning, values in meanings)
        raise RecordError(self.label or "", f"has a value without a meaning: {got(value)}; the map has {known_values}")


def _same(left: object, right: object) -> bool:
    """Equality of label values, in which True is not 1."""
    return isinstance(left, bool) == isinstance(right, bool) and left == right
