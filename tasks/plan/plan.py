"""A plan: how it is made, saved as ``plan.json`` and read back.

In every flow, a plan is based on `PlanInputs`: what the sample shows about the data, and the models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from data.records import content_id
from tasks.model.chat import ChatEncoder
from tasks.model.folder import trained_share
from tasks.plan.assumptions import OURS, VOTES_CAST, Assumptions, PlanAssumptions
from tasks.plan.facts import Facts, measure, measure_scores
from tasks.plan.first_rows import Part
from tasks.plan.lengths import Lengths
from tasks.plan.sample import DataSample
from tasks.plan.self_training import self_training_stages
from tasks.plan.sizes import Located, model_size
from tasks.plan.stages import PlannedModel, PlannedStage
from tasks.settings import Role, Section, Settings

PLAN = "plan.json"
FROM_SAMPLE = "the human rationales of the sample"
_BYTES = {"float32": 4}
_OF_PROVER = ("kept_proofs", "proof_share", "prover_training", "prover_generation")
_OF_ROUNDS = ("kept_labels",)
_OF_GPUS = ("peak_tflops", "training_utilization", "prefill_utilization", "decoding_utilization")
_TERA = 1e12


@dataclass(frozen=True)
class Plan:
    """The expected stages of a run, and what they are based on. `settings` is the hash of the planned settings.

    `models` maps a role to its model's name and number of parameters. `stand_ins` names the models and parts of the data
    that were replaced by stand-ins, `stops` what would stop the run. `times` is how often all of it is done, once per seed.
    """

    run_name: str
    settings: str
    models: Mapping[str, Mapping[str, Any]]
    stand_ins: Sequence[str]
    assumptions: Sequence[Mapping[str, Any]]
    notes: Sequence[str]
    stages: Sequence[PlannedStage]
    stops: Sequence[str] = field(default_factory=list)
    times: int = 1

    def to_json(self) -> dict[str, Any]:
        return {
            "run_name": self.run_name,
            "settings": self.settings,
            "models": {role: dict(facts) for role, facts in self.models.items()},
            "stand_ins": list(self.stand_ins),
            "assumptions": [dict(one) for one in self.assumptions],
            "notes": list(self.notes),
            "stops": list(self.stops),
            "stages": [stage.to_json() for stage in self.stages],
            "totals": self.totals(),
            **({"times": self.times} if self.times > 1 else {}),
        }

    def totals(self) -> dict[str, float]:
        """The sums over all stages, which are those of one seed."""
        names = ("prompt_tokens", "generated_tokens", "trained_tokens", "flops", "gpu_seconds", "disk_bytes")
        return {name: sum(getattr(stage, name) for stage in self.stages) for name in names}

    def totals_of_all(self) -> dict[str, float]:
        """The same of all seeds."""
        return {name: self.times * total for name, total in self.totals().items()}

    def noting(self, notes: Sequence[str]) -> Plan:
        """A copy with more notes."""
        return replace(self, notes=[*self.notes, *notes])

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Plan:
        stages = [PlannedStage.from_json(row) for row in value["stages"]]
        known = {name: value[name] for name in ("run_name", "settings", "models", "stand_ins", "assumptions", "notes")}
        return cls(**known, stages=stages, stops=value.get("stops", []), times=value.get("times", 1))


def settings_id(settings: Settings) -> str:
    """Identifies the settings that a plan depends on."""
    return content_id(sections(settings))


def sections(settings: Settings) -> dict[str, Any]:
    """Only the sections of a run's settings, as JSON: those of `Settings`, and those that a flow adds."""
    found = {name for name in type(settings).model_fields if isinstance(getattr(settings, name), Section)}
    return settings.model_dump(mode="json", include=found)


