"""Pools, automations and deployments on a real server: made once, found again, brought up to date."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest

from flows.config.recipes import ConfigError, find_recipe
from flows.server.deployments import deploy_recipe, gone, register, undeploy
from flows.server.entries import POOLS, SHORT
from flows.server.local import services as services_of
from flows.server.local import stop_services
from flows.server.processes import Services, is_alive
from flows.server.runs import cancel_run, crash_running, start_run, under_way
from tests.conftest import ROOT, free_port, until
from tests.support.patient import send

pytestmark = [pytest.mark.slow, pytest.mark.server]


def all_of(services: Services, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.post(f"{services.ui}/api/{kind}/filter", json={}).json()
    return found


def test_what_is_there_is_left_alone_and_what_differs_is_brought_up_to_date(services: Services) -> None:
    """A pool with an old description, and an automation with another trigger, which stays switched off."""
    before = {kind: all_of(services, kind) for kind in ("work_pools", "automations")}
    assert {pool["name"]: pool["description"] for pool in before["work_pools"]} == POOLS
    assert POOLS.keys() == {"ctl", "gpu", "train"}
    automations = {a["name"]: a for a in before["automations"]}
    assert sorted(automations) == ["gram-r2: never started", "gram-r2: no heartbeat"]
    deployed = {f"{d['name']}" for d in all_of(services, "deployments")}
    assert {"demo", "llama-3.2-3b", "llama-3.1-8b"} <= deployed
    send("PATCH", f"{services.ui}/api/work_pools/gpu", {"description": "old"})
    found = automations["gram-r2: no heartbeat"]
    kept = {key: found[key] for key in ("name", "trigger", "actions", "description")}
    other = {**kept, "trigger": {**found["trigger"], "within": 999.0}, "enabled": False}
    send("PUT", f"{services.ui}/api/automations/{found['id']}", other)

    said = services.bring_up().splitlines()
    assert said[:7] == [
        f"server: {services.ui}/api/",
        "work pool ctl: already there, of type process",
        f"work pool gpu: updated; {POOLS['gpu']}",
        "work pool train: already there, of type process",
        "work queue short of ctl: already there",
        "automation 'gram-r2: no heartbeat': updated",
        "automation 'gram-r2: never started': already there",
    ]
    after = {kind: all_of(services, kind) for kind in ("work_pools", "automations")}
    assert {p["id"]: p["description"] for p in after["work_pools"]} == {
        p["id"]: p["description"] for p in before["work_pools"]
    }
    now = {a["name"]: a for a in after["automations"]}
    assert {name: a["id"] for name, a in now.items()} == {name: a["id"] for name, a in automations.items()}
    assert now["gram-r2: never started"]["trigger"] == automations["gram-r2: never started"]["trigger"]
    assert (now[found["name"]]["trigger"]["within"], now[found["name"]]["enabled"]) == (300.0, False)
    send(
        "PUT",
        f"{services.ui}/api/automations/{found['id']}",
        {**kept, "trigger": now[found["name"]]["trigger"], "enabled": True},
    )


@pytest.fixture
def at_server(services: Services) -> Iterator[None]:
    """The functions that take the server from the environment or the profile find it."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: services.environment["PREFECT_API_URL"]}):
        yield


@pytest.mark.usefixtures("at_server")
def test_a_users_recipe_is_a_deployment_until_it_is_removed(services: Services, tmp_path: Path) -> None:
    """It tells where the recipe lies, so that one whose recipe is gone is named."""
    said: list[str] = []
    text = (ROOT / "flows/recipes/demo.toml").read_text()
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.toml").write_text(text)
        assert deploy_recipe(*find_recipe(f"{tmp_path}/{folder}"), said.append) == "self-train/mine"
    deploy_recipe(*find_recipe(f"{tmp_path}/two"), said.append)
    assert said == [
        "deployment self-train/mine: created",
        f"deployment self-train/mine: replaces {tmp_path}/one/mine.toml",
    ]
    made = httpx.get(f"{services.ui}/api/deployments/name/self-train/mine").json()
    assert sorted(made["tags"]) == ["gram-r2", "own", "self-train"]
    assert made["parameters"]["store"] == f"{tmp_path}/two/runs"
    assert (made["work_queue_name"], gone()) == ("default", [])
    built_in = httpx.get(f"{services.ui}/api/deployments/name/benchmark/demo").json()
    assert (sorted(built_in["tags"]), built_in["work_queue_name"]) == (["benchmark", "built-in", "gram-r2"], "short")

    (tmp_path / "two" / "demo.toml").write_text(text)
    with pytest.raises(ConfigError, match="self-train/demo is the deployment of a built-in recipe: use another name"):
        deploy_recipe("self-train", tmp_path / "two" / "demo.toml", said.append)
    with pytest.raises(
        ConfigError, match=r"self-train/demo is of a built-in recipe; these can be removed: .*self-train/mine"
    ):
        undeploy("self-train/demo")
    with pytest.raises(ConfigError, match="the server has no deployment self-train/nope"):
        start_run("self-train/nope", {})

    (tmp_path / "two" / "mine.toml").unlink()
    assert gone() == ["self-train/mine"]
    assert any("undeploy self-train/mine" in line for line in services.bring_up().splitlines())
    run = start_run("self-train/mine", {"run_name": "waits"}, queue="nobody-serves-this")
    assert "waits" in under_way()
    with pytest.raises(ConfigError, match="self-train/mine: cancel its runs first, or wait for their end: waits"):
        undeploy("self-train/mine")
    cancel_run(run)
    until(lambda: "waits" not in under_way(), 180)  # the worker may have taken it, and be busy
    undeploy("self-train/mine")
    assert gone() == []
    assert httpx.get(f"{services.ui}/api/deployments/name/self-train/mine").status_code == httpx.codes.NOT_FOUND


