"""Plans the stages of the flow ``adapt``: the judge before adaptation, and adapted on each size of a task."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from data.records import content_id
from tasks.model.orders import ORDERS
from tasks.model.scalar import SCALAR
from tasks.plan.assumptions import Assumptions
from tasks.plan.facts import HELD_OUT
from tasks.plan.games import SCORED, Answers, answers_of, planned_benchmark
from tasks.plan.lengths import Lengths, then
from tasks.plan.plan import Plan, PlanInputs, plan_inputs, sections
from tasks.plan.proofs import Proofs, planned_proofs, proved_orders
from tasks.plan.sample import DataSample
from tasks.plan.self_training import planned_data, planned_export
from tasks.plan.sizes import Located
from tasks.plan.stages import BYTES_AN_EXAMPLE, Examples, Place, PlannedStage, planned_training, sequences
from tasks.run.space import BYTES_A_TOKEN
from tasks.settings import Optimization, Role, Settings, TaskSettings

LIKE_PROOFS, HALF = "as long as the proofs", "default: half of proofs.max_tokens"
_EARLY = (
    "early stopping may end a training before its last step, so steps, tokens and time of the trainings are upper bounds; "
    "evaluation on the validation part is included in their FLOPs and GPU time"
)


@dataclass(frozen=True)
class Adapting:
    """The flow's parameters beside its settings."""

    task: TaskSettings
    optimization: Optimization
    prompt: str

    @property
    def scored(self) -> bool:
        return self.prompt == SCALAR


@dataclass(frozen=True)
class Learned:
    """The training data of the task: the number of pairs, the examples per pair, and the lengths and bytes of one example."""

    pairs: float
    examples: int
    lengths: Lengths
    row_bytes: float

    def of(self, pairs: float, packed_to: int | None) -> Examples:
        """The examples from this many pairs."""
        tokens = self.lengths.tokens + self.lengths.reply
        return Examples(pairs * self.examples, self.lengths.fits, tokens, self.row_bytes, packed_to)


def plan_adaptation(
    settings: Settings,
    adapting: Adapting,
    run_name: str,
    sample: DataSample,
    located: Mapping[Role, Located],
    assumptions: Assumptions,
) -> Plan:
    """The plan of an adaptation; a prover in `located` is the task's own. Raises PlanError like `plan_inputs`."""
    if "prover" in located:
        assumptions = _with_proofs(assumptions, settings)
    found = plan_inputs(settings, sample, located, assumptions, adapting.scored)
    plan = found.plan(run_name, *adaptation(found, adapting))
    added = {"task": adapting.task.model_dump(mode="json"), "optimization": adapting.optimization.model_dump()}
    return replace(plan, settings=content_id({**sections(settings), **added}))


def adaptation(found: PlanInputs, adapting: Adapting) -> tuple[list[PlannedStage], list[str], list[str]]:
    """All stages in the order of the flow, notes on them for the reader, and what would stop the run."""
    planned = _Adaptation(found, adapting)
    return list(planned.stages()), planned.notes(), planned.stops()


def _with_proofs(assumptions: Assumptions, settings: Settings) -> Assumptions:
    """Adds lengths that the sample's rationales do not give: of the prover's proofs, and of replies learned from them."""
    assumptions = assumptions.measured("proof_share", 0.5, HALF)
    proof_tokens = (assumptions.values.proof_share or 0.0) * settings.proofs.max_tokens
    return assumptions.measured("reply_share", min(1.0, proof_tokens / settings.labels.max_tokens), LIKE_PROOFS)


