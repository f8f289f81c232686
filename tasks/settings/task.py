"""What a judge is adapted to."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from data.sources.sources import Source
from tasks.settings.data import DataSettings
from tasks.settings.section import Section


class TaskSettings(Section):
    """A task's labeled pairs, and how many of them each adapted judge learns from."""

    pairs: tuple[Source, ...] = Field(
        min_length=1,
        title="Pairs of the task",
        description="Labeled pairs. A judge that reasons also needs rationales, unless a prover is given.",
    )
    sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1000, 2000, 4000, 8000),
        min_length=1,
        title="Sizes (pairs)",
        description="One judge is adapted on each size; smaller sets are subsets of larger ones. Paper: 1K to 4K (STEM), "
        "2K to 8K (code).",
    )
    prover: str = Field(
        "",
        title="Prover",
        description="Folder or hub name of a trained prover that writes the rationales, such as runs/NAME/prover/checkpoint. "
        "Empty: the pairs come with rationales.",
    )
    validation_share: float = Field(
        0.1,
        ge=0,
        lt=1,
        title="Validation share",
        description="This share of the prompts is set aside from training, for early stopping. 0: no early stopping.",
    )
    heldout: tuple[Source, ...] = Field(
        (),
        title="Held-out pairs",
        description="The task's benchmark is played on them. Empty: they are split off from the pairs, by prompt.",
    )
    heldout_share: float = Field(
        0.1,
        ge=0,
        lt=1,
        title="Held-out share",
        description="This share of the prompts is held out if no held-out source is given; of the prompts also where "
        "overlap = pair: rows that all share one prompt need a held-out source.",
    )
    overlap: Literal["prompt", "pair"] = Field(
        "prompt",
        title="Overlap between splits",
        description="What training, validation and held-out pairs must not share: prompts or whole pairs. pair is for data in "
        "which all rows share one prompt.",
    )

    @model_validator(mode="after")
    def _sizes_grow(self) -> Self:
        if list(self.sizes) != sorted(set(self.sizes)):
            raise ValueError(f"sizes must be increasing, got {list(self.sizes)}")
        return self

    @model_validator(mode="after")
    def _something_is_held_out(self) -> Self:
        if not self.heldout and self.heldout_share == 0:
            raise ValueError(
                "heldout_share = 0 leaves no pairs to benchmark on: choose a share above 0, or give a held-out source"
            )
        return self

    def as_data(self, with_rationales: bool) -> DataSettings:
        """These settings as the section data of a run."""
        return DataSettings(
            labeled=self.pairs,
            rationale=self.pairs if with_rationales else (),
            heldout=self.heldout,
            heldout_share=self.heldout_share,
            overlap=self.overlap,
        )
