"""What can happen to a run: its processes are killed, its server goes away, one of its machines is lost."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable, Iterator

import httpx
import psutil
from prefect.events import Event, Resource

from tests.chaos.subject import ENDED, Subject, flow_run_of
from tests.support.patient import send
from tests.support.services import start_server

ENDING = {
    "flow killed", "flow terminated", "flow run cancelled", "worker and flow killed",
}  # fmt: skip
"""Faults that end the flow's process, whatever it is doing."""
QUICK = ("flow killed", "engine killed", "trainer killed", "worker and flow killed", "flow run cancelled")
"""Faults that are over at once; the others take minutes, which Prefect or the fault itself needs."""
OF_MACHINES = ("shard worker killed", "training worker killed")
"""Faults that can only happen to a run over several workers."""
FAULTS = (
    *QUICK, "flow terminated", "worker killed", "server away for 20 s", "server away for 130 s", *OF_MACHINES,
)  # fmt: skip
_PATIENCE_S = 75.0
_LOST_WITHIN_S = 180.0
_ORPHAN_S = 10.0


def possible(subject: Subject, rng: random.Random) -> dict[str, Callable[[], object]]:
    """The faults whose targets exist right now."""
    flow, worker = subject.flow(), subject.services.processes.get("worker")
    engines, trainers = subject.children("tasks.generation.worker"), subject.children("tasks.training")
    found: dict[str, Callable[[], object]] = {
        "server away for 20 s": lambda: _server_away(subject, 20),
        "server away for 130 s": lambda: _server_away(subject, 130),
    }
    if flow is not None:
        found |= {
            "flow killed": flow.kill,
            "flow terminated": lambda: flow.send_signal(signal.SIGTERM),
            "flow run cancelled": subject.cancel,
        }
    if engines:
        found["engine killed"] = rng.choice(engines).kill
    if trainers:
        found["trainer killed"] = trainers[0].kill
    if worker is not None:
        found["worker killed"] = lambda: _kill_services(subject, "worker")
        if flow is not None:
            found["worker and flow killed"] = lambda: (_kill_services(subject, "worker"), flow.kill())
    for fault, module in (
        ("shard worker killed", "tasks.generation.worker"),
        ("training worker killed", "tasks.training"),
    ):
        if parts := subject.parts(module):
            found[fault] = _losing(subject, parts[0])
    return found


def strike(subject: Subject, act: Callable[[], object]) -> list[str]:
    """Injects a fault; returns a problem for each process that outlives its flow, of which there must be none.

    Raises psutil.NoSuchProcess if the target has ended at this very moment.
    """
    flows = [
        flow
        for flow in (subject.flow(), *subject.parts("tasks.generation.worker"), *subject.parts("tasks.training"))
        if flow
    ]
    families = [(flow, flow.children(recursive=True)) for flow in flows]
    act()
    ended = [family for flow, family in families if not flow.is_running() or flow.status() == psutil.STATUS_ZOMBIE]
    _, alive = psutil.wait_procs([process for family in ended for process in family], timeout=_ORPHAN_S)
    return [f"process {process.pid} has outlived its flow" for process in alive]


def _kill_services(subject: Subject, *names: str) -> None:
    for name in names:
        process = subject.services.processes.pop(name)
        process.kill()
        process.wait()


def _server_away(subject: Subject, seconds: float) -> None:
    _kill_services(subject, "server")
    time.sleep(seconds)
    start_server(subject.services)


def _losing(subject: Subject, part: psutil.Process) -> Callable[[], object]:
    """A machine is lost: its worker, and the flow run on it. Prefect learns of it only from the automation."""

    def lose() -> None:
        flow_run = flow_run_of(part)
        worker = next(name for name, process in subject.services.processes.items() if part.ppid() == process.pid)
        _kill_services(subject, worker)
        part.kill()
        subject.mend()
        with _impatient(subject):
            _last_heartbeat(subject, flow_run)
            deadline = time.monotonic() + _LOST_WITHIN_S
            while subject.state(flow_run) not in ENDED and time.monotonic() < deadline:
                time.sleep(1.0)

    return lose


def _last_heartbeat(subject: Subject, flow_run: str) -> None:
    """Sends a lost run's last heartbeat to the server again: a changed automation forgets which runs it waits for."""
    resource = {"prefect.resource.id": f"prefect.flow-run.{flow_run}"}
    event = Event(event="prefect.flow-run.heartbeat", resource=Resource(resource))
    answer = httpx.post(f"{subject.services.ui}/api/events", json=[event.model_dump(mode="json")], timeout=30)
    answer.raise_for_status()


@contextlib.contextmanager
def _impatient(subject: Subject) -> Iterator[None]:
    """Makes the automation treat a run as lost sooner than `make up` configures it to."""
    api = f"{subject.services.ui}/api/automations"
    found = httpx.post(f"{api}/filter", json={}).json()
    [automation] = [one for one in found if one["name"] == "gram-r2: no heartbeat"]
    kept = {key: automation[key] for key in ("name", "trigger", "actions", "description", "enabled")}
    trigger = {**kept["trigger"], "within": _PATIENCE_S}
    send("PUT", f"{api}/{automation['id']}", {**kept, "trigger": trigger})
    try:
        yield
    finally:
        send("PUT", f"{api}/{automation['id']}", kept)
