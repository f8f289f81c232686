"""Plans the stages of the flow ``baselines``: three judges without rationales, then self-training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tasks.model.orders import ORDERS
from tasks.plan.assumptions import Assumptions
from tasks.plan.facts import Facts, measure, measure_scores
from tasks.plan.first_rows import Part
from tasks.plan.games import SCORED, Answers, answers_of, planned_benchmark
from tasks.plan.plan import Plan, plan_inputs, planned_model
from tasks.plan.sample import DataSample, Sample
from tasks.plan.self_training import batches_of, self_training_stages
from tasks.plan.sizes import Located
from tasks.plan.stages import Examples, Place, PlannedModel, PlannedStage, planned_training
from tasks.settings import BaselineSettings, Optimization, Role, Settings

FROM_FLOPS = (
    "judges without rationales generate at most one token per request: the time of their games is estimated from FLOPs, "
    "even if rates are known"
)
_LABEL_TOKENS = 1
"""The part of a reply that GRAM learns: the label token."""
_PAIRS: tuple[Part, ...] = ("labeled", "rationale")


@dataclass(frozen=True)
class Baselines:
    """What the plan of the judges without rationales is based on.

    `scores` and `labels` are the sample as scalar and label-only judges see it; `models` has the judge's base model, and
    the scalar model made from it.
    """

    settings: Settings
    baselines: BaselineSettings
    scores: Facts
    labels: Facts
    models: Mapping[Role, PlannedModel]


def plan_baselines(
    settings: Settings,
    baselines: BaselineSettings,
    run_name: str,
    sample: DataSample,
    located: Mapping[Role, Located],
    assumptions: Assumptions,
) -> Plan:
    """The plan of the flow with one seed. Raises PlanError like `plan_inputs`."""
    found = plan_inputs(settings, sample, located, assumptions)
    scalar = planned_model("scalar", located["judge"], settings, found.assumed)
    by_label, encoder = settings_of_label_judges(settings, baselines), found.encoders["judge"]
    responses: Mapping[Part, Sequence[Sample]] = {"pretraining": sample.parts.get("unlabeled", ())}
    compared = Baselines(
        by_label,
        baselines,
        measure_scores(settings, sample, encoder),
        measure(by_label, replace(sample, parts={**sample.parts, **responses}), {"judge": encoder}),
        {"judge": replace(found.models["judge"], generated_tokens_per_s=None), "scalar": scalar},
    )
    data, *rest = self_training_stages(settings, found.facts, found.assumed, found.models)
    stages = [data, *baseline_stages(compared), *rest]
    with_scalar = replace(found, models={**found.models, "scalar": scalar})
    return with_scalar.plan(run_name, stages, [*_doubts(compared), FROM_FLOPS])


def settings_of_label_judges(settings: Settings, baselines: BaselineSettings) -> Settings:
    """The settings for label-only judges, with GRAM's pre-training on the unlabeled pairs."""
    by_label = settings.with_label_judge(baselines.label_prompt, "labels")
    training = by_label.training.model_copy(update={"pretraining": baselines.gram_pretraining})
    return by_label.model_copy(update={"training": training})


def baseline_stages(compared: Baselines) -> list[PlannedStage]:
    """All stages of the judges without rationales, in the order of the flow."""
    return [*_discriminative(compared), *_label_only(compared), *_gram(compared)]


def _discriminative(compared: Baselines) -> Iterator[PlannedStage]:
    """Each pair once, as two conversations; the scalar trainer does not pack."""
    pairs, model = _pairs(compared.scores, 1, 0), compared.models["scalar"]
    yield _trained(compared, "discriminative", pairs, compared.baselines.discriminative, model)
    yield from _games("discriminative", compared.scores, SCORED, model)


def _label_only(compared: Baselines) -> Iterator[PlannedStage]:
    """Each pair in both orders; the reply is the label and the end-of-turn token."""
    pairs = _packed(compared, _pairs(compared.labels, len(ORDERS), compared.labels.bare_reply))
    yield _trained(compared, "label-only", pairs, compared.baselines.label_only, compared.models["judge"])
    yield from _games("label-only", compared.labels, answers_of(compared.settings, 0), compared.models["judge"])


def _gram(compared: Baselines) -> Iterator[PlannedStage]:
    """Both responses of all rounds' unlabeled pairs; then each labeled pair in both orders."""
    labels, model = compared.labels, compared.models["judge"]
    optimization, lengths = compared.baselines.gram_pretraining, labels.pretraining
    if optimization is not None and lengths is not None and compared.settings.rounds.count:
        unlabeled, row_bytes = sum(batches_of(compared.settings, labels)), labels.row_bytes["unlabeled"]
        responses = Examples(unlabeled, lengths.fits, lengths.tokens + lengths.reply, row_bytes)
        place = Place("gram/pretrained", "pretrain", None, ("gram/responses", "gram/pretrained"))
        recomputed = compared.settings.training.recomputed_share
        yield planned_training(place, _packed(compared, responses), optimization, model, recomputed)
    pairs = _packed(compared, _pairs(labels, len(ORDERS), _LABEL_TOKENS))
    yield _trained(compared, "gram", pairs, compared.baselines.gram, model)
    yield from _games("gram", labels, answers_of(compared.settings, 0), model)


def _pairs(facts: Facts, orders: int, reply: float) -> Examples:
    """All labeled pairs, including those with a human rationale, as examples with a reply of `reply` tokens."""
    found = {"labeled": facts.labeled, "rationale": facts.human}
    parts = [
        Examples(orders * facts.rows[part], lengths.fits, lengths.tokens + reply, facts.row_bytes[part])
        for part in _PAIRS
        if part in facts.rows and (lengths := found[part].get("judge")) is not None
    ]
    return parts[0] if len(parts) == 1 else parts[0].plus(parts[1])


def _packed(compared: Baselines, examples: Examples) -> Examples:
    settings = compared.settings
    return replace(examples, packed_to=settings.training.packed_to(settings.models.max_tokens))


def _trained(
    compared: Baselines, name: str, examples: Examples, optimization: Optimization, model: PlannedModel
) -> PlannedStage:
    place = Place(f"{name}/judge", "train-judge", None, (f"{name}/examples", f"{name}/judge"))
    return planned_training(place, examples, optimization, model, compared.settings.training.recomputed_share)


def _games(name: str, facts: Facts, answers: Answers, model: PlannedModel) -> Iterator[PlannedStage]:
    return (planned_benchmark(name, None, played, answers, model) for played in facts.sets)


def _doubts(compared: Baselines) -> list[str]:
    """Notes on pairs that judges without rationales have to drop."""
    shown = {"the discriminative model's": compared.scores, "the label-only judges'": compared.labels}
    return [
        f"labeled pairs: {facts.labeled['judge'].fits:.1%} fit {whose} context (models.max_tokens); the rest are dropped"
        for whose, facts in shown.items()
        if facts.labeled["judge"].fits < 1
    ]