BEGIN = """
import sys
from pathlib import Path
from flows.server.local import services
found = services(Path(sys.argv[1]), int(sys.argv[2]))
print(found.started, {name: process.pid for name, process in sorted(found.processes.items())})
"""


def test_runs_whose_workers_were_stopped_are_crashed_and_those_that_wait_are_not(services: Services) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    api = f"{services.ui}/api"
    flow = send("POST", f"{api}/flows/", {"name": "stopped"}).json()["id"]
    runs = {
        kind: send("POST", f"{api}/flow_runs/", {"flow_id": flow, "state": {"type": kind}}).json()["id"]
        for kind in ("RUNNING", "PENDING", "SCHEDULED")
    }
    with temporary_settings({PREFECT_API_URL: api}):
        crash_running("stopped by hand")
    found = {kind: httpx.get(f"{api}/flow_runs/{run}").json()["state"] for kind, run in runs.items()}
    assert {kind: state["type"] for kind, state in found.items()} == {
        "RUNNING": "CRASHED",
        "PENDING": "CRASHED",
        "SCHEDULED": "SCHEDULED",
    }
    assert found["RUNNING"]["message"] == "stopped by hand"
    send("DELETE", f"{api}/flow_runs/{runs['SCHEDULED']}", {})


def test_services_in_the_background_are_started_once_and_serve_both_queues(tmp_path: Path) -> None:
    """Two commands begin at once, and both end; then a short run does not wait for a long one."""
    home, port = tmp_path / "home", free_port()
    command = [sys.executable, "-c", BEGIN, str(home), str(port)]
    begun = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        said = sorted(process.communicate(timeout=300)[0].split(" ", 1) for process in begun)
        assert [one[0] for one in said] == ["False", "True"]
        assert said[0][1] == said[1][1], "the same processes"
        from prefect.client.orchestration import get_client
        from prefect.settings import PREFECT_API_URL, temporary_settings

        flow = {
            "entrypoint": "tests.support.prefect_flows.writes_lines",
            "description": "",
            "tags": [],
            "parameters": {},
        }
        pool = {"name": "ctl", "job_variables": {"env": {"PYTHONPATH": str(ROOT)}}}
        with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{port}/api"}):
            with get_client(sync_client=True) as client:
                register(client, {"name": "waits", "work_pool": pool, **flow})
            long, short = tmp_path / "long", tmp_path / "short"
            start_run("writes-lines/waits", {"seconds": 600, "alive": str(long)})
            until(long.exists, 60)
            start_run("writes-lines/waits", {"seconds": 600, "alive": str(short)}, queue=SHORT)
            until(short.exists, 60)
        begun_again = services_of(home)
        assert not begun_again.started
        assert begun_again.port == port
    finally:
        assert stop_services(home)
    assert not any(map(is_alive, begun_again.processes.values()))
    touched = long.stat().st_mtime
    time.sleep(1.5)
    assert long.stat().st_mtime == touched, "runs end with their workers"


@pytest.mark.prefect
@pytest.mark.parametrize(
    ("automation", "event", "state"),
    [
        ("gram-r2: no heartbeat", "heartbeat", "RUNNING"),
        ("gram-r2: no heartbeat", "Running", "RUNNING"),
        ("gram-r2: never started", "Submitting", "PENDING"),
    ],
)
def test_a_run_on_a_lost_machine_is_crashed(services: Services, automation: str, event: str, state: str) -> None:
    """A flow run whose last sign of life stays its last; the patience is shortened for the test."""
    api = f"{services.ui}/api"
    [found] = [a for a in all_of(services, "automations") if a["name"] == automation]
    kept = {key: found[key] for key in ("name", "trigger", "actions", "description", "enabled")}
    impatient = {**kept, "trigger": {**found["trigger"], "within": 10.0}}
    send("PUT", f"{api}/automations/{found['id']}", impatient)
    try:
        flow = send("POST", f"{api}/flows/", {"name": "lost"}).json()["id"]
        told = {"flow_id": flow, "state": {"type": state}}
        run = send("POST", f"{api}/flow_runs/", told).json()["id"]
        sign = {
            "id": str(uuid4()),
            "occurred": datetime.now(UTC).isoformat(),
            "event": f"prefect.flow-run.{event}",
            "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
        }
        send("POST", f"{api}/events", [sign])
        deadline = time.monotonic() + 90
        while (now := httpx.get(f"{api}/flow_runs/{run}").json()["state"])["type"] == state:
            assert time.monotonic() < deadline, f"still {state}"
            time.sleep(1)
        assert now["type"] == "CRASHED"
        assert "no heartbeat" in now["message"] or "no sign of life" in now["message"]
    finally:
        send("PUT", f"{api}/automations/{found['id']}", kept)


def test_the_server_listens_on_the_loopback_only(services: Services) -> None:
    server = psutil.Process(services.processes["server"].pid)
    listening = [c.laddr.ip for c in server.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert set(listening) == {"127.0.0.1"}
