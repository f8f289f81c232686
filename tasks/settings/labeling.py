"""How rationales are written and pairs are labeled, and which of them are kept."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, Self

from pydantic import Field, model_validator

from tasks.settings.section import Section, Share


class ProofSettings(Section):
    """How the prover writes rationales, and which are kept."""

    write_for: Literal["all", "labeled", "nothing"] = Field(
        "all",
        title="Write proofs for",
        description="all: labeled and pseudo-labeled pairs. labeled: labeled pairs only; pseudo-labeled ones are learned with an "
        "empty rationale (a control). nothing: all pairs are learned with an empty rationale.",
    )
    k: int = Field(
        4,
        ge=1,
        le=256,
        title="Proofs per order (k)",
        description="This many proofs are sampled in one request for each order that is proved. The paper does not give k.",
    )
    orders: Literal["both", "one"] = Field(
        "both",
        title="Orders to prove",
        description="both: proofs and training examples for each of a pair's two orders. one: for one of them, drawn by a fair "
        "coin with a seed, so that A and B stay balanced: half the proofs, half the examples. In the small world, with as many "
        "trained tokens: 94.8% after the last round, and 94.9% with both (3 seeds, sd 1.4 and 2.4).",
        exclude_if=lambda value: value == "both",
    )
    temperature: float = Field(
        0.8, gt=0, le=2, title="Temperature", description="It must be above 0 (paper: non-zero, value not given)."
    )
    top_p: float = Field(
        1.0,
        gt=0,
        le=1,
        title="Top-p",
        description="Tokens are sampled from this share of the distribution. 1: the whole of it.",
    )
    max_tokens: int = Field(
        1024,
        ge=8,
        title="Maximum proof length (tokens)",
        description="A proof cut off at this length is rejected and counted.",
    )
    choose: Literal["best", "random"] = Field(
        "best",
        title="Choice among valid proofs",
        description="best: the one with the highest Eq. 5 score. random: a seeded draw (a control).",
    )
    min_score: float | None = Field(
        -1.0,
        le=0,
        title="Minimum score",
        description="Proofs scoring lower by Eq. 5 are rejected. Below −1, the pair made the proof less likely. Empty: no limit.",
    )
    max_rationale_tokens: int | None = Field(
        None,
        ge=1,
        title="Maximum rationale length (tokens)",
        description="Longer rationales are rejected (paper step 4d: too long; value not given). Empty: no limit.",
    )
    grounded_quotes: bool = Field(
        True,
        title="Quotes must be in the pair",
        description="Reject proofs that quote text, or in the compact form list words, found in neither prompt nor responses.",
    )
    both_orders: bool = Field(
        True,
        title="Both orders",
        description="Keep a pair only if it has a valid proof for each order that is proved, which keeps A and B balanced.",
    )
    audit_pairs: int = Field(
        0,
        ge=0,
        le=2000,
        title="Pairs of the audit of proofs",
        description="On this many kept pairs of each round, the prover also argues for the wrong label. Reported: how often "
        "those proofs pass the rules, and how well Eq. 5 and the judge tell right from wrong; a prover that proves anything is a "
        "warning. Costs twice the proofs of these pairs, two readings of each valid one by the judge, and two starts of an "
        "engine a round. No label and no training depends on it. 200 give an AUC to about ± 0.05. 0: no audit.",
        exclude_if=lambda value: not value,
    )


class LabelSettings(Section):
    """How the judge labels unlabeled pairs, and which labels are kept."""

    source: Literal["judge", "truth"] = Field(
        "judge",
        title="Source of labels",
        description="judge: the judge's votes. truth: the true labels, if the data has them (a control).",
    )
    votes: int = Field(
        8,
        ge=2,
        le=256,
        multiple_of=2,
        title="Votes per pair",
        description="The judge judges a pair this many times, half of them in each order, so the number is even. Paper: several.",
    )
    voting: Literal["exact", "all", "beta"] = Field(
        "exact",
        title="When votes end",
        description="When the votes on a pair end. exact: as soon as the remaining ones cannot change which label it gets, or "
        "why it is dropped: the same labels for fewer tokens. all: when all are cast, so that min_confidence and orders_agree "
        "can be changed later without voting again. beta: also as soon as the majority is right with a probability of 0.95 "
        "(adaptive consistency, Aggarwal et al. 2023), which changes results. Label-only judges do not vote.",
    )
    temperature: float = Field(
        1.0, gt=0, le=2, title="Temperature", description="Votes are sampled at this temperature."
    )
    top_p: float = Field(
        1.0,
        gt=0,
        le=1,
        title="Top-p",
        description="Tokens are sampled from this share of the distribution. 1: the whole of it.",
    )
    max_tokens: int = Field(
        1024,
        ge=1,
        title="Maximum reply length (tokens)",
        description="A reply cut off at this length is not a valid vote.",
    )
    min_confidence: Share = Field(
        0.75,
        title="Minimum confidence",
        description="Labels below it are dropped. Confidence is votes for the winner ÷ votes cast, malformed replies included; "
        "for a label-only judge, which is not sampled, the label's probability averaged over both orders. Paper: a "
        "threshold, value not given.",
    )
    orders_agree: bool = Field(
        False,
        title="Both orders must agree",
        description="Drop a pair if the majority vote differs between its two orders.",
    )
    grounded_votes: bool = Field(
        False,
        title="Only grounded votes count",
        description="A vote does not count if its rationale quotes text, or in the compact form lists words, found in neither "
        "prompt nor responses. It stays in the number of votes cast, as a malformed reply does.",
    )
    memory: float = Field(
        0.0,
        ge=0,
        lt=1,
        title="Memory of votes",
        description="The weight of what earlier rounds voted on a pair (after ConsistRM, arXiv:2604.07484, which weighs past and "
        "present alike: 0.5). Above 0, each round votes again on all pairs of the rounds before it: a pair's share is "
        "(1 − memory) × its share of the votes now + memory × the mean of its earlier shares, and decides label and "
        "confidence. All kept labels are proved again, and the judge learns the newest: with 3 rounds, twice the votes and "
        "proofs. It needs voting = all. 0: each pair is voted on once.",
        exclude_if=lambda value: value == 0,
    )
    target_precision: float | None = Field(
        None,
        gt=0.5,
        lt=1,
        title="Target precision",
        description="In place of min_confidence: each round uses the loosest of the thresholds for which the judge's votes on "
        "calibration pairs (data.calibration, data.calibration_share) show that a kept label is right with at least this "
        "probability. For each domain (source) with enough of these pairs, and for all others together. Empty: off.",
        exclude_if=lambda value: value is None,
    )
    target_confidence: float = Field(
        0.95,
        gt=0.5,
        lt=1,
        title="Confidence of the target",
        description="How sure it must be that the target precision is reached, in each round for all domains together: a "
        "promise is broken in at most 5% of rounds at 0.95, if the unlabeled pairs are like the calibration pairs.",
    )
    thresholds: tuple[Share, ...] = Field(
        (0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5),
        min_length=1,
        max_length=10,
        title="Thresholds",
        description="The values of min_confidence that are tested for the target precision, from strict to loose, until the "
        "first that fails. Of 8 votes, 0.95 asks for all, 0.85 for 7 and 0.65 for 6.",
    )
    if_infeasible: Literal["stop", "strictest"] = Field(
        "stop",
        title="If no threshold reaches the target",
        description="stop: no label is kept. Unless other domains have labels, the run then stops in the first round with an "
        "error, and later ends with its best judge. strictest: the strictest threshold is used, with a warning.",
    )
    max_one_sided: Share = Field(
        0.8,
        title="Maximum share on one side",
        description="The run stops if more than this share of the kept labels is A, or is B, as the judge then has a position "
        "bias; it only warns if chance could explain it (p of 0.01 or more).",
    )

    @model_validator(mode="after")
    def _thresholds_go_from_strict_to_loose(self) -> Self:
        if any(after >= before for before, after in pairwise(self.thresholds)):
            raise ValueError(
                f"thresholds = {list(self.thresholds)}: they are tested from strict to loose, so each must be below the last"
            )
        return self
