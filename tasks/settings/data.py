"""Where a run's pairs come from, and how many each round uses."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from data.sources.sources import Source
from tasks.settings.section import Section

SOURCES = ("rationale", "labeled", "unlabeled", "pretraining", "heldout", "calibration")
"""The settings that are lists of sources."""


class DataSettings(Section):
    """Where the pairs come from. Several sources of one kind are read in turn and form a mixture."""

    rationale: tuple[Source, ...] = Field(
        (),
        title="Pairs with label and rationale (D_p)",
        description="The prover's training data, and the judge's in training.final and training.human_rationales. Paper: "
        "HelpSteer3, 40.5K. Not needed if no proofs are written and neither of the two is on.",
    )
    labeled: tuple[Source, ...] = Field(
        min_length=1,
        title="Labeled pairs (D_r)",
        description="Pairs for which the prover writes rationales. Paper: 1M from six data sets.",
    )
    unlabeled: tuple[Source, ...] = Field(
        (),
        title="Unlabeled pairs (D_u)",
        description="The judge labels a fresh batch of these each round. Paper: StackExchange, 0.5M per round.",
    )
    pretraining: tuple[Source, ...] = Field(
        (),
        title="Pairs for pre-training",
        description="Unlabeled pairs, used by training.pretraining. Paper (GRAM): 566K.",
        exclude_if=lambda value: not value,
    )
    heldout: tuple[Source, ...] = Field(
        (),
        title="Held-out pairs",
        description="Labeled pairs for the benchmark after each round. Empty: split off from the labeled pairs, by prompt.",
    )
    heldout_share: float = Field(
        0.05,
        ge=0,
        lt=1,
        title="Held-out share",
        description="This share of the labeled prompts is held out if no held-out source is given; of the prompts also where "
        "overlap = pair: rows that all share one prompt need a held-out source.",
    )
    calibration: tuple[Source, ...] = Field(
        (),
        title="Calibration pairs",
        description="Labeled pairs that show how confident a label must be for labels.target_precision. Like held-out pairs "
        "they are never trained on, and they do not count in any reported accuracy. 0.95 needs 59 kept ones without an error, "
        "or 93 with one: give a few hundred.",
        exclude_if=lambda value: not value,
    )
    calibration_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        title="Calibration share",
        description="This share of the labeled prompts is split off for calibration; of the labeled pairs, where overlap = pair. "
        "0: none.",
        exclude_if=lambda value: not value,
    )
    overlap: Literal["prompt", "pair"] = Field(
        "prompt",
        title="Overlap with held-out pairs",
        description="prompt: a row whose prompt is also held out is dropped from training. pair: only a row whose whole pair is "
        "held out; for data in which all rows share one prompt. The same for calibration pairs.",
    )
    contamination: Literal["report", "drop"] = Field(
        "report",
        title="Training rows found in benchmarks",
        description="Training rows are compared with benchmarks.sets. report: counted and listed by the stage overlap. drop: "
        "exact and lightly "
        "edited copies of prompts or responses are left out of training and counted; quotations are only reported.",
    )
    conflicts: Literal["first", "drop"] = Field(
        "first",
        title="Pairs with conflicting labels",
        description="Some pairs are labeled A in one row and B in another. first: keep the label that is read first. drop: use "
        "none of "
        "these rows. Counted either way.",
    )
    unlabeled_truth: bool = Field(
        False,
        title="Unlabeled rows have true labels",
        description="The unlabeled rows have true labels, which no model ever sees: the report then shows how often "
        "pseudo-labels are right.",
    )
    reviews: bool = Field(
        True,
        title="Read the run's reviews",
        description="Pairs of this run that people have labeled (gram-r2 review import) join its labeled pairs, or its "
        "calibration pairs, at its next start.",
        exclude_if=lambda value: value,
    )

    @model_validator(mode="after")
    def _weights_of_all_or_none(self) -> Self:
        for kind in SOURCES:
            lacking = [source.path for source in getattr(self, kind) if source.weight is None]
            if lacking and len(lacking) < len(getattr(self, kind)):
                raise ValueError(
                    f"{kind}: {', '.join(lacking)} has no weight, but other sources do; give a weight to all sources of a kind "
                    "or to none, since weights are proportions"
                )
        return self

    @model_validator(mode="after")
    def _something_is_held_out(self) -> Self:
        if not self.heldout and self.heldout_share == 0:
            raise ValueError(
                "give a held-out source, or a heldout_share above 0: without held-out pairs, no round can be evaluated"
            )
        return self

    @model_validator(mode="after")
    def _calibration_pairs_are_given_once(self) -> Self:
        if self.calibration and self.calibration_share:
            raise ValueError("calibration and calibration_share are both given: give one of the two")
        return self

    @property
    def calibrates(self) -> bool:
        """Whether pairs are set apart for calibration."""
        return bool(self.calibration or self.calibration_share)

    @property
    def split_off_shares(self) -> dict[str, float]:
        """The shares of the labeled prompts that are split off, by what for."""
        shares = {"heldout": 0.0 if self.heldout else self.heldout_share, "calibration": self.calibration_share}
        return {kind: share for kind, share in shares.items() if share}


class RoundSettings(Section):
    """How many rounds of self-training there are, how many pairs each uses, and what follows if one harms the judge."""

    count: int = Field(
        3,
        ge=0,
        le=20,
        title="Rounds (m)",
        description="The judge labels and learns this many times. Paper: 3. 0: only the first judge.",
    )
    pairs: int = Field(
        500_000,
        ge=1,
        title="Unlabeled pairs per round",
        description="Each round takes this many fresh pairs. Paper: 500,000.",
    )
    gate: Literal["off", "warn", "rollback"] = Field(
        "off",
        title="Gate after each round",
        description="Each round's judge is held against the best one so far on the same held-out pairs. warn: a round that "
        "harms is only said. rollback: the best judge labels the next batch, with labels.min_confidence raised to the next "
        "share of votes; what the harmful round labeled and proved is in no later training set; if the next round harms too, "
        "there are no further ones.",
        exclude_if=lambda value: value == "off",
    )
    gate_level: float = Field(
        0.05,
        gt=0,
        lt=0.5,
        title="Level of the gates",
        description="The probability that a run in which no round harms is found to be harmed in any of them: it is split over "
        "the rounds. With a margin: the probability that a round passes which is worse by the margin.",
        exclude_if=lambda value: value == 0.05,
    )
    gate_margin: float | None = Field(
        None,
        gt=0,
        lt=1,
        title="Margin of the gates",
        description="Empty: a round passes unless it is shown to harm (exact one-sided sign-flip test). A number, such as 0.02: "
        "only if it is shown to be worse by less than this (non-inferiority), which takes many more held-out pairs.",
        exclude_if=lambda value: value is None,
    )

    @model_validator(mode="after")
    def _a_gate_reads_it(self) -> Self:
        if self.gate == "off" and (self.gate_margin is not None or self.gate_level != 0.05):
            raise ValueError(
                'rounds.gate_level and rounds.gate_margin are only read by a gate: set rounds.gate = "warn" or "rollback"'
            )
        return self

    def batches(self) -> dict[str, int]:
        """What the batches of unlabeled pairs depend on."""
        return {"count": self.count, "pairs": self.pairs}