@dataclass(frozen=True)
class PlanInputs:
    """What a plan is based on. `assumptions` include the reply lengths measured in the sample."""

    settings: Settings
    sample: DataSample
    located: Mapping[Role, Located]
    encoders: dict[Role, ChatEncoder]
    facts: Facts
    assumptions: Assumptions
    models: dict[Role, PlannedModel]

    @property
    def assumed(self) -> PlanAssumptions:
        return self.assumptions.values

    def plan(
        self, run_name: str, stages: Sequence[PlannedStage], notes: Sequence[str] = (), stops: Sequence[str] = ()
    ) -> Plan:
        """These stages as a plan."""
        located, models = self.located, self.models
        shown: dict[str, dict[str, Any]] = {
            role: {"model": located[_whose(role)].model, "parameters": model.size.parameters}
            for role, model in models.items()
        }
        known = all(model.training_tokens_per_s and model.generated_tokens_per_s for model in models.values())
        only_read = any(stage.place.kind == "judge-proofs" for stage in stages)
        unused = (
            *(() if "prover" in located else _OF_PROVER),
            *(_OF_GPUS if known and not only_read else ()),
            *(() if self.settings.rounds.count else _OF_ROUNDS),
        )
        used = [one for one in self.assumptions.to_json() if one["name"] not in unused]
        replaced = {one.model: one.folder for one in located.values() if one.stand_in}
        all_notes = [
            f"{model}: {folder} stands in for it, with its own tokenizer and size" for model, folder in replaced.items()
        ]
        all_notes += [*self.sample.notes, *_doubts(self.settings, self.facts), *notes]
        stand_ins = [*replaced, *self.sample.stand_ins]
        stops = [*_stops(self.settings, self.facts), *stops]
        if stand_ins:  # which say nothing certain of the run itself
            all_notes, stops = [*all_notes, *stops], []
        return Plan(run_name, settings_id(self.settings), shown, stand_ins, used, all_notes, stages, stops)


def plan_inputs(
    settings: Settings,
    sample: DataSample,
    located: Mapping[Role, Located],
    assumptions: Assumptions,
    scored: bool = False,
) -> PlanInputs:
    """What a plan of these settings is based on; `scored` means that the judge gives each response a score.

    Raises PlanError if a model's size is unknown, or no sampled rationale is usable.
    """
    encoders = {
        role: ChatEncoder.load(str(one.folder), bool(models.trust_remote_code), models.system)
        for role, one in located.items()
        for models in [settings.models.for_role(role)]
    }
    facts = measure_scores(settings, sample, encoders["judge"]) if scored else measure(settings, sample, encoders)
    assumptions = _with_lengths(assumptions, facts, settings)
    working: Sequence[Role] = ["scalar"] if scored else list(located)
    models = {role: planned_model(role, located[_whose(role)], settings, assumptions.values) for role in working}
    return PlanInputs(settings, sample, located, encoders, facts, assumptions, models)


def _whose(role: Role) -> Role:
    """The role whose base model this one uses: a scalar model is made from the judge's."""
    return "prover" if role == "prover" else "judge"


def plan_self_training(
    settings: Settings,
    run_name: str,
    sample: DataSample,
    located: Mapping[Role, Located],
    assumptions: Assumptions,
) -> Plan:
    """The plan of self-training. Raises PlanError like `plan_inputs`."""
    found = plan_inputs(settings, sample, located, assumptions)
    return found.plan(run_name, self_training_stages(settings, found.facts, found.assumed, found.models))


def roles(settings: Settings) -> dict[Role, str]:
    """The base models of a run, by role."""
    found: dict[Role, str] = {"judge": settings.models.judge_base}
    return {**found, "prover": settings.models.prover_base} if settings.writes_proofs() else found


def planned_model(role: Role, located: Located, settings: Settings, assumed: PlanAssumptions) -> PlannedModel:
    """A base model with its speeds. A scalar model generates nothing, so it has no generation rate."""
    peak, scalar = assumed.peak_tflops * _TERA, role == "scalar"
    return PlannedModel(
        model_size(located.folder, bool(settings.models.for_role(role).trust_remote_code), scalar),
        _BYTES.get(settings.models.dtype, 2),
        assumed.training_utilization * peak,
        assumed.prefill_utilization * peak,
        assumed.decoding_utilization * peak,
        getattr(assumed, f"{_whose(role)}_training"),
        None if scalar else getattr(assumed, f"{role}_generation"),
        trained_share(str(located.folder), settings.training.trainable_layers),
    )


