"""A few pairs of a round, traced from votes to training set, for people to read."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from data.files import read_jsonl, write_json
from data.records import parse_pair
from data.seeds import derive_seed
from data.store.artifacts import Artifact
from prompts.template import render_conversation
from tasks.label import vote_params, vote_query
from tasks.model.judging import JudgeQuery
from tasks.model.proofs import read_proofs
from tasks.model.votes import read_votes
from tasks.prepare import batch_of, truth_of
from tasks.run.rows import generated_for
from tasks.run.stage import Run

SAMPLES = 20
"""Pairs shown in full for each round."""

Row = dict[str, Any]


def sample_pairs(run: Run, round: int, n: int = SAMPLES) -> list[Row]:
    """Up to `n` seeded pairs of a round's batch with everything that happened to them; empty if it has no labels yet.

    Each file is streamed; only the sampled pairs are held.
    """
    labels = run.finished_stage("label", round)
    if labels is None:
        return []
    # Kept beside the run's stages, whose files may be removed to save space.
    kept = run.store.path / "samples" / f"round-{round}.json"
    run.store.bring(kept)
    selected = run.finished_stage("select", round)
    of = {"labels": labels.manifest.key, "selected": selected.manifest.key if selected else None, "n": n}
    if kept.exists() and (found := json.loads(kept.read_text(encoding="utf-8")))["of"] == of:
        pairs: list[Row] = found["pairs"]
        return pairs
    pairs = _draw(run, round, labels, n)
    write_json(kept, {"of": of, "pairs": pairs})
    run.store.share(kept)
    return pairs


def _draw(run: Run, round: int, labels: Artifact, n: int) -> list[Row]:
    total = labels.manifest.counts.rows_in
    wanted = set(random.Random(derive_seed(run.seed, "report", round)).sample(range(total), min(n, total)))
    query = vote_query(vote_params(run, round))
    pairs = {
        str(row["id"]): _sampled(query, row, line, run.settings.labels.grounded_votes)
        for i, (row, line) in enumerate(_batch(run, round, labels))
        if i in wanted
    }
    _add_labels(pairs, labels)
    _add_truth(pairs, run)
    _add_proofs(pairs, run, round, labels)
    return list(pairs.values())


def _batch(run: Run, round: int, labels: Artifact) -> Iterator[tuple[Row, Row]]:
    """The round's unlabeled pairs with their votes, or without if the labels did not come from votes, or these were removed."""
    votes, data = run.finished_stage("vote", round), run.finished_stage("reviewed-data") or run.finished_stage("data")
    if votes is not None and data is not None:
        with_earlier = run.finished_stage("batch", round)
        batch = with_earlier.file("batch.jsonl") if with_earlier else batch_of(data, round).path
        yield from ((row, {}) for row in read_jsonl(batch)) if votes.manifest.retired else generated_for(votes, batch)
        return
    for name in ("labels.jsonl", "dropped.jsonl"):
        for row in read_jsonl(labels.file(name)):
            yield row, {}


def _sampled(query: JudgeQuery, row: Row, line: Row, grounded: bool) -> Row:
    pair = parse_pair(row)
    requests = line.get("requests", [])
    votes = read_votes(query, requests, pair if grounded else None)
    replies = [completion["text"] for request in requests for completion in request["completions"]]
    return {
        "id": pair.id,
        "prompt": render_conversation(pair.prompt),
        "response_a": pair.response_a,
        "response_b": pair.response_b,
        "source": pair.source,
        "votes": [{**asdict(vote), "reply": reply} for vote, reply in zip(votes, replies, strict=True)],
        "label": None,
        "confidence": None,
        "truth": None,
        "candidates": [],
        "fate": "no label yet",
        "kept": False,
    }


def _add_labels(pairs: dict[str, Row], labels: Artifact) -> None:
    for name in ("labels.jsonl", "dropped.jsonl"):
        for row in read_jsonl(labels.file(name)):
            pair = pairs.get(str(row["id"]))
            if pair is not None:
                reason = row.get("reason")
                fate = f"dropped at labels: {reason}" if reason else "label kept, no proofs yet"
                pair.update(label=row.get("label"), confidence=row.get("confidence"), fate=fate)


def _add_truth(pairs: dict[str, Row], run: Run) -> None:
    data = run.finished_stage("data")
    truth = truth_of(data) if data else None
    for row in read_jsonl(truth.path) if truth else ():
        if row["id"] in pairs:
            pairs[row["id"]]["truth"] = row["label"]


def _add_proofs(pairs: dict[str, Row], run: Run, round: int, labels: Artifact) -> None:
    """Adds the fate of each pair, the proof chosen in each order, and why the others were rejected."""
    proofs, selected = run.finished_stage("prove", round), run.finished_stage("select", round)
    if selected is None:
        return
    chosen: dict[tuple[str, str], int | None] = {}
    for name in ("selected.jsonl", "dropped.jsonl"):
        for row in read_jsonl(selected.file(name)) if name in selected.manifest.files else ():
            pair = pairs.get(str(row["id"]))
            if pair is not None:
                reason = row.get("reason")
                pair.update(fate=f"dropped at select: {reason}" if reason else "kept", kept=reason is None)
                chosen |= {(pair["id"], o): p.get("candidate") for o, p in row.get("proofs", {}).items()}
    if proofs is None or proofs.manifest.retired:
        return
    for row, line in generated_for(proofs, labels.file("labels.jsonl")):
        pair = pairs.get(str(row["id"]))
        if pair is not None:
            # Read by the same rules as in the stage "select".
            found = read_proofs(row, line, run.settings.judge_prompt, run.settings.proofs)
            pair["candidates"] = [
                {
                    "order": order,
                    **asdict(proof),
                    "text": text,
                    "chosen": chosen.get((pair["id"], order)) == proof.candidate,
                }
                for order, text, proof in found
            ]
