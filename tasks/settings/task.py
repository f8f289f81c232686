"""What a judge is adapted to."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from data.sources.sources import Source
from tasks.settings.data import DataSettings
from tasks.settings.section import Section, Share


class TaskSettings(Section):
    """A task's labeled pairs, and how many of them each adapted judge learns from."""

    pairs: tuple[Source, ...] = Field(
        min_length=1,
        title="Pairs of the task",
        description="Labeled; for a judge that reasons with rationales too, unless a prover is named.",
    )
    sizes: tuple[int, ...] = Field(
        (1000, 2000, 4000, 8000),
        min_length=1,
        title="Sizes (pairs)",
        description="A judge is adapted on each; smaller ones are part of larger ones. Paper: 1K to 4K (STEM), 2K to 8K (code).",
    )
    prover: str = Field(
        "",
        title="Prover",
        description="Folder or hub name of a trained prover that writes the rationales, such as runs/NAME/prover/checkpoint. "
        "Empty: the pairs bring their own.",
    )
    validation_share: Share = Field(
        0.1,
        title="Validation share",
        description="Share of the prompts that are kept from training, to stop it early. 0: no early stopping.",
    )
    heldout: tuple[Source, ...] = Field(
        (), title="Held-out pairs", description="Of the task, for its benchmark. Empty: split off by prompt."
    )
    heldout_share: Share = Field(0.1, title="Held-out share", description="Where no held-out source is given.")
    overlap: Literal["prompt", "pair"] = Field(
        "prompt",
        title="What must not be in two parts",
        description="Of training, validation and held-out pairs. pair is for data in which all rows share one prompt.",
    )

    @model_validator(mode="after")
    def _sizes_grow(self) -> Self:
        if list(self.sizes) != sorted(set(self.sizes)) or self.sizes[0] < 1:
            raise ValueError(f"sizes must be positive and grow, got {list(self.sizes)}")
        return self

    def as_data(self, with_rationales: bool) -> DataSettings:
        """The same as the data of a run."""
        return DataSettings(
            labeled=self.pairs,
            rationale=self.pairs if with_rationales else (),
            heldout=self.heldout,
            heldout_share=self.heldout_share,
            overlap=self.overlap,
        )
