"""``gram-r2 run`` with a recipe of one's own, on a real server and worker, with real vLLM: a checkpoint plays two sets."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from data.files import read_jsonl, write_jsonl
from data.world import taste
from flows.server.processes import Services
from tests.conftest import ROOT, rows_of
from tests.support.commands import COMMAND
from tests.support.scoring_rows import write_rows

pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.engine]


RECIPE = """
[judge]
path = "{judge}"
prompt = "compact"
max_tokens = 128
dtype = "float32"

[benchmarks]
sets = [{{ benchmark = "preferences", data = "world.jsonl", name = "world" }}, {{ benchmark = "ppe", data = "two.jsonl" }}]
votes = 2
temperature = 1.0
max_tokens = 64

[generation]
kv_cache_mib = 64
shard_rows = 8
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A folder with a recipe and its data, whose paths are relative to it."""
    folder = tmp_path / "measured"
    folder.mkdir()
    pairs = taste.draw_pairs(20, seed=21)
    write_jsonl(folder / "world.jsonl", (pair.to_json() for pair in pairs))
    texts = [text for pair in pairs for text in (pair.pair.response_a, pair.pair.response_b)]
    write_rows(folder / "two.jsonl", [candidates(i, texts[2 * i : 2 * i + 2]) for i in range(5)])
    (folder / "measured.toml").write_text(RECIPE.format(judge=ROOT / "data/world/base-judge"))
    return folder


def candidates(number: int, texts: list[str]) -> dict[str, Any]:
    """A best-of-n row of the world: the candidates with the most liked words are correct."""
    liked = [sum(taste.likes(word) for word in text.split()) for text in texts]
    responses = {f"response_{i + 1}": text for i, text in enumerate(texts)}
    scores = [count == max(liked) for count in liked]
    return {"question_id": str(number), "prompt": taste.QUESTION, "scores": scores, "mean_score": 0.5, **responses}


def typed(services: Services, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """``gram-r2`` as a user types it in a folder."""
    environment = {**os.environ, "PREFECT_API_URL": services.environment["PREFECT_API_URL"]}
    return subprocess.run([*COMMAND, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_checkpoint_is_measured_and_found_done_again(services: Services, recipe: Path, tmp_path: Path) -> None:
    run = recipe / "runs" / "benchmark-measured"
    done = typed(services, tmp_path, "run", "measured/")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "deployment benchmark/measured: created" in done.stdout
    assert "benchmark-world: done in" in done.stdout
    flow_run = re.findall(r"/flow-run/([0-9a-f-]{36})", done.stdout)[0]
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
    assert keys == {"benchmark-measured-benchmarks", "benchmark-measured-summary"}
    written = (run / "benchmark-world" / "manifest.json").stat().st_mtime_ns

    again = typed(services, tmp_path, "run", "measured/")
    assert again.returncode == 0, again.stdout + again.stderr
    assert (run / "benchmark-world" / "manifest.json").stat().st_mtime_ns == written
    assert "benchmark-world: reused" in again.stdout
    assert "done in" not in again.stdout
    status = typed(services, tmp_path, "status", "measured/")
    assert (status.returncode, "finished" in status.stdout) == (0, True), status.stdout + status.stderr
    assert "benchmark-measured" in typed(services, tmp_path, "list").stdout
