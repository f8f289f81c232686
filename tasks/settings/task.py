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
        description="Labeled pairs. A judge that reasons also needs rationales, unless a prover is given.",
    )
    sizes: tuple[int, ...] = Field(
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
    validation_share: Share = Field(
        0.1,
        title="Validation share",
        description="Share of the prompts set aside from training, for early stopping. 0: no early stopping.",
    )
    heldout: tuple[Source, ...] = Field(
        (), title="Held-out pairs", description="For the task's benchmark. Empty: split off from the pairs, by prompt."
    )
    heldout_share: Share = Field(
        0.1, title="Held-out share", description="Share of the prompts that is held out if no held-out source is given."
    )
    overlap: Literal["prompt", "pair"] = Field(
        "prompt",
        title="Overlap between splits",
        description="What training, validation and held-out pairs must not share: prompts or whole pairs. pair is for data in "
        "which all rows share one prompt.",
    )

    @model_validator(mode="after")
    def _sizes_grow(self) -> Self:
        if list(self.sizes) != sorted(set(self.sizes)) or self.sizes[0] < 1:
            raise ValueError(f"sizes must be positive and increasing, got {list(self.sizes)}")
        return self

    @model_validator(mode="after")
    def _every_part_gets_pairs(self) -> Self:
        if not self.heldout and self.heldout_share in (0, 1):
            raise ValueError(
                f"heldout_share = {self.heldout_share:g} leaves no pairs to {'benchmark' if not self.heldout_share else 'train'} "
                "on: choose a share between 0 and 1, or give a held-out source"
            )
        if self.validation_share == 1:
            raise ValueError("validation_share = 1 leaves no pairs to train on: lower it")
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
