"""What Prefect does and does not do by itself, on the version that is installed: what our settings rest on.

The tests marked `prefect` only watch Prefect: they run when its version changes (see `tests.conftest.WATCHED`).

Lost machines, which only an automation tells Prefect of, are in `test_up`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psutil
import pytest
import yaml

from data.files import write_jsonl
from data.world import taste
from flows.running.lost import crash_lost_stages
from flows.server.entries import parts
from flows.server.processes import Services, start_worker
from tests.chaos.subject import ENDED, Subject, flow_run_of, state_of_run
from tests.conftest import ROOT, SECRET, until
from tests.support.following import start_deployment
from tests.support.patient import send
from tests.support.services import start_server

pytestmark = [pytest.mark.slow, pytest.mark.server]

OURS: dict[str, Any] = parts()[0]["work_pool"]["job_variables"]


@pytest.fixture
def deployed(services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Registers a flow with these job variables; returns the deployment's name."""
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    monkeypatch.setitem(services.environment, "PYTHONPATH", path)

    def deploy(entrypoint: str = "tests.support.prefect_flows.writes_lines", **variables: Any) -> str:
        env = {**variables.get("env", {}), "PYTHONPATH": path}
        pool = {"name": "ctl", "job_variables": {**variables, "env": env}}
        name = f"test-{uuid4().hex[:8]}"
        told = {"name": name, "entrypoint": entrypoint, "work_pool": pool}
        content = {"pull": [{"flows.server.deployments.enter_project": {}}], "deployments": [told]}
        file = tmp_path / "prefect.yaml"
        file.write_text(yaml.safe_dump(content))
        services.prefect("--no-prompt", "deploy", "--all", "--prefect-file", str(file))
        return f"writes-lines/{name}"

    return deploy


def process_of(run: str) -> psutil.Process | None:
    engines = (p for p in psutil.process_iter(["cmdline"]) if "prefect.engine" in (p.info["cmdline"] or []))
    return next((process for process in engines if flow_run_of(process) == run), None)


def at_work(services: Services, name: str, alive: Path, seconds: float) -> str:
    """Starts a run that works for so long; returns its id once it does."""
    run = start_deployment(services, name, {"seconds": seconds, "alive": str(alive)})
    until(alive.exists, 60)
    return run


@pytest.mark.prefect
def test_a_killed_flow_is_crashed_at_once(services: Services, deployed: Any, tmp_path: Path) -> None:
    run = at_work(services, deployed(**OURS), tmp_path / "alive", 120)
    process = process_of(run)
    assert process is not None
    process.kill()
    until(lambda: state_of_run(services, run) == "CRASHED", 10)


@pytest.mark.prefect
def test_a_flow_outlives_its_worker_with_our_settings_only(services: Services, deployed: Any, tmp_path: Path) -> None:
    """Its output goes to the worker by default: it dies at the next line when nobody reads it any more."""
    for variables, goes_on in ((OURS, True), ({**OURS, "stream_output": True}, False)):
        alive = tmp_path / f"alive-{goes_on}"
        run = at_work(services, deployed(**variables), alive, 25)
        worker = services.processes.pop("worker")
        worker.kill()
        worker.wait()
        killed = time.time()
        try:
            if goes_on:
                until(lambda run=run: state_of_run(services, run) == "COMPLETED", 60)
                assert alive.stat().st_mtime > killed + 5
            else:
                until(lambda run=run: process_of(run) is None, 30)
                assert alive.stat().st_mtime < killed + 5
                assert state_of_run(services, run) != "COMPLETED"
        finally:
            start_worker(services)


@pytest.mark.prefect
def test_a_server_that_is_away_at_the_end_costs_nothing(services: Services, deployed: Any, tmp_path: Path) -> None:
    """Longer than Prefect's own five retries last; the run has ended meanwhile."""
    run = at_work(services, deployed(**OURS), tmp_path / "alive", 10)
    services.stop("server")
    try:
        time.sleep(80)
    finally:
        start_server(services)
    until(lambda: state_of_run(services, run) == "COMPLETED", 120)
    services.stop("worker")  # it has given up listening for cancelled runs: see flows.running.cancelling
    start_worker(services)


