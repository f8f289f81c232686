"""Plans the stages of self-training: what `flows.self_train` does, as arithmetic on measured lengths."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.model.orders import ORDERS
from tasks.model.voting import VotingRule, rounds_wanted
from tasks.plan.assumptions import PlanAssumptions
from tasks.plan.facts import HELD_OUT, Facts
from tasks.plan.first_rows import Part
from tasks.plan.games import answers_of, planned_benchmark
from tasks.plan.lengths import Lengths, then
from tasks.plan.proofs import BYTES_OF_VOTES, Proofs, planned_audit, planned_proofs, proved_orders
from tasks.plan.stages import (
    Examples,
    GenerationLoad,
    Place,
    PlannedModel,
    PlannedStage,
    planned_generation,
    planned_training,
)
from tasks.run.space import BYTES_A_TOKEN
from tasks.settings import Optimization, Role, Settings
from tasks.training_set import repeats


def self_training_stages(
    settings: Settings, facts: Facts, assumed: PlanAssumptions, models: dict[Role, PlannedModel]
) -> list[PlannedStage]:
    """All stages in the order of the flow. `assumed` includes the reply shares measured in the sample."""
    return list(_SelfTraining(settings, facts, assumed, models).stages())


def batches_of(settings: Settings, facts: Facts) -> list[float]:
    """Pairs of each round; fewer may be left for the last one."""
    left, batches = facts.rows.get("unlabeled", 0.0), []
    for _ in range(settings.rounds.count):
        batches.append(min(float(settings.rounds.pairs), left))
        left -= batches[-1]
    return batches


def planned_data(facts: Facts, unlabeled: float = 0.0) -> PlannedStage:
    """The stage "data", with this many unlabeled pairs over all rounds."""
    held_out = next((one.items for one in facts.sets if one.label == HELD_OUT), 0.0)
    used: dict[Part, float] = {**facts.rows, "unlabeled": unlabeled, "heldout": held_out}
    n_bytes = sum(n * facts.row_bytes.get(part, facts.row_bytes["labeled"]) for part, n in used.items())
    return PlannedStage(Place("data", "data", None, ("data",)), facts.read, sum(used.values()), disk_bytes=n_bytes)


def planned_export(judges: int, model: PlannedModel) -> PlannedStage:
    """The best of this many judges, exported as one folder."""
    weights = model.size.parameters * model.bytes_a_weight
    return PlannedStage(Place("final", "export", None, ("final",)), judges, 1, disk_bytes=weights)


def _prover_prompts(lengths: dict[Role, Lengths], judged: bool) -> Lengths:
    """The prover's prompts. Of pairs that were `judged`, the longest have already been dropped."""
    fits = then(lengths["judge"], lengths["prover"]) if judged else lengths["prover"].fits
    return Lengths(fits, lengths["prover"].tokens)


