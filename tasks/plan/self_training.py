"""The stages of a self-training, planned: what `flows.self_train` does, as arithmetic on measured lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tasks.plan.assumptions import PlanAssumptions
from tasks.plan.facts import HELD_OUT, Facts, PlayedSet
from tasks.plan.lengths import Lengths, then
from tasks.plan.sample import Part
from tasks.plan.stages import Asked, Examples, Place, PlannedModel, PlannedStage, planned_generation, planned_training
from tasks.settings import Optimization, Role, Settings
from tasks.space import BYTES_A_TOKEN
from tasks.training_set import repeats

_BYTES_A_GAME = 250
"""Of a line of games.jsonl."""
_BYTES_A_PROOF, _BYTES_OF_VOTES = 170, 120
"""Of a selected proof, beside its text, and of what a label says of its votes."""


def self_training_stages(
    settings: Settings, facts: Facts, assumed: PlanAssumptions, models: dict[Role, PlannedModel]
) -> list[PlannedStage]:
    """All stages in the order of the flow. `assumed` has the shares of the replies that the sample measured."""
    return list(_SelfTraining(settings, facts, assumed, models).stages())


class _SelfTraining:
    """Goes through the algorithm as the flow does, with numbers in the place of artifacts."""

    def __init__(
        self, settings: Settings, facts: Facts, assumed: PlanAssumptions, models: dict[Role, PlannedModel]
    ) -> None:
        self.settings, self.facts, self.assumed, self.models = settings, facts, assumed, models
        self.proof_tokens = (assumed.proof_share or 0.0) * settings.proofs.max_tokens
        self.reply_tokens = (assumed.reply_share or 0.0) * settings.labels.max_tokens
        human = facts.human
        # A proof becomes the judge's reply: another opening, and maybe another tokenizer.
        ratio = human["judge"].reply / human["prover"].reply if "prover" in human and human["prover"].reply else 1.0
        self.learned_tokens = self.proof_tokens * ratio
        training, context = settings.training, settings.models.max_tokens
        self.packed_to = context if training.packing else None
        self.recomputed = training.gradient_checkpointing

    def stages(self) -> Iterator[PlannedStage]:
        settings, facts, training = self.settings, self.facts, self.settings.training
        batches = self._batches()
        yield self._data(batches)
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

        pseudo: Examples | None = None
        judged = settings.labels.source == "judge"
        for i, pairs in enumerate(batches, start=1):
            votes = self._voted(i, pairs)
            proved = self._proved(i, "unlabeled", votes.rows_out, facts.unlabeled, judged)
            yield from (votes, proved)
            more = self._examples(i, "unlabeled", proved.rows_out, facts.unlabeled)
            pseudo = more if pseudo is None else pseudo.plus(more)
            yield from self._judge(i, self._mixed(labeled, pseudo), training.judge)

        if training.final is not None:
            i = len(batches) + 1
            human = self._human("judge", facts.shaped * facts.rows["rationale"])
            yield from self._judge(i, human, training.final, (f"round-{i}/judge",))
        judges = 1 + len(batches) + (training.final is not None)
        weights = self.models["judge"].size.parameters * self.models["judge"].bytes_a_weight
        yield PlannedStage(Place("final", "export", None, ("final",)), judges, 1, disk_bytes=weights)

    def _batches(self) -> list[float]:
        """Pairs of each round; the last one may find fewer left."""
        rounds, left, batches = self.settings.rounds, self.facts.rows.get("unlabeled", 0.0), []
        for _ in range(rounds.count):
            batches.append(min(float(rounds.pairs), left))
            left -= batches[-1]
        return batches

    def _data(self, batches: Sequence[float]) -> PlannedStage:
        facts = self.facts
        held_out = next((one.items for one in facts.sets if one.label == HELD_OUT), 0.0)
        used: dict[Part, float] = {**facts.rows, "unlabeled": sum(batches), "heldout": held_out}
        n_bytes = sum(n * facts.row_bytes.get(part, facts.row_bytes["labeled"]) for part, n in used.items())
        return PlannedStage(Place("data", "data", None, ("data",)), facts.read, sum(used.values()), disk_bytes=n_bytes)

    def _human(self, role: Role, n: float, shaped: float = 1.0) -> Examples:
        lengths = self.facts.human[role]
        tokens = lengths.tokens + lengths.reply
        return Examples(n, shaped * lengths.fits, tokens, self.facts.row_bytes["rationale"], self.packed_to)

    def _trained(self, place: Place, examples: Examples, optimization: Optimization, role: Role) -> PlannedStage:
        return planned_training(place, examples, optimization, self.models[role], self.recomputed)

    def _proved(
        self, round: int, part: Part, pairs: float, lengths: dict[Role, Lengths], judged: bool = False
    ) -> PlannedStage:
        """Proofs of a round and their selection. Of pairs that have been `judged`, the longest are gone already."""
        proofs, selected = self.settings.proofs, f"round-{round}/selected"
        row_bytes = self.facts.row_bytes[part]
        if not self.settings.writes_proofs(round):
            place = Place(selected, "select", round, (selected,))
            return PlannedStage(place, pairs, pairs, disk_bytes=pairs * row_bytes)
        place = Place(f"round-{round}/proofs", "prove", round, (f"round-{round}/proofs", selected))
        asked = Asked(
            rows=pairs,
            fits=then(lengths["judge"], lengths["prover"]) if judged else lengths["prover"].fits,
            requests=2,
            replies=proofs.k,
            prompt_tokens=lengths["prover"].tokens,
            reply_tokens=self.proof_tokens,
            kept=self.assumed.kept_proofs,
            row_bytes=row_bytes + _BYTES_OF_VOTES + 2 * (_BYTES_A_PROOF + BYTES_A_TOKEN * self.proof_tokens),
            scored=True,
        )
        return planned_generation(place, asked, self.models["prover"])

    def _voted(self, round: int, pairs: float) -> PlannedStage:
        labels, lengths, name = self.settings.labels, self.facts.unlabeled["judge"], f"round-{round}"
        row_bytes = self.facts.row_bytes["unlabeled"]
        if labels.source == "truth":
            place = Place(f"{name}/labels", "label", round, (f"{name}/labels",))
            return PlannedStage(place, pairs, pairs, disk_bytes=pairs * row_bytes)
        # A judge that gives the label alone is asked once in each order, for the probabilities of one token.
        sampled = self.settings.judge_prompt.has_rationale
        asked = Asked(
            rows=pairs,
            fits=lengths.fits,
            requests=2,
            replies=labels.votes // 2 if sampled else 1,
            prompt_tokens=lengths.tokens,
            reply_tokens=self.reply_tokens if sampled else 1,
            kept=self.assumed.kept_labels,
            row_bytes=row_bytes + _BYTES_OF_VOTES,
        )
        place = Place(f"{name}/votes", "vote", round, (f"{name}/votes", f"{name}/labels"))
        return planned_generation(place, asked, self.models["judge"])

    def _examples(self, round: int, part: Part, pairs: float, lengths: dict[Role, Lengths]) -> Examples:
        """Selected pairs as the judge's examples, each in both orders."""
        with_proofs = self.settings.writes_proofs(round)
        reply = self.learned_tokens if with_proofs else self.facts.bare_reply
        before = lengths["prover"] if with_proofs else Lengths(1.0, 0.0)
        if part == "unlabeled" and self.settings.labels.source == "judge":
            before = Lengths(min(before.fits, lengths["judge"].fits), 0.0)
        row_bytes = self.facts.row_bytes[part] + BYTES_A_TOKEN * reply
        fits = then(before, lengths["judge"])
        return Examples(2 * pairs, fits, lengths["judge"].tokens + reply, row_bytes, self.packed_to)

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
        for played in self.facts.sets:
            yield self._benchmark(round, played)

    def _benchmark(self, round: int, played: PlayedSet) -> PlannedStage:
        settings = self.settings
        suffix = "" if played.label == HELD_OUT else f"-{played.label}"
        name = f"round-{round}/benchmark{suffix}"
        levels = range(1, (played.candidates - 1).bit_length() + 1) if played.candidates else ()
        knockouts = [f"{name}-{what}-{level}" for level in levels for what in ("matches", "games")]
        votes = settings.benchmarks.votes if settings.judge_prompt.has_rationale else 1
        reply = min(self.reply_tokens, settings.reply_tokens) if settings.judge_prompt.has_rationale else 1
        asked = Asked(
            rows=played.items,
            fits=played.lengths.fits,
            requests=2 * played.cells,
            replies=votes,
            prompt_tokens=played.lengths.tokens,
            reply_tokens=reply,
            row_bytes=2 * played.cells * votes * _BYTES_A_GAME,
        )
        place = Place(name, f"benchmark{suffix}", round, (*knockouts, name))
        return planned_generation(place, asked, self.models["judge"])
