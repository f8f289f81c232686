"""What a plan has to assume, each value with where it comes from: ours, the sample, a finished run, or the user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field, ValidationError

from tasks.settings import Section
from tasks.settings.section import Share

OURS = "ours"


class PlanError(ValueError):
    """A run that cannot be planned: what is missing, and how to give it."""


class PlanAssumptions(Section):
    """The defaults are ours, for a plan with nothing to go by; a description says what one stands on."""

    kept_labels: Share = Field(
        0.6,
        description="Share of the judged pairs whose label is kept. The demo's first round kept 0.72, later ones more.",
    )
    kept_proofs: Share = Field(
        0.8, description="Share of the pairs given to the prover that get valid proofs. The demo: 0.89 to 1."
    )
    reply_share: Share | None = Field(
        None, description="Mean length of a judge's reply ÷ labels.max_tokens. Empty: as long as the rationales of D_p."
    )
    proof_share: Share | None = Field(
        None, description="Mean length of a proof ÷ proofs.max_tokens. Empty: as long as the rationales of D_p."
    )
    peak_tflops: float = Field(
        989.0, gt=0, description="Of one GPU. The default: an H100, dense bf16, as its data sheet says."
    )
    training_utilization: float = Field(0.4, gt=0, le=1, description="Share of the peak that a training reaches.")
    prefill_utilization: float = Field(0.4, gt=0, le=1, description="… that reading prompts reaches.")
    decoding_utilization: float = Field(
        0.1, gt=0, le=1, description="… that writing replies reaches, with many at once: memory is what bounds it."
    )
    judge_training: float | None = Field(None, gt=0, description="Tokens/s of one GPU that trains the judge.")
    judge_generation: float | None = Field(
        None, gt=0, description="Generated tokens/s of one GPU with the judge, reading prompts included."
    )
    prover_training: float | None = Field(None, gt=0, description="Tokens/s of one GPU that trains the prover.")
    prover_generation: float | None = Field(
        None, gt=0, description="Generated tokens/s of one GPU with the prover, reading and scoring included."
    )
    rows_rationale: int | None = Field(None, ge=1, description="Rows in data.rationale, where they cannot be counted.")
    rows_labeled: int | None = Field(None, ge=1, description="Rows in data.labeled, where they cannot be counted.")
    rows_unlabeled: int | None = Field(None, ge=1, description="Rows in data.unlabeled, where they cannot be counted.")
    rows_pretraining: int | None = Field(
        None, ge=1, description="Rows in data.pretraining, where they cannot be counted."
    )
    rows_heldout: int | None = Field(None, ge=1, description="Rows in data.heldout, where they cannot be counted.")


_ON_CPU: Mapping[str, float] = {
    "peak_tflops": 0.1,
    "training_utilization": 0.6,
    "prefill_utilization": 0.6,
    "decoding_utilization": 0.2,
}
"""What the demo reaches on two cores with its 0.7M parameters."""


def rates_of(dtype: str) -> tuple[str, Mapping[str, float]]:
    """What is assumed of the machine, as a layer for `assume`: a recipe in float32 is taken for one for a CPU."""
    return ("ours, for 2 CPU cores: from a run of the demo", _ON_CPU if dtype == "float32" else {})


@dataclass(frozen=True)
class Assumptions:
    """The values, and the origin of each that is not ours."""

    values: PlanAssumptions
    origins: Mapping[str, str]

    def origin(self, name: str) -> str:
        return self.origins.get(name, OURS)

    def measured(self, name: str, value: float, origin: str) -> Assumptions:
        """The same with one value, if it has none yet."""
        if getattr(self.values, name) is not None:
            return self
        values = self.values.model_copy(update={name: value})
        return Assumptions(values, {**self.origins, name: origin})

    def to_json(self) -> list[dict[str, Any]]:
        """One line for each value that a plan has used."""
        fields = PlanAssumptions.model_fields
        return [
            {"name": name, "value": value, "origin": self.origin(name), "meaning": fields[name].description}
            for name, value in self.values.model_dump().items()
            if value is not None
        ]


def assume(*layers: tuple[str, Mapping[str, Any]]) -> Assumptions:
    """The assumptions of these (origin, values), later ones first. Raises PlanError for a name or value that is none."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, layer in layers:
        values |= layer
        origins |= dict.fromkeys(layer, origin)
    try:
        return Assumptions(PlanAssumptions.model_validate(values), origins)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}, got {e['input']!r}" for e in error.errors())
        known = ", ".join(PlanAssumptions.model_fields)
        raise PlanError(f"not an assumption of a plan: {wrong}. There are {known}") from error
