"""The flow benchmark on a real server and worker, with real vLLM: a checkpoint that is there plays two sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from data.files import read_jsonl, write_jsonl
from data.world import taste
from flows.server.following import run_deployment
from flows.server.processes import Services
from tests.conftest import rows_of
from tests.support.scoring_rows import write_rows

pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.engine]


@pytest.fixture(scope="module")
def parameters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("sets")
    pairs = taste.draw_pairs(20, seed=21)
    write_jsonl(folder / "world.jsonl", (pair.to_json() for pair in pairs))
    texts = [text for pair in pairs for text in (pair.pair.response_a, pair.pair.response_b)]
    write_rows(folder / "two.jsonl", [candidates(i, texts[2 * i : 2 * i + 2]) for i in range(5)])
    sets = [
        {"benchmark": "preferences", "data": str(folder / "world.jsonl"), "name": "world"},
        {"benchmark": "ppe", "data": str(folder / "two.jsonl")},
    ]
    judge = {"judge.path": "data/world/base-judge", "judge.prompt": "compact", "benchmarks.votes": 2}
    return {
        "store": str(tmp_path_factory.mktemp("store")),
        "run_name": "measured",
        "overrides": {**judge, "benchmarks.sets": sets, "generation.shard_rows": 8},
    }


def candidates(number: int, texts: list[str]) -> dict[str, Any]:
    """A best-of-n row of the world: the candidates with the most liked words are correct."""
    liked = [sum(taste.likes(word) for word in text.split()) for text in texts]
    responses = {f"response_{i + 1}": text for i, text in enumerate(texts)}
    scores = [count == max(liked) for count in liked]
    return {"question_id": str(number), "prompt": taste.QUESTION, "scores": scores, "mean_score": 0.5, **responses}


def test_a_checkpoint_is_measured_and_found_done_again(services: Services, parameters: dict[str, Any]) -> None:
    run = Path(parameters["store"]) / "measured"
    flow_run, state = run_deployment(services, "benchmark/demo", parameters)
    assert state == "Completed"
    world = rows_of(run / "benchmark-world" / "games.jsonl")
    assert len(world) == 20 * 2 * 2
    scores = json.loads((run / "benchmark-world" / "scores.json").read_text())
    better = {"chosen_first": "A", "rejected_first": "B"}
    by_pair: dict[tuple[str, str], int] = {}
    for game in world:
        point = 0 if game["verdict"] is None else 1 if game["verdict"] == better[game["order"]] else -1
        by_pair[game["id"], game["order"]] = by_pair.get((game["id"], game["order"]), 0) + point
    assert scores["accuracy"] == pytest.approx(sum(points > 0 for points in by_pair.values()) / 40)
    knockouts = list(read_jsonl(run / "benchmark-ppe" / "games.jsonl"))
    assert len(knockouts) == 5 * 2 * 2  # a match a prompt (more rounds: test_benchmark_sets.py), both orders, two votes
    of_run = {"artifacts": {"flow_run_id": {"any_": [flow_run]}}, "limit": 200}
    artifacts = httpx.post(f"{services.ui}/api/artifacts/filter", json=of_run).json()
    keys = {artifact["key"] for artifact in artifacts if artifact["key"]}
    assert keys == {"measured-benchmarks", "measured-summary"}
    written = (run / "benchmark-world" / "manifest.json").stat().st_mtime_ns

    again, state = run_deployment(services, "benchmark/demo", parameters)
    assert state == "Completed"
    assert (run / "benchmark-world" / "manifest.json").stat().st_mtime_ns == written
    tasks = httpx.post(
        f"{services.ui}/api/task_runs/filter", json={"flow_runs": {"id": {"any_": [again]}}, "limit": 200}
    ).json()
    assert {task["state"]["name"] for task in tasks} == {"Reused"}