class _Adaptation:
    """Follows the algorithm of the flow, with numbers in place of artifacts."""

    def __init__(self, found: PlanInputs, adapting: Adapting) -> None:
        self.found, self.adapting, self.settings = found, adapting, found.settings
        self.facts = found.facts
        self.model = found.models["scalar" if adapting.scored else "judge"]
        packed_to = found.settings.training.packed_to(found.settings.models.max_tokens)
        self.packed_to = None if adapting.scored else packed_to
        self.proofs = self._proofs()
        self.learned = self._learned()

    def stages(self) -> Iterator[PlannedStage]:
        task, general = self.adapting.task, [one.label for one in self.facts.sets if one.label != HELD_OUT]
        yield planned_data(self.facts)
        if self.proofs is not None:
            yield self.proofs
        yield self._split()
        yield from self._games("before", [HELD_OUT, *general])
        for size in task.sizes:
            yield self._adapted(size)
            yield from self._games(f"size-{size}", [HELD_OUT, *(general if size == task.sizes[-1] else ())])
        if not self.adapting.scored:
            yield planned_export(len(task.sizes), self.model)

    def stops(self) -> list[str]:
        wanted, there = self.adapting.task.sizes[-1], self._there()
        short = (
            f"task.sizes: {wanted:,} pairs are requested, but only about {there:,.0f} will be available for training"
        )
        return [short] if there < wanted else []

    def notes(self) -> list[str]:
        return [_EARLY] if self._stops_early() else []

    def _proofs(self) -> PlannedStage | None:
        """The prover's proofs of all labeled pairs, from which the training sets are drawn."""
        if "prover" not in self.found.models:
            return None
        assumed, facts = self.found.assumed, self.facts
        place = Place("round-0/proofs", "prove", None, ("round-0/proofs", "round-0/selected"))
        proofs = Proofs.of(self.settings, self._proof_tokens(), assumed.kept_proofs)
        prompts, row_bytes = facts.labeled["prover"], facts.row_bytes["labeled"]
        return planned_proofs(place, facts.rows["labeled"], row_bytes, prompts, proofs, self.found.models["prover"])

    def _proof_tokens(self) -> float:
        return (self.found.assumed.proof_share or 0.0) * self.settings.proofs.max_tokens

    def _learned(self) -> Learned:
        facts, labeled = self.facts, self.facts.labeled["judge"]
        pairs, row_bytes = facts.rows["labeled"], facts.row_bytes["labeled"]
        if self.adapting.scored:
            return Learned(pairs, 1, labeled, row_bytes)
        if self.proofs is not None:
            fits, reply = then(facts.labeled["prover"], labeled), self._proof_tokens()
            lengths = Lengths(fits, labeled.tokens, reply)
            orders = proved_orders(self.settings)
            return Learned(self.proofs.rows_out, orders, lengths, row_bytes + BYTES_A_TOKEN * reply)
        if self.settings.judge_prompt.has_rationale:
            # A human rationale refers to the responses by position, so it is valid in one order only.
            return Learned(
                facts.shaped * facts.rows["rationale"], 1, facts.human["judge"], facts.row_bytes["rationale"]
            )
        by_token = self.settings.training.label_loss == "labels"
        lengths = replace(labeled, reply=1 if by_token else facts.bare_reply)
        return Learned(pairs, len(ORDERS), lengths, row_bytes)

    def _there(self) -> float:
        """Pairs that are not reserved for validation."""
        return (1 - self.adapting.task.validation_share) * self.learned.pairs

    def _validation(self) -> Examples:
        return self.learned.of(self.adapting.task.validation_share * self.learned.pairs, self.packed_to)

    def _split(self) -> PlannedStage:
        """The validation part and the training sets; the bytes of a training set are counted in its training."""
        with_human = self.settings.judge_prompt.has_rationale and self.proofs is None
        pairs, validation = self.learned.pairs, self._validation()
        used = self.adapting.task.validation_share * pairs + min(self.adapting.task.sizes[-1], self._there())
        copied = pairs * self.learned.examples if with_human else 0.0
        n_bytes = (validation.n + copied) * (self.learned.row_bytes + BYTES_AN_EXAMPLE)
        parts = ("human-examples", "task") if with_human else ("task",)
        rows_in = self.facts.rows["rationale"] if with_human else pairs
        return PlannedStage(Place("task", "task", None, parts), rows_in, used, disk_bytes=n_bytes)

    def _adapted(self, size: int) -> PlannedStage:
        """A training on this many pairs, or on those available, with all its evaluations on the validation part."""
        examples, optimization = self.learned.of(min(size, self._there()), self.packed_to), self.adapting.optimization
        place = Place(f"size-{size}/judge", "train-judge", None, (f"size-{size}/judge",))
        recomputed = self.settings.training.recomputed_share
        stage = planned_training(place, examples, optimization, self.model, recomputed)
        if not self._stops_early() or not stage.rows_out:
            return stage
        assert optimization.early_stopping is not None
        n, _ = sequences(examples)
        a_pass = math.ceil(n / optimization.batch_size)
        steps = optimization.max_steps or math.ceil((optimization.epochs or 0) * a_pass)
        # The trainer evaluates once more at the end.
        looks = math.ceil(steps / optimization.early_stopping.every)
        validation = self._validation()
        read = 2 * self.model.size.parameters * looks * validation.n * validation.fits * validation.tokens
        # Evaluation adds this share of the training's FLOPs, and is assumed to run at the same FLOP/s.
        return replace(stage, flops=stage.flops + read, gpu_seconds=stage.gpu_seconds * (1 + read / stage.flops))

    def _stops_early(self) -> bool:
        return self.adapting.optimization.early_stopping is not None and self.adapting.task.validation_share > 0

    def _games(self, folder: str, labels: Sequence[str]) -> Iterator[PlannedStage]:
        answers = self._answers()
        played = (one for one in self.facts.sets if one.label in labels)
        return (planned_benchmark(folder, None, one, answers, self.model) for one in played)

    def _answers(self) -> Answers:
        reply_tokens = (self.found.assumed.reply_share or 0.0) * self.settings.labels.max_tokens
        return SCORED if self.adapting.scored else answers_of(self.settings, reply_tokens)
