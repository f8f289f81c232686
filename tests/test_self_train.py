"""The main job end to end: a real Prefect server and worker, real vLLM, the small world; short settings."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from data.artifacts import MANIFEST, Manifest
from data.files import read_jsonl
from data.world.__main__ import main as write_world
from flows.local import Services, run_deployment, start_deployment, start_worker, state_of
from tests.conftest import SECRET

pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.engine, pytest.mark.train]

SHORT = {
    "rounds.count": 1,
    "rounds.pairs": 40,
    "labels.votes": 4,
    "labels.min_confidence": 0.5,
    "labels.orders_agree": False,
    "proofs.k": 2,
    "training.prover": {"learning_rate": 3e-4, "max_steps": 10, "batch_size": 12},
    "training.first_judge": {"learning_rate": 1e-3, "max_steps": 30, "batch_size": 16},
    "training.judge": {"learning_rate": 1e-3, "max_steps": 30, "batch_size": 16},
    "training.final": {"learning_rate": 1e-4, "max_steps": 5, "batch_size": 12},
    "generation.shard_rows": 20,
}


@pytest.fixture(scope="module")
def parameters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The short run's parameters, with a store of its own."""
    world = tmp_path_factory.mktemp("world")
    write_world(["--out", str(world), "--seed", "7", "--unlabeled", "60", "--heldout", "30"])
    sources = {
        f"data.{kind}": [{"path": f"{world}/{kind}.jsonl"}] for kind in ("rationale", "labeled", "unlabeled", "heldout")
    }
    return {"store": str(tmp_path_factory.mktemp("store")), "overrides": {**SHORT, **sources}}


def manifests(run: Path) -> dict[str, Manifest]:
    found = (Manifest.load(path) for path in run.rglob(MANIFEST) if not any(p.startswith(".") for p in path.parts))
    return {manifest.name: manifest for manifest in found}


def test_a_short_run_goes_through_and_shows_itself(services: Services, parameters: dict[str, Any]) -> None:
    run = Path(parameters["store"]) / "short"
    flow_run, state = run_deployment(services, "self-train/demo", {**parameters, "run_name": "short"})
    assert state == "Completed"
    lines = list(read_jsonl(run / "metrics.jsonl"))
    assert len({line["name"] for line in lines}) == len(lines)
    benchmarks = [line for line in lines if line["stage"] == "benchmark"]
    assert [line["round"] for line in benchmarks] == [0, 1, 2]
    for line in benchmarks:
        games = list(read_jsonl(run / f"round-{line['round']}" / "benchmark" / "games.jsonl"))
        assert len(games) == 60
        assert line["accuracy"] == sum(game["verdict"] == game["shown_label"] for game in games) / 60
    assert {"config.json", "model.safetensors", "prompt.json", "README.md"} <= {
        p.name for p in (run / "final").iterdir()
    }
    report = (run / "report.html").read_text()
    assert "<svg" in report
    assert "http://" not in report.replace("http://www.w3.org", "")
    of_run = {"artifacts": {"flow_run_id": {"any_": [flow_run]}}, "limit": 200}
    artifacts = httpx.post(f"{services.ui}/api/artifacts/filter", json=of_run).json()
    kinds = {artifact["type"] for artifact in artifacts}
    assert {"progress", "table", "markdown"} <= kinds, f"flow run {flow_run} left {kinds}"


def test_no_secret_of_the_environment_is_written_anywhere_and_nothing_is_pickled(
    services: Services, parameters: dict[str, Any]
) -> None:
    """Looks through the run folder, and all that server and worker have kept of it: logs, database, artifacts."""
    run = Path(parameters["store"]) / "short"
    for folder in (run, services.home):
        for path in folder.rglob("*"):
            if path.is_file():
                assert SECRET.encode() not in path.read_bytes(), f"{path} holds a secret"
    pickles = [path for path in run.rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".pkl", ".pickle")]
    assert pickles == []


def test_a_killed_worker_loses_nothing_that_was_finished(
    services: Services, parameters: dict[str, Any], tmp_path: Path
) -> None:
    """Kills the worker and the flow in the middle of a round; the second start redoes no finished stage.

    In the end every stage has, byte for byte, the content that it has in the run that nobody disturbed.
    """
    undisturbed = manifests(Path(parameters["store"]) / "short")
    run = tmp_path / "killed"
    told = {**parameters, "store": str(tmp_path), "run_name": "killed"}
    start_deployment(services, "self-train/demo", told)
    deadline = time.monotonic() + 300
    while not list(run.glob(".work/round-1--*")):
        assert time.monotonic() < deadline, "round 1 was never reached"
        time.sleep(0.1)
    worker = psutil.Process(services.processes.pop("worker").pid)
    family = [worker, *worker.children(recursive=True)]
    for process in family:
        process.kill()
    psutil.wait_procs(family, timeout=10)
    left = [p.pid for p in psutil.process_iter(["cmdline"]) if str(run) in " ".join(p.info["cmdline"] or [])]
    assert left == [], "a child of the killed flow is still running"
    finished = manifests(run)
    assert {"data", "prover", "round-0/judge", "round-0/benchmark"} <= finished.keys()

    start_worker(services)
    _, state = run_deployment(services, "self-train/demo", told)
    assert state == "Completed"
    after = manifests(run)
    assert {name: after[name] for name in finished} == finished
    assert {name: after[name].content for name in undisturbed if name != "final"} == {
        name: undisturbed[name].content for name in undisturbed if name != "final"
    }  # the card in final/ names the run
    lines = list(read_jsonl(run / "metrics.jsonl"))
    assert sorted(line["name"] for line in lines) == sorted(after)
    assert {line["name"] for line in lines if line["reused"]} == finished.keys()


def test_wrong_values_are_refused_before_anything_starts(services: Services, parameters: dict[str, Any]) -> None:
    overrides = {**parameters["overrides"], "labels.votes": 3}
    flow_run, state = run_deployment(
        services, "self-train/demo", {**parameters, "run_name": "wrong", "overrides": overrides}
    )
    assert state == "Failed"
    assert "votes must be even" in state_of(services, flow_run)
    assert not (Path(parameters["store"]) / "wrong").exists()
