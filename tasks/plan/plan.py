"""A plan as it is made, kept in ``plan.json`` and read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from data.records import content_id
from tasks.chat import ChatEncoder
from tasks.plan.assumptions import Assumptions, PlanAssumptions
from tasks.plan.facts import Facts, measure
from tasks.plan.sample import DataSample
from tasks.plan.self_training import self_training_stages
from tasks.plan.sizes import Located, model_size
from tasks.plan.stages import PlannedModel, PlannedStage
from tasks.settings import Role, Settings

PLAN = "plan.json"
FROM_SAMPLE = "the human rationales of the sample"
_BYTES = {"float32": 4}
_OF_PROVER = ("kept_proofs", "proof_share", "prover_training", "prover_generation")
_OF_GPUS = ("peak_tflops", "training_utilization", "prefill_utilization", "decoding_utilization")
_TERA = 1e12


@dataclass(frozen=True)
class Plan:
    """The stages of a run as they are expected, and what that rests on. `settings` is the hash of those planned for.

    `models` maps a role to its model's name and its number of parameters. `stand_ins` names the models and the parts of the
    data for which something else stood in.
    """

    run_name: str
    settings: str
    models: Mapping[str, Mapping[str, Any]]
    stand_ins: Sequence[str]
    assumptions: Sequence[Mapping[str, Any]]
    notes: Sequence[str]
    stages: Sequence[PlannedStage]

    def to_json(self) -> dict[str, Any]:
        return {
            "run_name": self.run_name,
            "settings": self.settings,
            "models": {role: dict(facts) for role, facts in self.models.items()},
            "stand_ins": list(self.stand_ins),
            "assumptions": [dict(one) for one in self.assumptions],
            "notes": list(self.notes),
            "stages": [stage.to_json() for stage in self.stages],
            "totals": self.totals(),
        }

    def totals(self) -> dict[str, float]:
        """The sums over all stages."""
        names = ("prompt_tokens", "generated_tokens", "trained_tokens", "flops", "gpu_seconds", "disk_bytes")
        return {name: sum(getattr(stage, name) for stage in self.stages) for name in names}

    def noting(self, notes: Sequence[str]) -> Plan:
        """The same with more notes."""
        return replace(self, notes=[*self.notes, *notes])

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Plan:
        stages = [PlannedStage.from_json(row) for row in value["stages"]]
        known = {name: value[name] for name in ("run_name", "settings", "models", "stand_ins", "assumptions", "notes")}
        return cls(**known, stages=stages)


def settings_id(settings: Settings) -> str:
    """Identifies the settings that a plan depends on."""
    return content_id(sections(settings))


def sections(settings: Settings) -> dict[str, Any]:
    """The sections of a run's settings alone, as JSON."""
    return settings.model_dump(mode="json", include=set(Settings.model_fields))


def plan_self_training(
    settings: Settings,
    run_name: str,
    sample: DataSample,
    located: Mapping[Role, Located],
    assumptions: Assumptions,
) -> Plan:
    """The plan of a self-training. Raises PlanError where a model's size is not known, or nothing in the sample fits."""
    encoders = {
        role: ChatEncoder.load(str(one.folder), bool(settings.models.for_role(role).trust_remote_code))
        for role, one in located.items()
    }
    facts = measure(settings, sample, encoders)
    assumptions = _with_lengths(assumptions, facts, settings)
    models = {role: planned_model(role, one, settings, assumptions.values) for role, one in located.items()}
    stages = self_training_stages(settings, facts, assumptions.values, models)
    shown: dict[str, dict[str, Any]] = {
        role: {"model": one.model, "parameters": models[role].size.parameters} for role, one in located.items()
    }
    known = all(model.training_tokens_per_s and model.generated_tokens_per_s for model in models.values())
    unused = (*(() if "prover" in located else _OF_PROVER), *(_OF_GPUS if known else ()))
    used = [one for one in assumptions.to_json() if one["name"] not in unused]
    replaced = {one.model: one.folder for one in located.values() if one.stand_in}
    notes = [
        f"{model}: {folder} stands in for it, with its tokenizer and its size" for model, folder in replaced.items()
    ]
    notes += [*sample.notes, *_doubts(settings, facts)]
    stand_ins = [*replaced, *sample.stand_ins]
    return Plan(run_name, settings_id(settings), shown, stand_ins, used, notes, stages)


def roles(settings: Settings) -> dict[Role, str]:
    """The base models that a run works with, by their roles."""
    found: dict[Role, str] = {"judge": settings.models.judge_base}
    return {**found, "prover": settings.models.prover_base} if settings.writes_proofs() else found


def planned_model(role: Role, located: Located, settings: Settings, assumed: PlanAssumptions) -> PlannedModel:
    """A base model with its speeds."""
    peak = assumed.peak_tflops * _TERA
    return PlannedModel(
        model_size(located.folder, bool(settings.models.for_role(role).trust_remote_code)),
        _BYTES.get(settings.models.dtype, 2),
        assumed.training_utilization * peak,
        assumed.prefill_utilization * peak,
        assumed.decoding_utilization * peak,
        getattr(assumed, f"{role}_training"),
        getattr(assumed, f"{role}_generation"),
    )


def _with_lengths(assumptions: Assumptions, facts: Facts, settings: Settings) -> Assumptions:
    """The shares of the replies that nobody has given: as long as what the models learn from."""
    learned: tuple[tuple[str, Role, int], ...] = (
        ("reply_share", "judge", settings.labels.max_tokens),
        ("proof_share", "prover", settings.proofs.max_tokens),
    )
    for name, role, most in learned:
        if role in facts.human:
            share = min(1.0, facts.human[role].reply / most)
            assumptions = assumptions.measured(name, share, FROM_SAMPLE)
    return assumptions


def _doubts(settings: Settings, facts: Facts) -> list[str]:
    """What a reader should know of a plan with these settings."""
    notes = []
    read = {"human rationales": facts.human, "labeled pairs": facts.labeled, "unlabeled pairs": facts.unlabeled}
    for what, lengths in read.items():
        notes += [
            f"{what}: {one.fits:.1%} fit the {role}'s context (models.max_tokens); the others are dropped"
            for role, one in lengths.items()
            if one.fits < 1 and (what != "unlabeled pairs" or settings.rounds.count)
        ]
    if facts.shaped < 1 and facts.rows.get("rationale"):
        notes.append(
            f"human rationales: {facts.shaped:.1%} have the shape of the prompt {settings.judge_prompt.name!r}"
        )
    wanted, there = settings.rounds.count * settings.rounds.pairs, facts.rows.get("unlabeled", 0.0)
    if wanted > there:
        notes.append(
            f"{settings.rounds.count} rounds of {settings.rounds.pairs:,} pairs want {wanted:,}; there are {there:,.0f}"
        )
    if settings.retention.judges != "all" or settings.retention.completions != "all":
        notes.append("disk is without what retention removes")
    return notes
