"""The stages of a self-training, planned: what `flows.self_train` does, as arithmetic on measured lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from data.records import PreferencePair, RationalePair, ResponsePair
from prompts.catalog import prover_for
from tasks.chat import ChatEncoder
from tasks.plan.assumptions import PlanAssumptions
from tasks.plan.lengths import Lengths, mean_lengths, then
from tasks.plan.sample import DataSample, Part, Row, SetSample, mean_bytes
from tasks.plan.stages import Asked, Examples, Place, PlannedModel, PlannedStage, planned_generation, planned_training
from tasks.settings import Optimization, Role, Settings
from tasks.space import BYTES_A_TOKEN
from tasks.trainer import encode_example
from tasks.training_set import repeats

HELD_OUT = "held-out"
_BYTES_A_GAME = 190
"""Of a line of games.jsonl."""
_BYTES_A_PROOF, _BYTES_OF_VOTES = 170, 120
"""Of a selected proof, beside its text, and of what a label says of its votes."""


@dataclass(frozen=True)
class PlayedSet:
    """A benchmark: its items, the comparisons in each, the mean prompt of one, and of knockouts the candidates."""

    label: str
    items: float
    cells: float
    lengths: Lengths
    candidates: int | None = None


@dataclass(frozen=True)
class Facts:
    """What the sample says. `shaped` is the share of the human rationales whose shape the judge's prompt allows.

    Of `human` the lengths are of whole training examples, of the others of prompts. `bare_reply` is the reply without a
    rationale, in tokens.
    """

    read: float
    rows: dict[Part, float]
    row_bytes: dict[Part, float]
    shaped: float
    human: dict[Role, Lengths]
    labeled: dict[Role, Lengths]
    unlabeled: dict[Role, Lengths]
    bare_reply: int
    sets: tuple[PlayedSet, ...]


# ---- measuring --------------------------------------------------------------------------------------------------------------


def measure(settings: Settings, sample: DataSample, encoders: dict[Role, ChatEncoder]) -> Facts:
    """Encodes the sampled rows as the run will. Without a prover there is no encoder for it."""
    weighted = {part: sample.weighted(part) for part in sample.parts}
    judge, shape = settings.judge_prompt, settings.judge_prompt.check_rationale
    human = [(w, row) for w, row in weighted["rationale"] if isinstance(row, RationalePair)]
    shaped = [(w, row) for w, row in human if not judge.has_rationale or shape(row.rationale, row.label) is None]
    rows = {part: sample.usable(part) for part in sample.parts}
    held_out: Sequence[tuple[float, Row]] = weighted.get("heldout", ())
    if "heldout" not in rows and not sample.exact:
        share, held_out = settings.data.heldout_share, weighted["labeled"]
        rows["heldout"], rows["labeled"] = share * rows["labeled"], (1 - share) * rows["labeled"]
    sets = [_played(settings, one, encoders["judge"]) for one in sample.sets]
    if held_out:
        lengths = mean_lengths((w, _judged(settings, _pair(row), encoders["judge"])) for w, row in held_out)
        sets.insert(0, PlayedSet(HELD_OUT, rows["heldout"], 1, lengths))
    return Facts(
        read=sample.read if sample.read is not None else sum(one.read for found in sample.parts.values() for one in found),
        rows=rows,
        row_bytes={part: mean_bytes(found) for part, found in weighted.items()},
        shaped=sum(w for w, _ in shaped) / sum(w for w, _ in human) if human else 0.0,
        human={role: mean_lengths((w, _example(settings, row, role, encoder)) for w, row in shaped)
               for role, encoder in encoders.items()},
        labeled=_prompts(settings, weighted.get("labeled", []), encoders),
        unlabeled=_prompts(settings, weighted.get("unlabeled", []), encoders),
        bare_reply=len(encoders["judge"].completion_ids(judge.target("", "A"))),
        sets=tuple(sets),
    )  # fmt: skip


def _pair(row: Row) -> ResponsePair:
    return row if isinstance(row, ResponsePair) else row.pair


def _example(settings: Settings, row: RationalePair, role: Role, encoder: ChatEncoder) -> tuple[int, int] | None:
    reply_tokens = settings.labels.max_tokens if role == "judge" else settings.proofs.max_tokens
    encoded = encode_example(row.to_json(), role, encoder, settings.models, reply_tokens)
    return None if encoded is None else (len(encoded[0].ids), len(encoded[1]))


def _prompts(
    settings: Settings, rows: Sequence[tuple[float, Row]], encoders: dict[Role, ChatEncoder]
) -> dict[Role, Lengths]:
    models, found = settings.models, {}
    room = models.max_tokens - settings.labels.max_tokens
    encoded = (
        (w, encoders["judge"].judge_ids(settings.judge_prompt, _pair(r), room, models.overlong)) for w, r in rows
    )
    found["judge"] = mean_lengths((w, (len(e.ids), 0) if e else None) for w, e in encoded)
    if "prover" in encoders:
        prompt, room = prover_for(settings.judge_prompt), models.max_tokens - settings.proofs.max_tokens
        # An unlabeled pair will have a label by then; which one makes no difference to the length.
        labeled = ((w, PreferencePair(_pair(row), "A")) for w, row in rows)
        proved = ((w, encoders["prover"].prover_ids(prompt, row, room, models.overlong)) for w, row in labeled)
        found["prover"] = mean_lengths((w, (len(e.ids), 0) if e else None) for w, e in proved)
    return found  # type: ignore[return-value]


def _judged(settings: Settings, pair: ResponsePair, encoder: ChatEncoder) -> tuple[int, int] | None:
    room = settings.models.max_tokens - settings.reply_tokens
    encoded = encoder.judge_ids(settings.judge_prompt, pair, room, settings.models.overlong)
    return None if encoded is None else (len(encoded.ids), 0)


def _played(settings: Settings, one: SetSample, encoder: ChatEncoder) -> PlayedSet:
    pairs = [item.pair(cell) for item in one.items for cell in item.cells]
    lengths = mean_lengths((1.0, _judged(settings, pair, encoder)) for pair in pairs)
    cells = one.candidates - 1 if one.candidates else len(pairs) / max(len(one.items), 1)
    return PlayedSet(one.label, one.total, cells, lengths, one.candidates)


# ---- planning ---------------------------------------------------------------------------------------------------------------


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
        for i, pairs in enumerate(batches, start=1):
            votes = self._voted(i, pairs)
            proved = self._proved(i, "unlabeled", votes.rows_out, facts.unlabeled, judged=True)
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
        asked = Asked(
            rows=pairs,
            fits=lengths.fits,
            requests=2,
            replies=labels.votes // 2,
            prompt_tokens=lengths.tokens,
            reply_tokens=self.reply_tokens,
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
