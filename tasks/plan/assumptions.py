"""What a plan has to assume, each value with its origin: the default, the sample, a finished run, or the user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field, ValidationError

from tasks.settings import Section
from tasks.settings.section import Share
from tasks.settings.wording import complaints

OURS = "default"


class PlanError(ValueError):
    """A run that cannot be planned: what is missing, and how to provide it."""


class PlanAssumptions(Section):
    """The defaults apply if nothing better is known; a description states what a default is based on."""

    kept_labels: Share = Field(
        0.6,
        description="Share of the judged pairs whose label is kept. The demo's rounds kept 0.58, 0.82 and 0.95.",
    )
    kept_proofs: Share = Field(
        0.8, description="Share of the pairs given to the prover that get valid proofs. In the demo: 0.91 to 1."
    )
    votes_cast: Share | None = Field(
        None,
        description="Share of labels.votes that is cast if labels.voting ends votes early. Of the demo's votes, with "
        "labels.min_confidence = 0.75, exact cast 0.81 of 8 and of 16; beta 0.60 of 8 and 0.37 of 16.",
    )
    reply_share: Share | None = Field(
        None, description="Mean length of a judge's reply ÷ labels.max_tokens. Empty: as long as the rationales of D_p."
    )
    proof_share: Share | None = Field(
        None, description="Mean length of a proof ÷ proofs.max_tokens. Empty: as long as the rationales of D_p."
    )
    peak_tflops: float = Field(
        989.0,
        gt=0,
        description="Peak of the device in TFLOP/s. Default: 989 for an H100 (dense bf16, per its data sheet); 0.1 for two CPU "
        "cores, if models.dtype is float32.",
    )
    training_utilization: float = Field(
        0.35,
        gt=0,
        le=1,
        description="Share of the peak reached in training. On one H100, counted as here: 0.30 in packs of 4,096 tokens (3B, 8B "
        "LoRA), 0.37 in packs of 8,192 (3B).",
    )
    prefill_utilization: float = Field(
        0.6,
        gt=0,
        le=1,
        description="Share of the peak reached when reading prompts. On one H100, counted as here: 0.70 (8B, prompts of 600 "
        "tokens).",
    )
    decoding_utilization: float = Field(
        0.2,
        gt=0,
        le=1,
        description="Share of the peak reached when generating many replies at once, which memory bandwidth limits. On one "
        "H100, counted as here: 0.23 (8B, 8 replies of 512 tokens to each of 256 prompts).",
    )
    judge_training: float | None = Field(None, gt=0, description="Tokens/s of one GPU when training the judge.")
    judge_generation: float | None = Field(
        None, gt=0, description="Generated tokens/s of one GPU with the judge, including the time for reading prompts."
    )
    prover_training: float | None = Field(None, gt=0, description="Tokens/s of one GPU when training the prover.")
    prover_generation: float | None = Field(
        None,
        gt=0,
        description="Generated tokens/s of one GPU with the prover, including the time for reading and scoring.",
    )
    rows_rationale: int | None = Field(None, ge=1, description="Rows in data.rationale, if they cannot be counted.")
    rows_labeled: int | None = Field(None, ge=1, description="Rows in data.labeled, if they cannot be counted.")
    rows_unlabeled: int | None = Field(None, ge=1, description="Rows in data.unlabeled, if they cannot be counted.")
    rows_pretraining: int | None = Field(None, ge=1, description="Rows in data.pretraining, if they cannot be counted.")
    rows_heldout: int | None = Field(None, ge=1, description="Rows in data.heldout, if they cannot be counted.")
    rows_calibration: int | None = Field(None, ge=1, description="Rows in data.calibration, if they cannot be counted.")


VOTES_CAST: Mapping[str, float] = {"exact": 0.81, "beta": 0.6}
"""Share of the votes that is cast, by `labels.voting`: measured on the demo's, see `tests/benchmarks/voting.py`."""

_ON_CPU: Mapping[str, float] = {
    "peak_tflops": 0.1,
    "training_utilization": 0.6,
    "prefill_utilization": 0.6,
    "decoding_utilization": 0.2,
}
"""What the demo reaches on two CPU cores with its 0.7M parameters."""


def rates_of(dtype: str) -> tuple[str, Mapping[str, float]]:
    """What is assumed about the machine, as a layer for `assume`: a float32 recipe is treated as one for a CPU."""
    return ("default for 2 CPU cores, from a run of the demo", _ON_CPU if dtype == "float32" else {})


@dataclass(frozen=True)
class Assumptions:
    """The values, and the origin of each that is not a default."""

    values: PlanAssumptions
    origins: Mapping[str, str]

    def origin(self, name: str) -> str:
        return self.origins.get(name, OURS)

    def measured(self, name: str, value: float, origin: str) -> Assumptions:
        """A copy with this value set, if it has none yet."""
        if getattr(self.values, name) is not None:
            return self
        values = self.values.model_copy(update={name: value})
        return Assumptions(values, {**self.origins, name: origin})

    def to_json(self) -> list[dict[str, Any]]:
        """One entry for each value that is set."""
        fields = PlanAssumptions.model_fields
        return [
            {"name": name, "value": value, "origin": self.origin(name), "meaning": fields[name].description}
            for name, value in self.values.model_dump().items()
            if value is not None
        ]


def assume(*layers: tuple[str, Mapping[str, Any]]) -> Assumptions:
    """Merges layers of (origin, values), later ones taking precedence. Raises PlanError for an invalid name or value."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, layer in layers:
        values |= layer
        origins |= dict.fromkeys(layer, origin)
    try:
        return Assumptions(PlanAssumptions.model_validate(values), origins)
    except ValidationError as error:
        wrong = "; ".join(line for _, line in complaints(PlanAssumptions, error, "assumption"))
        raise PlanError(f"invalid assumption: {wrong}") from error