@pytest.mark.prefect
def test_a_module_that_cannot_be_imported_is_not_deployed(deployed: Any, tmp_path: Path) -> None:
    """With a module path as entrypoint. From a file, Prefect would read the flow without importing it, and deploy it."""
    source = (ROOT / "tests/support/prefect_flows.py").read_text()
    (tmp_path / "broken_flows.py").write_text(source + "\nimport no_such_module_at_all\n")
    with pytest.raises(RuntimeError, match="no_such_module_at_all"):
        deployed("broken_flows.writes_lines", **OURS)


@pytest.mark.prefect
def test_a_nested_parameter_is_replaced_whole(services: Services, deployed: Any, tmp_path: Path) -> None:
    """Why single values are given as overrides."""
    name = deployed(**OURS)
    [found] = httpx.post(
        f"{services.ui}/api/deployments/filter", json={"deployments": {"name": {"any_": [name.split("/")[1]]}}}
    ).json()
    given = {"seconds": 1, "alive": str(tmp_path / "alive"), "nested": {"a": 1, "b": 2}}
    send("PATCH", f"{services.ui}/api/deployments/{found['id']}", {"parameters": given})
    run = start_deployment(services, name, {"nested": {"a": 3}})
    parameters = httpx.get(f"{services.ui}/api/flow_runs/{run}").json()["parameters"]
    assert parameters["nested"] == {"a": 3}
    until(lambda: state_of_run(services, run) in ENDED, 60)


@pytest.mark.prefect
def test_a_deployment_needs_its_whole_name(services: Services) -> None:
    with pytest.raises(RuntimeError, match="Invalid deployment name"):
        services.prefect("deployment", "run", "self-train")


def test_stages_that_a_killed_attempt_left_are_ended(services: Services) -> None:
    """Prefect leaves them running, in the timeline of a run that has long been completed."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    api = f"{services.ui}/api"
    flow = send("POST", f"{api}/flows/", {"name": "left-behind"}).json()["id"]
    run = send("POST", f"{api}/flow_runs/", {"flow_id": flow, "state": {"type": "RUNNING"}}).json()["id"]
    made = {}
    for name in ("COMPLETED", "RUNNING", "PENDING"):
        told = {"flow_run_id": run, "task_key": name, "dynamic_key": name, "state": {"type": name}}
        made[name] = send("POST", f"{api}/task_runs/", told).json()["id"]
    bar = {"type": "progress", "data": 43.0, "flow_run_id": run, "task_run_id": made["RUNNING"]}
    bar["id"] = send("POST", f"{api}/artifacts/", bar).json()["id"]
    with temporary_settings({PREFECT_API_URL: api}):
        assert crash_lost_stages(UUID(run)) == 2
        # The next seed of the same attempt: the server does not know yet that this attempt's own tasks have ended.
        told = {"flow_run_id": run, "task_key": "own", "dynamic_key": "own", "state": {"type": "RUNNING"}}
        own = send("POST", f"{api}/task_runs/", told).json()["id"]
        assert crash_lost_stages(UUID(run)) == 0
    assert httpx.get(f"{api}/task_runs/{own}").json()["state"]["type"] == "RUNNING"
    assert httpx.get(f"{api}/artifacts/{bar['id']}").status_code == 404, "it would stand at 43% forever"
    now = {name: httpx.get(f"{api}/task_runs/{one}").json()["state"]["type"] for name, one in made.items()}
    assert now == {"COMPLETED": "COMPLETED", "RUNNING": "CRASHED", "PENDING": "CRASHED"}


def whole_shards(subject: Subject) -> dict[str, bytes]:
    """The finished shards of the stage that the run is at, by their places in its artifact."""
    found = {}
    for facts in subject.folder.glob(".work/*/shards-*/.0*.done"):
        shard = facts.with_name(f"{facts.name[1:7]}.jsonl")
        stage = facts.parts[-3].rpartition("-")[0].replace("--", "/")
        with contextlib.suppress(FileNotFoundError):  # the stage has been finished in this moment
            found[f"{stage}/{shard.parent.name}/{shard.name}"] = shard.read_bytes()
    return found


def to_be_cancelled(services: Services, folder: Path, spread: bool) -> Subject:
    """A run that soon generates. Here it does nothing else: the world's judge plays several sets of pairs."""
    if spread:  # only what a run has made itself is generated from on other workers
        few = {"learning_rate": 3e-4, "max_steps": 3, "batch_size": 12}
        return Subject(services, folder, "cancelled", spread, {"training.prover": few, "training.in_pool": False})
    sets = []
    for i in range(4):
        write_jsonl(folder / f"{i}.jsonl", (pair.to_json() for pair in taste.draw_pairs(150, seed=21 + i)))
        sets.append({"benchmark": "preferences", "data": str(folder / f"{i}.jsonl"), "name": f"set-{i}"})
    subject = Subject(services, folder, "cancelled")
    subject.deployment = "benchmark/demo"
    subject.job["overrides"] = {
        "judge.path": "data/world/base-judge", "judge.prompt": "compact", "benchmarks.votes": 2, "benchmarks.sets": sets,
        "generation.shard_rows": 10,
    }  # fmt: skip
    return subject


