"""Votes as needed ÷ all votes, on the same votes: tokens, requests, and labels that are equal.

``python -m tests.benchmarks.voting RUN`` has each round's judge of a finished run cast 8 and 16 votes on each pair of its
batch, all of them, and replays them under every rule. ``simulated`` in place of RUN draws the votes of 20,000 pairs instead.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from data.records import Label
from data.store.artifacts import Manifest
from tasks.generation.local import generate_in_children
from tasks.generation.shards import GenerationJob, read_shards
from tasks.label import vote_query
from tasks.model.orders import ORDERS
from tasks.model.votes import Vote, read_votes, tally
from tasks.model.voting import VotingRule, rounds_wanted, verdict_on
from tasks.settings import GenerationSettings, LabelSettings, ModelSettings

PLANNED = (8, 16)
N_SIMULATED = 20_000
MALFORMED = 0.003
"""Share of the votes that cannot be read: that of the demo's first judge."""


def replay(votes: Sequence[Vote], rule: VotingRule) -> tuple[list[Vote], int]:
    """The votes that would have been cast, and how many requests in each order for them."""
    by_order = [[vote for vote in votes if vote.order == order] for order in ORDERS]
    cast: list[Vote] = []
    requests = 0
    while rounds := rounds_wanted(cast, rule):
        first, requests = len(cast) // 2, requests + 1
        cast += [vote for of in by_order for vote in of[first : first + rounds]]
    return cast, requests


def compared(
    pairs: Sequence[Sequence[Vote]], voting: Literal["exact", "beta"], settings: LabelSettings
) -> dict[str, Any]:
    rule = VotingRule(voting, len(pairs[0]), settings.min_confidence, settings.orders_agree)
    equal = labels = tokens = votes = requests = 0
    for all_votes in pairs:
        cast, asked = replay(all_votes, rule)
        whole, part = tally(all_votes), tally(cast)
        outcomes = [verdict_on(counted, settings) or counted.label for counted in (whole, part)]
        equal += outcomes[0] == outcomes[1]
        labels += whole.label == part.label
        tokens += sum(vote.n_tokens for vote in cast)
        votes, requests = votes + len(cast), requests + asked
    of_all = sum(vote.n_tokens for one in pairs for vote in one)
    return {
        "labels_equal": round(labels / len(pairs), 4),
        "outcomes_equal": round(equal / len(pairs), 4),
        "votes": round(votes / (len(pairs) * rule.planned), 3),
        "tokens": round(tokens / of_all, 3),
        "requests_an_order": round(requests / len(pairs), 2),
    }


def of_run(run: Path, round: int, planned: int) -> list[list[Vote]]:
    """All votes of a round's judge on its batch."""
    config = Manifest.load(run / f"round-{round}/votes/manifest.json").config
    names = ("prompt", "temperature", "top_p", "max_tokens", "context", "overlong", "seed")
    params = {**{name: config[name] for name in names}, "votes": planned}
    rows = run / f"data/batch-{round}.jsonl"
    n_rows = sum(1 for _ in rows.open(encoding="utf-8"))
    models = ModelSettings(
        judge_base="none", judge_prompt=params["prompt"], max_tokens=params["context"], dtype="float32"
    )
    generation = GenerationSettings(kv_cache_mib=64)
    with tempfile.TemporaryDirectory() as folder:
        job = GenerationJob(
            "tasks.label:vote_requests", params, str(rows), n_rows, str(run / f"round-{round - 1}/judge/checkpoint"),
            f"{folder}/shards", models.model_dump(mode="json"), generation.model_dump(mode="json"),
        )  # fmt: skip
        generate_in_children(job, Path(folder) / "log", lambda line: None, lambda done, total: None)
        return [read_votes(vote_query(params), line["requests"]) for line in read_shards(job)]


def simulated(planned: int) -> list[list[Vote]]:
    """Votes of a judge that is about as sure as the demo's: P(A) of a pair from Beta(0.25, 0.25), replies of one length."""
    draw = random.Random(0)

    def vote(order: str, p_a: float) -> Vote:
        verdict: Label | None = "A" if draw.random() < p_a else "B"
        return Vote(order, 0, None if draw.random() < MALFORMED else verdict, None, 1)

    pairs = []
    for _ in range(N_SIMULATED):
        p_a = draw.betavariate(0.25, 0.25)
        pairs.append([vote(order, p_a) for order in ORDERS for _ in range(planned // 2)])
    return pairs


def sources(name: str) -> Iterator[tuple[str, int, list[list[Vote]]]]:
    for planned in PLANNED:
        if name == "simulated":
            yield name, planned, simulated(planned)
            continue
        run = Path(name).resolve()
        pairs = []
        for round in sorted(int(votes.parent.name.removeprefix("round-")) for votes in run.glob("round-*/votes")):
            pairs += (found := of_run(run, round, planned))
            yield f"round {round}", planned, found
        yield "all rounds", planned, pairs


def main(name: str, settings: Mapping[str, Any]) -> None:
    labels = LabelSettings(**settings)
    for what, planned, pairs in sources(name):
        for voting in ("exact", "beta"):
            figures = compared(pairs, voting, labels)  # type: ignore[arg-type]
            print(json.dumps({"votes_of": what, "planned": planned, "voting": voting, **figures}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]) if len(sys.argv) > 2 else {"min_confidence": 0.75, "orders_agree": True})