def _with_lengths(assumptions: Assumptions, facts: Facts, settings: Settings) -> Assumptions:
    """Fills in the shares that were not given: replies are as long as what the models learn from."""
    learned: tuple[tuple[str, Role, int], ...] = (
        ("reply_share", "judge", settings.labels.max_tokens),
        ("proof_share", "prover", settings.proofs.max_tokens),
    )
    for name, role, most in learned:
        if role in facts.human:
            share = min(1.0, facts.human[role].reply / most)
            assumptions = assumptions.measured(name, share, FROM_SAMPLE)
    labels, votes = settings.labels, settings.judge_prompt.has_rationale and settings.labels.source == "judge"
    if votes and settings.rounds.count and labels.voting in VOTES_CAST:
        assumptions = assumptions.measured("votes_cast", VOTES_CAST[labels.voting], OURS)
    return assumptions


def _read(settings: Settings, facts: Facts) -> Iterator[tuple[str, Role, Lengths, int]]:
    """(what, role, lengths, tokens left for the prompt) of everything that the models read."""
    room = {"judge": settings.judge_room, "prover": settings.proofs.max_tokens}
    parts: dict[str, tuple[Part, dict[Role, Lengths]]] = {
        "human rationales": ("rationale", facts.human),
        "labeled pairs": ("labeled", facts.labeled),
        "unlabeled pairs": ("unlabeled", facts.unlabeled if settings.rounds.count else {}),
    }
    for what, (part, lengths) in parts.items():
        for role, one in lengths.items() if facts.rows.get(part) else ():
            yield what, role, one, settings.models.max_tokens - room.get(role, 0)


def _stops(settings: Settings, facts: Facts) -> list[str]:
    """What would stop a run with these settings, as far as the sample shows."""
    stops = [
        f"{what}: none of the sampled ones fits the {role}'s context; models.max_tokens = {settings.models.max_tokens} leaves "
        f"{left} tokens for the prompt"
        for what, role, lengths, left in _read(settings, facts)
        if not lengths.fits
    ]
    rounds, there = settings.rounds, facts.rows.get("unlabeled", 0.0)
    if rounds.count and there < (needed := (rounds.count - 1) * rounds.pairs + 1):
        stops.append(
            f"{rounds.count} rounds of {rounds.pairs:,} unlabeled pairs need at least {needed:,}; only {there:,.0f} are "
            "available: add sources to data.unlabeled, or lower rounds.pairs or rounds.count"
        )
    return stops


def _doubts(settings: Settings, facts: Facts) -> list[str]:
    """Caveats about a plan with these settings, for its reader."""
    notes = [
        f"{what}: {lengths.fits:.1%} fit the {role}'s context (models.max_tokens); the rest are dropped"
        for what, role, lengths, _ in _read(settings, facts)
        if 0 < lengths.fits < 1
    ]
    if facts.human and facts.shaped < 1:
        notes.append(
            f"human rationales: {facts.shaped:.1%} have the format that the prompt {settings.judge_prompt.name!r} requires"
        )
    wanted, there = settings.rounds.count * settings.rounds.pairs, facts.rows.get("unlabeled", 0.0)
    if wanted > there >= wanted - settings.rounds.pairs + 1:
        notes.append(
            f"{settings.rounds.count} rounds of {settings.rounds.pairs:,} pairs need {wanted:,} unlabeled pairs; "
            f"only {there:,.0f} are available"
        )
    if settings.rounds.gate == "rollback":
        notes.append(
            f"all {settings.rounds.count} rounds are planned; after two harmful ones in a row, rounds.gate ends the run"
        )
    if settings.retention.judges != "all" or settings.retention.completions != "all":
        notes.append("disk counts everything written, including what retention removes later")
    return notes
