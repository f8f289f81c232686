"""The column map: how a user states what the columns of an unknown data set contain.

For a row such as ``{"instruction": "Why?", "output_1": "Because.", "output_2": "Ask again.", "annotator": 2}``::

    ColumnMap(prompt="instruction", response_a="output_1", response_b="output_2",
              label="annotator", label_a=[1], label_b=[2], label_tie=[0])
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from data.records import Label, RecordError
from data.sources.fields import Row, got, is_empty, reach, same

Scalar = str | int | FiniteFloat | bool
"""A value of a label column or of a filter; `same` says which ones are equal."""


class ColumnMap(BaseModel):
    """Which column of a row holds what. Dots reach into nested columns: ``chosen.value``, ``messages.1.content``.

    Fields that are omitted from dumps at their default were added later: keys of older stages stay valid.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str | None = Field(
        default=None,
        title="Prompt",
        description="Column with the prompt: a string or a list of messages. Empty: the responses are whole conversations, "
        "and what comes before their last answers is the prompt.",
    )
    prompt_extra: str | None = Field(
        default=None,
        title="Extra prompt text",
        description="Column appended to the prompt after a blank line, if not empty (such as Alpaca's input).",
    )
    system: str | None = Field(
        default=None, title="System", description="Column with the system message; may be empty in a row."
    )
    response_a: str | None = Field(
        default=None,
        title="Response A",
        description="Column with the response that is shown first: a string, or a conversation that ends with it.",
    )
    response_b: str | None = Field(
        default=None, title="Response B", description="Column with the response that is shown second."
    )
    chosen: str | None = Field(
        default=None,
        title="Chosen",
        description="Column with the better response; its position is drawn from the seed.",
    )
    rejected: str | None = Field(
        default=None,
        title="Rejected",
        description="Column with the worse response, or with a list of worse ones: a pair is made with each.",
    )
    label: str | list[str] | None = Field(
        default=None,
        title="Label",
        description="Column that states whether A or B is better; or several, of which the most frequent meaning counts, "
        "and a draw is a tie.",
    )
    label_a: list[Scalar] = Field(
        default=[], title="Values for A", description="Values of the label column that mean A."
    )
    label_b: list[Scalar] = Field(
        default=[], title="Values for B", description="Values of the label column that mean B."
    )
    label_tie: list[Scalar] = Field(
        default=[], title="Values for a tie", description="Values of the label column that mean a tie."
    )
    is_a: str | None = Field(
        default=None,
        title="A is better",
        description="Instead of label: column that is true or 1 if A is better, else false, 0 or null.",
        exclude_if=lambda value: value is None,
    )
    is_b: str | None = Field(
        default=None,
        title="B is better",
        description="The same for B.",
        exclude_if=lambda value: value is None,
    )
    is_tie: str | None = Field(
        default=None,
        title="Neither is better",
        description="The same for a tie.",
        exclude_if=lambda value: value is None,
    )
    score_a: str | None = Field(
        default=None,
        title="Score of A",
        description="Column with a score of response_a or chosen: the response with the higher score is better, equal "
        "scores are a tie.",
        exclude_if=lambda value: value is None,
    )
    score_b: str | None = Field(
        default=None,
        title="Score of B",
        description="Column with a score of response_b or rejected.",
        exclude_if=lambda value: value is None,
    )
    rationale: str | None = Field(
        default=None,
        title="Rationale",
        description="Column with the text that argues for the label. With chosen and rejected, the text must name the "
        "responses so, if at all: 'the chosen response' is rewritten to its position.",
    )
    id: str | None = Field(
        default=None,
        title="Id",
        description="Column with the row's id; if not set, the id is a hash of the row's content.",
    )
    json_columns: list[str] = Field(
        default=[],
        title="Columns of JSON text",
        description="Columns whose cells are JSON written as text, such as a list of messages in a CSV file.",
        exclude_if=lambda value: not value,
    )

    @property
    def labels(self) -> list[str]:
        """The label columns."""
        return [self.label] if isinstance(self.label, str) else self.label or []

    @property
    def one_hot(self) -> dict[Label | Literal["tie"], str]:
        """The column that marks each outcome."""
        marks: list[tuple[Label | Literal["tie"], str | None]] = [
            ("A", self.is_a),
            ("B", self.is_b),
            ("tie", self.is_tie),
        ]
        return {meaning: column for meaning, column in marks if column is not None}

    @property
    def has_label(self) -> bool:
        return bool(self.labels or self.one_hot or self.score_a) or self.chosen is not None

    @property
    def read(self) -> frozenset[str]:
        """All columns that the map names."""
        given = self.model_dump(exclude={"label", "label_a", "label_b", "label_tie", "json_columns"})
        return frozenset(name for name in given.values() if name is not None) | {*self.labels}

    @model_validator(mode="after")
    def _one_way_to_name_the_responses(self) -> ColumnMap:
        pair, preference = (self.response_a, self.response_b), (self.chosen, self.rejected)
        if (None in pair) == (None in preference) or (any(pair) and any(preference)):
            raise ValueError(
                "name either both response_a and response_b or both chosen and rejected, not a mix: "
                "the first two keep the file's positions, the last two get seeded positions"
            )
        if self.chosen is not None and (self.labels or self.one_hot):
            raise ValueError("label belongs with response_a and response_b; chosen and rejected already are the label")
        if self.rationale is not None and not self.has_label:
            raise ValueError(
                "a rationale argues for a label: give chosen and rejected, or response_a, response_b and label"
            )
        return self

    @model_validator(mode="after")
    def _one_way_to_say_which_is_better(self) -> ColumnMap:
        if self.one_hot and (self.is_a is None or self.is_b is None):
            raise ValueError("is_a and is_b belong together: the columns that mark which response is better")
        if (self.score_a is None) != (self.score_b is None):
            raise ValueError("score_a and score_b belong together: the scores of the two responses")
        if sum(map(bool, (self.labels, self.one_hot, self.score_a))) > 1:
            raise ValueError("give one of label, is_a with is_b, and score_a with score_b: each states which is better")
        return self

    @model_validator(mode="after")
    def _label_values(self) -> ColumnMap:
        values = [*self.label_a, *self.label_b, *self.label_tie]
        if not self.labels and values:
            raise ValueError("label_a, label_b and label_tie are values of the label column, but label is not given")
        if self.labels and not (self.label_a and self.label_b):
            raise ValueError("label needs label_a and label_b: the values that mean A and those that mean B")
        for i, value in enumerate(values):
            if any(same(value, other) for other in values[:i]):
                raise ValueError(f"the label value {value!r} is given twice; each value must have one meaning")
        return self

    def label_in(self, row: Row) -> Label | Literal["tie"]:
        """What the label columns mean: of several, the most frequent meaning, a draw being a tie.

        Raises RecordError for a value that is not in the map.
        """
        meanings = Counter(self._meaning(column, reach(row, column)) for column in self.labels)
        (first, n), *others = meanings.most_common(2)
        return "tie" if others and others[0][1] == n else first

    def _meaning(self, column: str, value: object) -> Label | Literal["tie"]:
        meanings: list[tuple[Label | Literal["tie"], list[Scalar]]]
        meanings = [("A", self.label_a), ("B", self.label_b), ("tie", self.label_tie)]
        for meaning, values in meanings:
            if any(same(value, known) for known in values):
                return meaning
        known_values = ", ".join(f"{values} for {meaning}" for meaning, values in meanings)
        raise RecordError(column, f"has a value that the map does not list: {got(value)}; it has {known_values}")

    def marked_in(self, row: Row) -> Label | Literal["tie"] | None:
        """The outcome whose column is marked; None if none is. Raises RecordError if several are, or a cell is no mark."""
        marked: list[tuple[Label | Literal["tie"], str]] = []
        for meaning, column in self.one_hot.items():
            value = reach(row, column)
            mark = value.strip().lower() if isinstance(value, str) else value  # CSV has texts only
            if mark in (1, "1", "true"):
                marked.append((meaning, column))
            elif mark not in (0, "0", "false") and not is_empty(value):
                raise RecordError(column, f"must be true or false, 1 or 0, or null, got {got(value)}")
        if len(marked) > 1:
            raise RecordError(marked[1][1], f"is marked, and so is {marked[0][1]!r}: a row has one outcome")
        return marked[0][0] if marked else None
