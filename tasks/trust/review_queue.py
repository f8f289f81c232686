"""The pairs of a run on which a person's minute is worth most, each with its reasons.

Read from the labels and proofs of each round::

    VotedPair("9f31…", round=1, source="forum", label="A", confidence=0.75, threshold=0.75, votes=8, kept=True,
              orders_agree=True, proved=True, score=-0.31)
    {"9f31…": ["near_threshold"]}
"""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from data.files import json_line, line_blocks
from data.records import content_id, flip, parse_pair
from data.seeds import derive_seed
from data.store.artifacts import MANIFEST, Artifact, Manifest
from data.store.store import RunStore
from tasks.model.orders import ORDERS, shown
from tasks.run.finished import stages_of_finished
from tasks.trust.review_files import ReviewError

REASONS = {
    "orders_disagree": "the verdict depends on which response is shown first",
    "label_flipped": "the label differs between two rounds",
    "no_valid_proof": "the label is kept, but no proof of it passes the rules",
    "weak_proof": "the label is kept, and its proof has one of the lowest scores (Eq. 5)",
    "near_threshold": "one vote more or less would decide whether the label is kept",
    "precision_not_shown": "no threshold is known at which labels of its source are right often enough",
    "low_kept_share": "fewer labels are kept of its source than of the others",
}
"""In the order in which pairs are drawn."""
AT_RANDOM = "at_random"
WEAK_SHARE = 0.1
"""Which share of the kept proofs counts as weak. Ours: a tenth, so that there are enough of them to draw from."""
LOW_BY = 0.1
"""How far the share of labels kept of a source must be below that of the others in its round. Ours, like the next two."""
LOW_ROWS = 20
"""Pairs of a source in a round below which its share says nothing."""
NEAR = 0.05
"""How near a probability must be to the threshold, where confidence is not a share of votes."""


@dataclass(frozen=True, slots=True)
class VotedPair:
    """What a round made of a pair. `score` is that of its chosen proof (Eq. 5), of the worse order if it has two.

    `proved` is None, and so is `score`, where the round has not selected proofs; `score` also where proofs have no score.
    `threshold` is the least confidence of a label that is kept; None where the target precision could not be shown. `votes`
    is 0 where confidence is not their share: without votes, for probabilities, and where earlier votes are remembered.
    """

    id: str
    round: int
    source: str
    label: str | None
    confidence: float | None
    threshold: float | None
    votes: int
    kept: bool
    orders_agree: bool
    proved: bool | None
    score: float | None


# ---- reading a run ---------------------------------------------------------------------------------------------------------


def voted_pairs(run: Path) -> list[VotedPair]:
    """Every pair that the judge has voted on in a run folder, once for each round. Memory: 0.5 GB a million.

    Raises ReviewError if there is none.
    """
    found = [_voted_pair(*one) for one in _rows(run)]
    if not found:
        raise ReviewError(f"{run}: no round has labels from votes yet, so there is nothing to review")
    return found


@dataclass(frozen=True)
class _Labels:
    """The labels of a round: the least confidence of one that is kept, which may be another one for some sources."""

    round: int
    least: float | None
    of_sources: Mapping[str, float | None]

    @classmethod
    def of(cls, labels: Manifest, folder: Path) -> _Labels | None:
        """None if they are not from votes, as in the gold control."""
        strictness = folder.parent / "threshold" / "strictness.json"
        if "min_confidence" in labels.config:
            return cls(int(labels.round or 0), labels.config["min_confidence"], {})
        if "strictness" in labels.inputs:
            found = json.loads(strictness.read_text(encoding="utf-8"))
            return cls(int(labels.round or 0), found["others"], found["domains"])
        return None

    def threshold(self, row: Mapping[str, Any]) -> float | None:
        return self.of_sources.get(row.get("source", ""), self.least)


