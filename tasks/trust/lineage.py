"""The life of a pair in a run, read from its finished stages: where it came from, its labels, proofs, trainings, judgments.

Everything is read by id from the rows of the stages; which stage has read which is known from the inputs in their manifests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from data.records import pair_key, parse_pair
from data.store.artifacts import SHARDS, Artifact
from prompts.catalog import JUDGE_PROMPTS
from tasks.model.judging import JudgeQuery
from tasks.model.orders import ORDERS
from tasks.model.proofs import Proof, read_proofs
from tasks.model.votes import read_votes
from tasks.settings import ProofSettings
from tasks.trust.finding import DATA, DROPPED, OF_DATA, ORIGINS, identity_of, rows_at
from tasks.trust.judgments import judgments_on
from tasks.trust.rows_by_id import Row
from tasks.trust.stages import EXAMPLES, ITEMS, Stages, is_list, is_training

HUMAN = "human"
_OF_PAIR = ("id", "prompt", "response_a", "response_b", "source")
_DECISIONS = ("gate", "threshold", "audit-proofs")
_QUERY = ("prompt", "max_tokens", "context", "overlong", "temperature", "top_p", "seed")


@dataclass(frozen=True)
class Trace:
    """The life of a pair, as JSON values; `id` is None for a row that was dropped before it had one.

    `pair` is as the stage "data", or a benchmark, has it. `read_from` are files and rows of sources, `held_in` files of the
    stage "data" and benchmarks, `losses` what dropped it or an example of it. `decisions` are the metrics of the gates and
    thresholds of the rounds that labeled it or trained on it. `notes` say what can't be told, and why.
    """

    id: str | None
    pair: Row = field(default_factory=dict)
    read_from: list[Row] = field(default_factory=list)
    held_in: list[str] = field(default_factory=list)
    losses: list[Row] = field(default_factory=list)
    votes: list[Row] = field(default_factory=list)
    labels: list[Row] = field(default_factory=list)
    proofs: list[Row] = field(default_factory=list)
    trainings: list[Row] = field(default_factory=list)
    judgments: list[Row] = field(default_factory=list)
    decisions: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> Row:
        return asdict(self)


def trace(stages: Stages, given: str) -> Trace:
    """The life of a pair, which `identity_of` finds. Raises NoSuchPairError as it does."""
    identity = identity_of(stages, given)
    if identity is None:
        return Trace(None, losses=[_loss(stages.store.in_place(DATA), row) for row in rows_at(stages, given)])
    found = Trace(identity)
    for stage in stages.all:
        _add_place(found, stages, stage)
        _add_losses(found, stages, stage)
        _add_label(found, stages, stage)
        if _casts_votes(stage):
            _add_votes(found, stages, stage)
        elif stage.manifest.kind == "select":
            _add_proofs(found, stages, stage)
        _add_training(found, stages, stage)
    found.judgments.extend(judgments_on(stages, identity))
    _add_decisions(found, stages)
    _add_notes(found, stages)
    return found


def _of(stage: Artifact | None) -> Row:
    return {"stage": stage.manifest.name if stage else None, "round": stage.manifest.round if stage else None}


# ---- where it is, and what dropped it ------------------------------------------------------------------------------------


def _add_place(found: Trace, stages: Stages, stage: Artifact) -> None:
    assert found.id is not None
    manifest = stage.manifest
    if manifest.kind in OF_DATA:
        found.read_from.extend(
            {"file": row["file"], "row": row["row"]} for _, row in stages.rows(stage, ORIGINS, found.id)
        )
        for name in stages.lists(stage):
            if name in (ORIGINS, DROPPED, "truth.jsonl"):
                continue
            for _, row in stages.rows(stage, name, found.id):
                place = f"{manifest.name}/{name}"
                found.held_in.append(place)
                if "response_a" in found.pair and pair_key(parse_pair(row)) != pair_key(parse_pair(found.pair)):
                    found.notes.append(f"another pair in {place} has the same id: what is said here may be of either")
                else:
                    found.pair.update({key: row[key] for key in _OF_PAIR if key in row})
                if "label" in row:
                    origin = HUMAN if "rationale" in row else name.removesuffix(".jsonl")
                    found.labels.append({**_of(stage), "origin": origin, "label": row["label"], "kept": True})
        truth = stages.row(stage, "truth.jsonl", found.id)
        if truth is not None:
            found.pair["true_label"] = truth["label"]
    elif manifest.kind == "benchmark-data" and (item := stages.row(stage, ITEMS, found.id)) is not None:
        found.held_in.append(f"{manifest.name}/{ITEMS}")
        if not found.pair:
            found.pair.update({"id": item["id"], "prompt": item["prompt"], "source": item["group"]})
            found.pair.update({"responses": item["responses"], "right": item["right"]})


def _add_losses(found: Trace, stages: Stages, stage: Artifact) -> None:
    """What this stage says of the pair, or of its examples, among what it dropped."""
    assert found.id is not None
    of_examples = is_training(stage) or EXAMPLES in stage.manifest.files
    ids = _example_ids(found.id) if of_examples else [found.id]
    found.losses.extend(_loss(stage, row) for one in ids for _, row in stages.rows(stage, DROPPED, one))


def _loss(stage: Artifact | None, row: Mapping[str, Any]) -> Row:
    """The reason and its facts, without the pair and without what `Trace` has elsewhere."""
    left_out = (
        *_OF_PAIR,
        "label",
        "rationale",
        "confidence",
        "confidence_bounds",
        "votes",
        "orders_agree",
        "candidates",
    )
    facts = {key: value for key, value in row.items() if key not in left_out}
    order = str(row["id"]).rpartition(":")[2] if "origin" in facts else None
    facts.pop("origin", None)
    return {**_of(stage), **facts, **({"order": order} if order else {})}


# ---- labels --------------------------------------------------------------------------------------------------------------


def _add_label(found: Trace, stages: Stages, stage: Artifact) -> None:
    assert found.id is not None
    if stage.manifest.kind != "label":
        return
    for name in ("labels.jsonl", DROPPED):
        row = stages.row(stage, name, found.id)
        if row is not None:
            facts = {key: value for key, value in row.items() if key not in _OF_PAIR}
            origin = f"pseudo of round {stage.manifest.round}"
            found.labels.append({**_of(stage), "origin": origin, **facts, "kept": name != DROPPED})


def _casts_votes(stage: Artifact) -> bool:
    return stage.manifest.name.endswith("votes") and "votes" in stage.manifest.config and _has_shards(stage)


def _has_shards(stage: Artifact) -> bool:
    return any(name.startswith(SHARDS) for name in stage.manifest.files)


def _add_votes(found: Trace, stages: Stages, stage: Artifact) -> None:
    assert found.id is not None
    made, config = stages.generated(stage, found.id), stage.manifest.config
    if made is None:
        return
    row, line = made
    judge = stages.read(stage, "judge")
    facts = {**_of(stage), "judge": judge.manifest.name if judge is not None else None}
    if "requests" not in line:
        found.votes.append({**facts, "votes": [], "lost": line.get("dropped") or line.get("failed")})
        return
    query = JudgeQuery(**{name: config[name] for name in _QUERY}, votes=config["votes"] // 2)
    readers = (one for one in stages.all if one.manifest.inputs.get("votes") == stage.content)
    grounded = any("quotes" in one.manifest.config for one in readers)
    votes = read_votes(query, line["requests"], parse_pair(row) if grounded else None)
    replies = [completion.get("text") for request in line["requests"] for completion in request["completions"]]
    cast = [{**asdict(vote), "reply": reply} for vote, reply in zip(votes, replies, strict=True)]
    found.votes.append({**facts, "votes": cast, "lost": None})


# ---- proofs --------------------------------------------------------------------------------------------------------------


def _add_proofs(found: Trace, stages: Stages, stage: Artifact) -> None:
    """The candidates of a stage "select", with why each other than the chosen ones fell."""
    assert found.id is not None
    kept = stages.row(stage, "selected.jsonl", found.id)
    lost = stages.row(stage, DROPPED, found.id) if kept is None else None
    if kept is None and lost is None:
        return
    chosen: Mapping[str, Any] = kept["proofs"] if kept is not None else {}
    reason = lost["reason"] if lost is not None else None
    written = stages.read(stage, "proofs")
    made = stages.generated(written, found.id) if written is not None else None
    rule = str(stage.manifest.config.get("choose"))
    if written is not None and made is not None:
        judge = next(one for one in JUDGE_PROMPTS.values() if one.digest == stage.manifest.config["prompt"])
        read = [(order, proof) for order, _, proof in read_proofs(*made, judge, _settings(written, stage))]
    elif lost is not None:
        read = [(one["order"], _proof(one)) for one in lost.get("candidates", ())]
    else:
        read = [(order, _proof(one)) for order, one in chosen.items() if one["rationale"]]
    candidates = [
        {"order": order, **asdict(proof), **_fate(proof, chosen.get(order), reason, rule)} for order, proof in read
    ]
    found.proofs.append({**_of(stage), "kept": kept is not None, "reason": reason, "candidates": candidates})


def _settings(written: Artifact, selected: Artifact) -> ProofSettings:
    """The settings by which the candidates were read, from the keys of the two stages."""
    names = ("choose", "min_score", "max_rationale_tokens", "both_orders")
    chosen = {name: selected.manifest.config[name] for name in names}
    return ProofSettings(k=written.manifest.config["k"], grounded_quotes="quotes" in selected.manifest.config, **chosen)


def _proof(row: Mapping[str, Any]) -> Proof:
    return Proof(**{name: row.get(name) for name in Proof.__dataclass_fields__})  # type: ignore[arg-type]


def _fate(proof: Proof, chosen: Mapping[str, Any] | None, reason: str | None, rule: str) -> Row:
    """Whether a candidate was chosen, and why it fell if it was not."""
    if chosen is not None and chosen.get("candidate") == proof.candidate:
        return {"chosen": True, "fell": None}
    if proof.rejected is not None:
        return {"chosen": False, "fell": proof.rejected}
    if chosen is None:
        return {"chosen": False, "fell": f"the pair was dropped: {reason}"}
    if rule == "random":
        return {"chosen": False, "fell": "not drawn"}
    same = proof.score == chosen.get("score")
    return {
        "chosen": False,
        "fell": "same score as the chosen one, later" if same else "lower score than the chosen one",
    }


# ---- trainings -----------------------------------------------------------------------------------------------------------


def _example_ids(identity: str) -> list[str]:
    """The id of a pair, as which it is pre-trained on, and those of its examples."""
    return [identity, *(f"{identity}:{end}" for end in (*ORDERS, HUMAN))]


def _add_training(found: Trace, stages: Stages, stage: Artifact) -> None:
    """How often each order of the pair is in this stage's training sets, and which models have learned from each."""
    assert found.id is not None
    for name in filter(is_list, stage.manifest.files):
        models = [one.manifest.name for one in stages.learners(stage, name)]
        if not models and name != EXAMPLES:
            continue
        rows = [row for one in _example_ids(found.id) for _, row in stages.rows(stage, name, one)]
        orders = [str((row.get("origin") or {}).get("order", "ab")) for row in rows]
        if rows:
            labels = {order: row["label"] for order, row in zip(orders, rows, strict=True) if "label" in row}
            facts = {"file": name, "models": models, "orders": dict(Counter(orders)), "labels": labels}
            found.trainings.append({**_of(stage), **facts})