class _SelfTraining:
    """Follows the algorithm of the flow, with numbers in place of artifacts."""

    def __init__(
        self, settings: Settings, facts: Facts, assumed: PlanAssumptions, models: dict[Role, PlannedModel]
    ) -> None:
        self.settings, self.facts, self.assumed, self.models = settings, facts, assumed, models
        self.proof_tokens = (assumed.proof_share or 0.0) * settings.proofs.max_tokens
        self.reply_tokens = (assumed.reply_share or 0.0) * settings.labels.max_tokens
        human = facts.human
        # A proof becomes the judge's reply, with a different opening and perhaps another tokenizer.
        ratio = human["judge"].reply / human["prover"].reply if "prover" in human and human["prover"].reply else 1.0
        self.learned_tokens = self.proof_tokens * ratio
        training, context = settings.training, settings.models.max_tokens
        self.packed_to = training.packed_to(context)
        self.recomputed = training.recomputed_share

    def stages(self) -> Iterator[PlannedStage]:
        settings, facts, training = self.settings, self.facts, self.settings.training
        batches = batches_of(settings, facts)
        yield planned_data(facts, sum(batches))
        if training.pretraining is not None and facts.pretraining is not None:
            lengths = facts.pretraining
            tokens = lengths.tokens + lengths.reply
            responses = Examples(facts.rows["pretraining"], lengths.fits, tokens, 0.0, self.packed_to)
            place = Place("pretrained", "pretrain", None, ("pretrained",))
            yield self._trained(place, responses, training.pretraining, "judge")
        if settings.writes_proofs():
            whole = self._human("prover", facts.rows["rationale"], facts.shaped)
            yield self._trained(Place("prover", "train-prover", None, ("human-examples", "prover")), whole,
                                training.prover, "prover")  # fmt: skip
        proved = self._proved(0, "labeled", facts.rows["labeled"], facts.labeled)
        yield proved
        labeled = self._examples(0, "labeled", proved.rows_out, facts.labeled)
        if training.human_rationales:
            labeled = labeled.plus(self._human("judge", facts.shaped * facts.rows["rationale"]))
        yield from self._judge(0, labeled, training.first_judge)
        yield from self._audited(0, facts.rows["labeled"], facts.labeled)

        pseudo: Examples | None = None
        judged, remembers = settings.labels.source == "judge", bool(settings.labels.memory)
        for i, pairs in enumerate(batches, start=1):
            yield from self._calibrated(i)
            votes = self._voted(i, sum(batches[:i]) if remembers else pairs)
            proved = self._proved(i, "unlabeled", votes.rows_out, facts.unlabeled, judged)
            yield from (votes, proved)
            yield from self._audited(i, votes.rows_out, facts.unlabeled, judged)
            more = self._examples(i, "unlabeled", proved.rows_out, facts.unlabeled)
            # With memory, every round votes on all pairs so far and proves them, and its judge learns only these.
            pseudo = more if pseudo is None or remembers else pseudo.plus(more)
            yield from self._judge(i, self._mixed(labeled, pseudo), training.judge)

        if training.final is not None:
            i = len(batches) + 1
            human = self._human("judge", facts.shaped * facts.rows["rationale"])
            yield from self._judge(i, human, training.final, (f"round-{i}/judge",))
        yield planned_export(1 + len(batches) + (training.final is not None), self.models["judge"])

    def _human(self, role: Role, n: float, shaped: float = 1.0) -> Examples:
        lengths = self.facts.human[role]
        tokens = lengths.tokens + lengths.reply
        return Examples(n, shaped * lengths.fits, tokens, self.facts.row_bytes["rationale"], self.packed_to)

    def _trained(self, place: Place, examples: Examples, optimization: Optimization, role: Role) -> PlannedStage:
        return planned_training(place, examples, optimization, self.models[role], self.recomputed)

    def _proved(
        self, round: int, part: Part, pairs: float, lengths: dict[Role, Lengths], judged: bool = False
    ) -> PlannedStage:
        """A round's proofs and their selection."""
        selected, row_bytes = f"round-{round}/selected", self.facts.row_bytes[part]
        if not self.settings.writes_proofs(round):
            place = Place(selected, "select", round, (selected,))
            return PlannedStage(place, pairs, pairs, disk_bytes=pairs * row_bytes)
        place = Place(f"round-{round}/proofs", "prove", round, (f"round-{round}/proofs", selected))
        prompts = _prover_prompts(lengths, judged)
        return planned_proofs(place, pairs, row_bytes, prompts, self._proofs, self.models["prover"])

    @property
    def _proofs(self) -> Proofs:
        return Proofs.of(self.settings, self.proof_tokens, self.assumed.kept_proofs)

    def _audited(
        self, round: int, pairs: float, lengths: dict[Role, Lengths], judged: bool = False
    ) -> Iterator[PlannedStage]:
        """The audit of a round's proofs, if there is one."""
        if self.settings.proofs.audit_pairs and self.settings.writes_proofs(round):
            sampled = min(self.settings.proofs.audit_pairs, pairs)
            prompts: dict[Role, Lengths] = {**lengths, "prover": _prover_prompts(lengths, judged)}
            yield from planned_audit(round, sampled, prompts, self._proofs, self.models)

    def _voted(self, round: int, pairs: float) -> PlannedStage:
        labels, lengths, name = self.settings.labels, self.facts.unlabeled["judge"], f"round-{round}"
        row_bytes = self.facts.row_bytes["unlabeled"]
        if labels.source == "truth":
            place = Place(f"{name}/labels", "label", round, (f"{name}/labels",))
            return PlannedStage(place, pairs, pairs, disk_bytes=pairs * row_bytes)
        # A label-only judge is asked once in each order, for the probabilities of one token.
        sampled = self.settings.judge_prompt.has_rationale
        requests, replies = self._votes_cast() if sampled else (1.0, 1.0)
        load = GenerationLoad(
            rows=pairs,
            fits=lengths.fits,
            requests=len(ORDERS) * requests,
            replies=replies,
            prompt_tokens=lengths.tokens,
            reply_tokens=self.reply_tokens if sampled else 1,
            kept=self.assumed.kept_labels,
            row_bytes=row_bytes + BYTES_OF_VOTES,
        )
        batch = (f"{name}/batch",) if labels.memory and round > 1 else ()
        place = Place(f"{name}/votes", "vote", round, (*batch, f"{name}/votes", f"{name}/labels"))
        return planned_generation(place, load, self.models["judge"])

    def _calibrated(self, round: int) -> Iterator[PlannedStage]:
        """A round's votes on calibration pairs, all of which are cast, if a threshold is chosen by them."""
        labels, lengths, name = self.settings.labels, self.facts.calibration, f"round-{round}"
        if labels.target_precision is None or labels.source == "truth" or lengths is None:
            return
        sampled = self.settings.judge_prompt.has_rationale
        load = GenerationLoad(
            rows=self.facts.rows["calibration"],
            fits=lengths.fits,
            requests=len(ORDERS),
            replies=labels.votes / len(ORDERS) if sampled else 1,
            prompt_tokens=lengths.tokens,
            reply_tokens=self.reply_tokens if sampled else 1,
            kept=1.0,
            row_bytes=0.0,
        )
        parts = (f"{name}/calibration-votes", f"{name}/threshold")
        yield planned_generation(Place(parts[0], "calibration-vote", round, parts), load, self.models["judge"])

    def _votes_cast(self) -> tuple[float, float]:
        """Requests in each order for the votes on a pair, and the votes of a request; later votes have requests of their own."""
        labels, share = self.settings.labels, self.assumed.votes_cast
        rule = VotingRule(labels.voting, labels.votes, labels.min_confidence, labels.orders_agree)
        first = rounds_wanted([], rule)
        share = share if share is not None and labels.voting != "all" else 1.0
        cast = max(float(first), share * labels.votes / 2)
        requests = 1 + cast - first
        return requests, cast / requests

    def _examples(self, round: int, part: Part, pairs: float, lengths: dict[Role, Lengths]) -> Examples:
        """Selected pairs as training examples for the judge, in the orders that are proved."""
        with_proofs = self.settings.writes_proofs(round)
        reply = self.learned_tokens if with_proofs else self.facts.bare_reply
        before = lengths["prover"] if with_proofs else Lengths(1.0, 0.0)
        if part == "unlabeled" and self.settings.labels.source == "judge":
            before = Lengths(min(before.fits, lengths["judge"].fits), 0.0)
        row_bytes = self.facts.row_bytes[part] + BYTES_A_TOKEN * reply
        fits = then(before, lengths["judge"])
        n = proved_orders(self.settings) * pairs
        return Examples(n, fits, lengths["judge"].tokens + reply, row_bytes, self.packed_to)

    def _mixed(self, labeled: Examples, pseudo: Examples) -> Examples:
        extra = repeats(round(labeled.n), round(pseudo.n), self.settings.training.labeled_share)
        again = Examples(extra, labeled.fits, labeled.tokens, labeled.row_bytes, self.packed_to)
        return labeled.plus(again).plus(pseudo) if extra else labeled.plus(pseudo)

    def _judge(
        self, round: int, examples: Examples, optimization: Optimization, parts: tuple[str, ...] = ()
    ) -> Iterator[PlannedStage]:
        name = f"round-{round}/judge"
        parts = parts or (f"round-{round}/training-set", name)
        yield self._trained(Place(name, "train-judge", round, parts), examples, optimization, "judge")
        answers = answers_of(self.settings, self.reply_tokens)
        for played in self.facts.sets:
            yield planned_benchmark(f"round-{round}", round, played, answers, self.models["judge"])