def _rows(run: Path) -> Iterator[tuple[dict[str, Any], _Labels, bool | None]]:
    """Each labeled or dropped pair of each round: its row, what is known of its labels, and whether a proof was found."""
    of_run = stages_of_finished(RunStore(run.parent, run.name))
    for folder in sorted(run.glob("round-*/labels"), key=lambda path: int(path.parent.name.removeprefix("round-"))):
        if not (folder / MANIFEST).is_file() or (of_run is not None and f"{folder.parent.name}/labels" not in of_run):
            continue
        labels = Artifact(folder, Manifest.load(folder / MANIFEST))
        known = _Labels.of(labels.manifest, folder)
        if known is None:
            continue
        kept: Iterable[tuple[dict[str, Any], bool | None]]
        selected = folder.parent / "selected"
        made = Artifact(selected, Manifest.load(selected / MANIFEST)) if (selected / MANIFEST).is_file() else None
        # While a round is being redone, these are the proofs of its earlier labels.
        if made is not None and made.manifest.inputs.get("labeled") == labels.ref("labels.jsonl").content:
            rejected = _read(made.file("dropped.jsonl")) if "dropped.jsonl" in made.manifest.files else ()
            kept = chain(
                ((row, True) for row in _read(made.file("selected.jsonl"))), ((row, False) for row in rejected)
            )
        else:
            kept = ((row, None) for row in _read(labels.file("labels.jsonl")))
        yield from ((row, known, proved) for row, proved in kept)
        for row in _read(labels.file("dropped.jsonl")):
            # Not one whose prompt was too long, or whose votes failed.
            if "votes" in row or known.threshold(row) is None:
                yield {**row, "left_out": True}, known, None


def _read(path: Path) -> Iterator[dict[str, Any]]:
    """As `data.files.read_jsonl`, for files of ours, in a third of its time."""
    return chain.from_iterable(block.rows() for block in line_blocks(path))


def _voted_pair(row: Mapping[str, Any], labels: _Labels, proved: bool | None) -> VotedPair:
    scores = [proof.get("score") for proof in row.get("proofs", {}).values()]
    known = [score for score in scores if score is not None]
    return VotedPair(
        str(row["id"]),
        labels.round,
        row.get("source", ""),
        row.get("label"),
        row.get("confidence"),
        labels.threshold(row),
        0 if "p_a" in row or "earlier" in row else sum(row.get("votes", {}).values()),
        "left_out" not in row,
        row.get("orders_agree", True),
        proved,
        min(known, default=None),
    )


# ---- reasons ---------------------------------------------------------------------------------------------------------------


def reasons_of(pairs: Sequence[VotedPair]) -> dict[str, list[str]]:
    """The reasons to review each pair that has any, in the order of `REASONS`. Of a pair's rounds, the last one counts."""
    latest = {pair.id: pair for pair in pairs}
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        if pair.label is not None:
            labels[pair.id].add(pair.label)
    weak, low = _weak_below(latest.values()), _low_sources(pairs)
    found = {}
    for pair in latest.values():
        holds = {
            "orders_disagree": not pair.orders_agree,
            "label_flipped": len(labels[pair.id]) > 1,
            "no_valid_proof": pair.proved is False,
            "weak_proof": pair.score is not None and weak is not None and pair.score <= weak,
            "near_threshold": _is_near(pair),
            "precision_not_shown": pair.threshold is None,
            "low_kept_share": (pair.round, pair.source) in low,
        }
        if reasons := [name for name in REASONS if holds[name]]:
            found[pair.id] = reasons
    return found


def _is_near(pair: VotedPair) -> bool:
    """Whether one vote more or less for its label would have kept it, or not have kept it."""
    if pair.label is None or pair.confidence is None or pair.threshold is None:
        return False
    if not pair.votes:
        return abs(pair.confidence - pair.threshold) <= NEAR
    won = round(pair.confidence * pair.votes)
    return (won - 1) / pair.votes < pair.threshold <= min(won + 1, pair.votes) / pair.votes


