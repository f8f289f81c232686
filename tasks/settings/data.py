"""Where a run's pairs come from, and how many a round takes."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from data.sources.sources import Source
from tasks.settings.section import Section, Share


class DataSettings(Section):
    """Where the pairs come from. Several sources of one kind are read one after the other and make a mixture."""

    rationale: tuple[Source, ...] = Field(
        (),
        title="Pairs with label and rationale (D_p)",
        description="What the prover is trained on. Paper: HelpSteer3, 40.5K. Not needed where no proofs are written.",
    )
    labeled: tuple[Source, ...] = Field(
        min_length=1,
        title="Labeled pairs (D_r)",
        description="Pairs that get rationales from the prover. Paper: 1M from six sets.",
    )
    unlabeled: tuple[Source, ...] = Field(
        (),
        title="Unlabeled pairs (D_u)",
        description="A fresh batch of these is judged each round. Paper: StackExchange, 0.5M a round.",
    )
    pretraining: tuple[Source, ...] = Field(
        (),
        title="Pairs for pre-training",
        description="Unlabeled: what training.pretraining reads. Paper (GRAM): 566K.",
        exclude_if=lambda value: not value,
    )
    heldout: tuple[Source, ...] = Field(
        (),
        title="Held-out pairs",
        description="Labeled pairs for the benchmark after each round. Empty: split off the labeled ones by prompt.",
    )
    heldout_share: Share = Field(
        0.05,
        title="Held-out share",
        description="Share of the labeled prompts that are held out, where no held-out source is given.",
    )
    overlap: Literal["prompt", "pair"] = Field(
        "prompt",
        title="Overlap with held-out pairs",
        description="A row is dropped from training when its prompt (default), or its whole pair, is also held out. "
        "pair is for data in which all rows share one prompt.",
    )
    contamination: Literal["report", "drop"] = Field(
        "report",
        title="Rows that a benchmark holds",
        description="Of the sets in benchmarks.sets. report: they are counted and listed by the stage overlap. drop: exact "
        "and lightly edited copies of prompts or responses are left out of training and counted; quotations are reported.",
    )
    conflicts: Literal["first", "drop"] = Field(
        "first",
        title="Pairs with both labels",
        description="A pair that is labeled A here and B there. first: the label that is read first stays. drop: none of "
        "them is used. Counted either way.",
    )
    unlabeled_truth: bool = Field(
        False,
        title="Unlabeled rows carry their true label",
        description="Where they do, the report shows how often pseudo-labels are right. No model ever sees it.",
    )

    @model_validator(mode="after")
    def _weights_of_all_or_none(self) -> Self:
        for kind in ("rationale", "labeled", "unlabeled", "pretraining", "heldout"):
            lacking = [source.path for source in getattr(self, kind) if source.weight is None]
            if lacking and len(lacking) < len(getattr(self, kind)):
                raise ValueError(
                    f"{kind}: {', '.join(lacking)} has no weight and others have one; give a weight to all sources of a kind "
                    "or to none, since weights are proportions"
                )
        return self

    @model_validator(mode="after")
    def _something_is_held_out(self) -> Self:
        if not self.heldout and self.heldout_share == 0:
            raise ValueError(
                "give a held-out source, or a heldout_share above 0: without held-out pairs no round can be measured"
            )
        return self


class RoundSettings(Section):
    """How often self-training goes round, and on how much."""

    count: int = Field(3, ge=0, le=20, title="Rounds (m)", description="Paper: 3. 0: only the first judge.")
    pairs: int = Field(
        500_000, ge=1, title="Unlabeled pairs a round", description="Fresh ones each round. Paper: 500,000."
    )
