"""GRAM, a judge adapted from its result, and the baselines, on a real server and worker with real vLLM; short settings.

A learning curve with another set, five methods over several seeds, and that a second start of these makes nothing again, are
shown without a server: tests/tasks/test_learning_curve.py and test_comparison.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.server.processes import Services
from tests.chaos.subject import manifests
from tests.conftest import rows_of
from tests.support.following import run_deployment, state_of
from tests.support.short_run import short_adapt, short_baselines, short_gram

pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.engine, pytest.mark.train]

SEEDS = (0,)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("worlds") / "world"


@pytest.fixture(scope="module")
def gram(services: Services, store: Path, world: Path) -> dict[str, Any]:
    """The parameters of a run of gram/demo that has completed, and its flow run."""
    told = {"store": str(store), "run_name": "gram", "overrides": short_gram(world)}
    flow_run, state = run_deployment(services, "gram/demo", told)
    assert state == "Completed"
    return {"told": told, "flow_run": flow_run}


def artifacts_of(services: Services, flow_run: str) -> dict[str, str]:
    """The named artifacts of a flow run, as the UI asks for them: key → type."""
    of_run = {"artifacts": {"flow_run_id": {"any_": [flow_run]}}, "limit": 200}
    found = httpx.post(f"{services.ui}/api/artifacts/filter", json=of_run).json()
    return {artifact["key"]: artifact["type"] for artifact in found if artifact["key"]}


def markdown_of(services: Services, flow_run: str, key: str) -> str:
    of_run = {"artifacts": {"flow_run_id": {"any_": [flow_run]}, "key": {"any_": [key]}}}
    [artifact] = httpx.post(f"{services.ui}/api/artifacts/filter", json=of_run).json()
    return str(artifact["data"])


def states_of(services: Services, flow_run: str) -> set[str]:
    """The names of the states in which the stages of a flow run have ended."""
    of_run = {"flow_runs": {"id": {"any_": [flow_run]}}, "limit": 200}
    tasks = httpx.post(f"{services.ui}/api/task_runs/filter", json=of_run).json()
    assert tasks
    return {task["state"]["name"] for task in tasks}


def test_gram_goes_through_and_is_found_done_again(services: Services, gram: dict[str, Any], store: Path) -> None:
    run = store / "gram"
    made = manifests(run)
    assert {"pretrained", "round-0/judge", "round-0/benchmark", "final"} <= made.keys()
    assert "Reused" not in states_of(services, gram["flow_run"])
    assert json.loads((run / "final/prompt.json").read_text())["name"] == "compact-label"
    assert "made after GRAM" in (run / "final/README.md").read_text()
    assert "<svg" in (run / "report.html").read_text()
    shown = artifacts_of(services, gram["flow_run"])
    assert shown == {"gram-summary": "markdown", "gram-rounds": "table", "gram-benchmarks": "table"}
    again, state = run_deployment(services, "gram/demo", gram["told"])
    assert (state, states_of(services, again)) == ("Completed", {"Reused"})
    assert manifests(run) == made


def test_a_judge_is_adapted_from_its_result(services: Services, gram: dict[str, Any], store: Path, world: Path) -> None:
    told = {"store": str(store), "run_name": "adapted", "overrides": short_adapt(world, store / "gram" / "final")}
    run = store / "adapted"
    flow_run, state = run_deployment(services, "adapt/demo", told)
    assert state == "Completed"
    made = manifests(run)
    assert {"task", "before/benchmark", "size-8/judge", "size-8/benchmark", "final"} <= made.keys()
    metrics = made["size-8/judge"].metrics
    assert metrics["best_step"] in (2, 4, 6)
    assert metrics["validation_loss"] > 0
    assert len(rows_of(run / "task/train-8.jsonl")) == 2 * 8
    report = (run / "report.md").read_text()
    lines = [line.split(" | ")[0] for line in report.splitlines() if line.startswith(("| before ", "| 8 "))]
    assert lines == ["| before", "| 8"]
    assert "<svg" in (run / "report.html").read_text()
    assert "adapted to a task" in (run / "final/README.md").read_text()
    assert artifacts_of(services, flow_run) == {"adapted-summary": "markdown", "adapted-benchmarks": "table"}
    assert "## Learning curve" in markdown_of(services, flow_run, "adapted-summary")
    assert "with 8 pairs; report in" in state_of(services, flow_run)


def test_the_baselines_are_compared(services: Services, store: Path, world: Path) -> None:
    """Of one seed, and without a round: several seeds are tried in tests/tasks/test_comparison.py, rounds in self-training."""
    overrides = {**short_baselines(world / "sides", SEEDS), "rounds.count": 0}
    told = {"store": str(store), "run_name": "sides", "overrides": overrides}
    flow_run, state = run_deployment(services, "baselines/world", told)
    assert state == "Completed"
    run = store / "sides"
    made = manifests(run)
    found = json.loads((store / "sides/comparison.json").read_text())
    assert list(found) == [str(seed) for seed in SEEDS]
    rows = {row["method"]: row for row in found[str(SEEDS[0])]}
    assert list(rows) == ["discriminative", "label-only", "gram", "rationale"]
    assert rows["rationale"]["accuracy"] == made["round-0/benchmark"].metrics["accuracy"]
    assert rows["gram"]["accuracy"] == made["gram/benchmark"].metrics["accuracy"]
    assert min(row["tokens_trained"] for row in rows.values()) > 0
    assert rows["rationale"]["tokens_generated"] > 0 == rows["label-only"]["tokens_generated"]
    assert "<svg" in (run / "report.html").read_text()
    assert "<svg" in (store / "sides/comparison.html").read_text()
    assert artifacts_of(services, flow_run) == {
        "sides-summary": "markdown", "sides-rounds": "table", "sides-benchmarks": "table",
    }  # fmt: skip
    assert "| discriminative |" in markdown_of(services, flow_run, "sides-summary")
    assert state_of(services, flow_run).startswith("best is ")
