"""Held-out pairs that a judge got wrong in at least one order, with its replies, for people to read."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from typing import Any

from data.benchmarks.items import Item
from data.files import read_jsonl, write_json
from data.records import Label, flip
from data.seeds import derive_seed
from data.store.artifacts import SHARDS, Artifact
from prompts.template import render_conversation
from tasks.benchmark.games import Game
from tasks.benchmark.play import GAMES, query_of
from tasks.benchmark.rules import decided
from tasks.benchmark.sets import HELD_OUT, ITEMS
from tasks.model.judging import JudgeQuery, read_answer
from tasks.run.rows import generated_for
from tasks.run.stage import Run

WRONG = 10
"""Pairs shown."""

Row = dict[str, Any]


def wrong_pairs(run: Run, round: int, n: int = WRONG) -> tuple[list[Row], int]:
    """Up to `n` seeded pairs that were not judged right in one order or both, and how many there are.

    No pairs if what is needed is no longer stored. They are also kept in the run folder, with their whole texts.
    """
    played, sets = (
        run.finished_stage("benchmark", round),
        [a for a in run.finished_stages() if a.manifest.name == f"benchmarks/{HELD_OUT}"],
    )
    if played is None or not sets or not _stored(played):
        return [], 0
    wrong = _wrong(read_jsonl(played.file(GAMES)))
    drawn = set(random.Random(derive_seed(run.seed, "report", "held-out", round)).sample(wrong, min(n, len(wrong))))
    kept = run.store.path / "samples" / f"held-out-{round}.json"
    of = {"games": played.content, "n": n}  # failed rows that are retried leave the key as it is
    run.store.bring(kept)
    if kept.exists() and (found := json.loads(kept.read_text(encoding="utf-8")))["of"] == of:
        return found["pairs"], len(wrong)
    query = query_of(run)
    pairs = [
        _shown(query, Item.from_json(row), line)
        for row, line in generated_for(played, sets[0].file(ITEMS))
        if row["id"] in drawn
    ]
    write_json(kept, {"of": of, "pairs": pairs})
    run.store.share(kept)
    return pairs, len(wrong)


def _stored(played: Artifact) -> bool:
    files, retired = played.manifest.files, played.manifest.retired
    return not retired and GAMES in files and any(name.startswith(SHARDS) for name in files)


def _wrong(rows: Iterable[Row]) -> list[str]:
    """The pairs of which an order is not decided for the chosen response, by the majority of its votes as in the score."""
    votes: dict[str, dict[str, list[Game]]] = {}
    for row in rows:
        game = Game(int(row["order"] != "chosen_first"), verdict=row["verdict"], p_first=row["p_first"])
        votes.setdefault(row["id"], {}).setdefault(row["order"], []).append(game)
    return [name for name, orders in votes.items() if any(decided(games) <= 0 for games in orders.values())]


def _shown(query: JudgeQuery, item: Item, line: Mapping[str, Any]) -> Row:
    """The pair and its games; verdicts refer to responses A and B as in the held-out file."""
    [cell] = item.cells
    truth: Label = "A" if item.right[0] else "B"
    games = []
    for request in line.get("requests") or line.get("answered") or ():
        shown_first = cell.second if request["name"].endswith("/1") else cell.first
        for completion in request["completions"]:
            answer = read_answer(query, completion)
            verdict = flip(answer.verdict) if answer.verdict and shown_first == 1 else answer.verdict
            games.append({
                "order": "ba" if shown_first == 1 else "ab",
                "verdict": verdict,
                "right": verdict == truth,
                "malformed": answer.malformed,
                "p_a": 1 - answer.p_first if answer.p_first is not None and shown_first == 1 else answer.p_first,
                "n_tokens": answer.n_tokens,
                "reply": completion["text"],
            })  # fmt: skip
    return {
        "id": item.id,
        "source": item.group,
        "prompt": render_conversation(item.prompt),
        "response_a": item.responses[0],
        "response_b": item.responses[1],
        "truth": truth,
        "games": games,
        "lost": line.get("dropped") or line.get("failed"),
    }