def _weak_below(pairs: Iterable[VotedPair]) -> float | None:
    """The highest score that counts as weak; None if no proof has a score."""
    scores = sorted(pair.score for pair in pairs if pair.score is not None)
    return scores[max(0, int(len(scores) * WEAK_SHARE) - 1)] if scores else None


def _low_sources(pairs: Sequence[VotedPair]) -> set[tuple[int, str]]:
    """The sources in each round of which fewer labels are kept than of the round's others."""
    voted, kept = Counter((pair.round, pair.source) for pair in pairs), Counter[tuple[int, str]]()
    kept.update((pair.round, pair.source) for pair in pairs if pair.kept)
    of_round, kept_of_round = Counter(pair.round for pair in pairs), Counter(pair.round for pair in pairs if pair.kept)
    return {
        (round, source)
        for (round, source), n in voted.items()
        if n >= LOW_ROWS
        and (others := of_round[round] - n)
        and kept[round, source] / n <= (kept_of_round[round] - kept[round, source]) / others - LOW_BY
    }


# ---- drawing ---------------------------------------------------------------------------------------------------------------


def draw(reasons: Mapping[str, Sequence[str]], n: int, seed: int) -> list[str]:
    """Up to `n` ids, one reason after the other in turn, each in a seeded order of its own, none of them twice.

    They depend on the seed and on what there is to draw from, not on the order in which it was found.
    """
    waiting = {}
    for reason in REASONS:
        having = sorted(identity for identity, held in reasons.items() if reason in held)
        random.Random(derive_seed(seed, "review", reason)).shuffle(having)
        if having:
            waiting[reason] = iter(having)
    taken: dict[str, None] = {}
    while waiting and len(taken) < n:
        for reason, left in list(waiting.items()):
            following = next((identity for identity in left if identity not in taken), None)
            if following is None:
                del waiting[reason]
            elif len(taken) < n:
                taken[following] = None
    return list(taken)


def draw_at_random(ids: Collection[str], n: int, seed: int) -> list[str]:
    """Up to `n` of the ids, each equally likely, in a seeded order."""
    return random.Random(derive_seed(seed, "review", AT_RANDOM)).sample(sorted(ids), min(n, len(ids)))


def queue_of(run: Path, drawn: Sequence[str], reasons: Mapping[str, Sequence[str]], seed: int) -> list[dict[str, Any]]:
    """The lines of a queue, see `tasks.trust.review_files`: the drawn pairs of a run folder in an order of their own.

    Each pair is shown in an order that the seed draws. The same lines give the same queue, whose name is made from them.
    """
    wanted, rows = set(drawn), {}
    for row, labels, _ in _rows(run):
        if row["id"] in wanted:
            rows[str(row["id"])] = row, labels
    lines = [_line(run.name, *rows[identity], reasons[identity], seed) for identity in drawn]
    queue = f"{run.name}-{content_id(*map(json_line, lines))[:8]}"
    return [{"id": f"{queue}-{number:04d}", **line} for number, line in enumerate(lines, start=1)]


def _line(run: str, row: Mapping[str, Any], labels: _Labels, reasons: Sequence[str], seed: int) -> dict[str, Any]:
    order = ORDERS[derive_seed(seed, "review-order", row["id"]) % 2]
    pair, label = shown(parse_pair(row), order), row.get("label")
    return {
        "pair": pair.id,
        "order": order,
        "prompt": [message.to_json() for message in pair.prompt],
        "response_1": pair.response_a,
        "response_2": pair.response_b,
        "reasons": list(reasons),
        "run": run,
        "round": labels.round,
        "source": pair.source,
        "judge_label": flip(label) if label and order == "ba" else label,
        "confidence": row.get("confidence"),
    }


def queue_name(lines: Sequence[Mapping[str, Any]]) -> str:
    """The name of a queue, from its lines."""
    return str(lines[0]["id"]).rpartition("-")[0]
