"""The column map: how a user states what the columns of an unknown data set contain.

For a row such as ``{"instruction": "Why?", "output_1": "Because.", "output_2": "Ask again.", "annotator": 2}``::

    ColumnMap(prompt="instruction", response_a="output_1", response_b="output_2",
              label="annotator", label_a=[1], label_b=[2], label_tie=[0])
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from data.records import Label, RecordError
from data.sources.fields import got, same

Scalar = str | int | FiniteFloat | bool
"""A value of a label column or of a filter; `same` says which ones are equal."""


class ColumnMap(BaseModel):
    """Which column of a row holds what. Dots reach into nested columns: ``chosen.value``, ``messages.1.content``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str = Field(title="Prompt", description="Column with the prompt: a string or a list of messages.")
    prompt_extra: str | None = Field(
        default=None,
        title="Extra prompt text",
        description="Column appended to the prompt after a blank line, if not empty (such as Alpaca's input).",
    )
    system: str | None = Field(
        default=None, title="System", description="Column with the system message; may be empty in a row."
    )
    response_a: str | None = Field(
        default=None, title="Response A", description="Column with the response that is shown first."
    )
    response_b: str | None = Field(
        default=None, title="Response B", description="Column with the response that is shown second."
    )
    chosen: str | None = Field(
        default=None,
        title="Chosen",
        description="Column with the better response; its position is drawn from the seed.",
    )
    rejected: str | None = Field(default=None, title="Rejected", description="Column with the worse response.")
    label: str | None = Field(default=None, title="Label", description="Column that states whether A or B is better.")
    label_a: list[Scalar] = Field(
        default=[], title="Values for A", description="Values of the label column that mean A."
    )
    label_b: list[Scalar] = Field(
        default=[], title="Values for B", description="Values of the label column that mean B."
    )
    label_tie: list[Scalar] = Field(
        default=[], title="Values for a tie", description="Values of the label column that mean a tie."
    )
    rationale: str | None = Field(
        default=None, title="Rationale", description="Column with the text that argues for the label."
    )
    id: str | None = Field(
        default=None,
        title="Id",
        description="Column with the row's id; if not set, the id is a hash of the row's content.",
    )

    @property
    def has_label(self) -> bool:
        return self.label is not None or self.chosen is not None

    @property
    def read(self) -> frozenset[str]:
        """All columns that the map names."""
        given = self.model_dump(exclude={"label_a", "label_b", "label_tie"})
        return frozenset(name for name in given.values() if name is not None)

    @model_validator(mode="after")
    def _one_way_to_name_the_responses(self) -> ColumnMap:
        pair, preference = (self.response_a, self.response_b), (self.chosen, self.rejected)
        if (None in pair) == (None in preference) or (any(pair) and any(preference)):
            raise ValueError(
                "name either both response_a and response_b or both chosen and rejected, not a mix: "
                "the first two keep the file's positions, the last two get seeded positions"
            )
        if self.chosen is not None and self.label is not None:
            raise ValueError("label belongs with response_a and response_b; chosen and rejected already are the label")
        if self.rationale is not None and self.label is None:
            raise ValueError(
                "a rationale needs response_a, response_b and label: its text names the responses by position"
            )
        return self

    @model_validator(mode="after")
    def _label_values(self) -> ColumnMap:
        values = [*self.label_a, *self.label_b, *self.label_tie]
        if self.label is None and values:
            raise ValueError("label_a, label_b and label_tie are values of the label column, but label is not given")
        if self.label is not None and not (self.label_a and self.label_b):
            raise ValueError("label needs label_a and label_b: the values that mean A and those that mean B")
        for i, value in enumerate(values):
            if any(same(value, other) for other in values[:i]):
                raise ValueError(f"the label value {value!r} is given twice; each value must have one meaning")
        return self

    def label_of(self, value: object) -> Label | Literal["tie"]:
        """The meaning of a value of the label column. Raises RecordError for a value that is not in the map."""
        meanings: list[tuple[Label | Literal["tie"], list[Scalar]]]
        meanings = [("A", self.label_a), ("B", self.label_b), ("tie", self.label_tie)]
        for meaning, values in meanings:
            if any(same(value, known) for known in values):
                return meaning
        known_values = ", ".join(f"{values} for {meaning}" for meaning, values in meanings)
        raise RecordError(
            self.label or "", f"has a value that the map does not list: {got(value)}; it has {known_values}"
        )