# ---- the rounds' decisions, and what is missing --------------------------------------------------------------------------


def _add_decisions(found: Trace, stages: Stages) -> None:
    concerned = {one["round"] for one in (*found.votes, *found.labels, *found.trainings) if one["round"] is not None}
    found.decisions.extend(
        {**_of(stage), "metrics": dict(stage.manifest.metrics)}
        for stage in stages.all
        if stage.manifest.round in concerned and stage.manifest.name.rpartition("/")[2] in _DECISIONS
    )


def _add_notes(found: Trace, stages: Stages) -> None:
    for name, what in stages.retired.items():
        found.notes.append(f"{name}: its {what} have been removed to save space (section retention)")
    data = stages.store.in_place(DATA)
    if data is None:
        return
    if ORIGINS not in data.manifest.files:
        found.notes.append("file and row of the source are not known: the data was prepared by an earlier version")
    elif found.read_from and not found.held_in and not found.losses:
        surplus = {why: n for why, n in data.manifest.counts.dropped.items() if why in _SURPLUS}
        counted = ", ".join(f"{n:,} {why}" for why, n in surplus.items())
        found.notes.append(f"the pair is part of the surplus that no file lists: {counted or 'nothing is counted'}")


_SURPLUS: Sequence[str] = ("over_cap", "over_weight", "not_needed")