@pytest.mark.engine
@pytest.mark.parametrize("spread", [False, True], ids=["here", "on other workers"])
def test_cancelling_ends_engines_within_seconds_and_keeps_what_is_whole(
    services: Services, tmp_path: Path, spread: bool
) -> None:
    subject = to_be_cancelled(services, tmp_path, spread)
    subject.start()
    try:
        until(lambda: len(subject.children("tasks.generation.worker")) == (2 if spread else 1), 180)
        kept: dict[str, bytes] = {}
        until(lambda: kept.update(whole_shards(subject)) or kept, 60)
        subject.cancel()
        until(lambda: not subject.children("tasks.generation.worker"), 30 if spread else 20)
        until(lambda: subject.state() == "CANCELLED", 30)
        assert subject.flow() is None
        subject.start()
        stage = subject.folder / next(iter(kept)).rpartition("/shards-")[0]
        until(lambda: (stage / "manifest.json").is_file(), 180)
        assert {name: (subject.folder / name).read_bytes() for name in kept} == kept, "what was whole is not made again"
        if not spread:  # without its worker, it ends by itself
            until(lambda: subject.children("tasks.generation.worker"), 180)
            worker = services.processes.pop("worker")
            worker.kill()
            worker.wait()
        subject.cancel()
        until(lambda: not subject.children("tasks.generation.worker") and subject.flow() is None, 60)
        until(lambda: subject.state() == "CANCELLED", 60)
    finally:
        if "worker" not in services.processes:
            start_worker(services)
        for name in set(services.processes) - {"server", "worker"}:
            services.stop(name)


def test_tokens_come_from_secret_blocks_where_the_environment_has_none(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect import flow
    from prefect.blocks.system import Secret
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.running.tokens import BLOCKS, tokens_from_blocks

    for name in BLOCKS:
        monkeypatch.setenv(name, "to be restored")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_TOKEN", "of the environment")
    seen: dict[str, str] = {}

    @flow(name="sees-tokens", persist_result=False)
    def sees_tokens() -> list[str]:
        filled = tokens_from_blocks()
        seen.update({name: os.environ[name] for name in BLOCKS if name in os.environ})
        return filled

    assert tokens_from_blocks() == [], "outside a flow run no server is asked"
    with temporary_settings({PREFECT_API_URL: services.environment["PREFECT_API_URL"]}):
        for block in ("hf-token", "wandb-api-key"):
            Secret(value=SECRET).save(block, overwrite=True)
        assert sees_tokens() == ["WANDB_API_KEY", "AWS_SESSION_TOKEN"], "the last one is of the whole suite"
        for name in ("WANDB_API_KEY", "AWS_SESSION_TOKEN"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of another account")
        assert sees_tokens() == ["WANDB_API_KEY"], "keys of two accounts are not mixed"
        kept = b"".join(path.read_bytes() for path in services.home.rglob("*") if path.is_file())
        for block in ("hf-token", "wandb-api-key"):
            Secret.delete(block)
    assert (seen["HF_TOKEN"], seen["WANDB_API_KEY"]) == ("of the environment", SECRET)
    assert SECRET.encode() not in kept, "the server keeps it in its database without encryption"
