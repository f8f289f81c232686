"""A Prefect server and a worker on this machine, for the demo, for tests, and for a first look.

``python -m flows.server.local run self-train/demo`` starts both, runs a deployment to its end, and stops what it started.
``python -m flows.server.local up`` starts both and keeps them until Ctrl-C, to look at runs in the UI.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.config.recipes import ConfigError
from flows.server.deployments import check_run
from flows.server.runs import start_run
from flows.server.up import BAD_RECIPE, LEFT_OUT, run_module
from tasks.machine.terminal import print_anything

_PORT = 4200
_START_S = 120.0
_STOP_S = 20.0
_QUIET_POLLS = 2


@dataclass
class Services:
    """The running services: port, environment with the API's address, and processes by name."""

    home: Path
    port: int
    environment: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def ui(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, name: str, *arguments: str) -> None:
        """Starts ``prefect <arguments>`` in its own process group; its output goes to a file in the home folder."""
        log = (self.home / f"{name}.log").open("ab")
        self.processes[name] = subprocess.Popen(
            [sys.executable, "-m", "prefect", *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        log.close()

    def prefect(self, *arguments: str) -> str:
        """Runs a prefect command to its end and returns its output. Raises RuntimeError with the output if it fails."""
        return run_module("prefect", *arguments, environment=self.environment)

    def bring_up(self) -> str:
        """Creates pools, automations and deployments, as a user does on any server; returns what was printed.

        A recipe that cannot be run is left out and reported.
        """
        return run_module("flows.server.up", environment=self.environment, allowed=(0, BAD_RECIPE))

    def stop(self, name: str) -> None:
        """Stops a service with all its children, and waits until its process group is empty."""
        process = self.processes.pop(name)
        for number, patience in ((signal.SIGTERM, _STOP_S), (signal.SIGKILL, _STOP_S)):
            deadline = time.monotonic() + patience
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
                while time.monotonic() < deadline:
                    process.poll()  # reaps the leader, which would keep the group alive
                    os.killpg(process.pid, 0)
                    time.sleep(0.1)


@contextlib.contextmanager
def local_services(
    home: Path, port: int | None = None, worker: bool = True, variables: Mapping[str, str] = {}
) -> Iterator[Services]:
    """A server with every deployment of prefect.yaml and, if wanted, a worker. Both have stopped when the block ends.

    `variables` are added to the environment of every process started.
    """
    home.mkdir(parents=True, exist_ok=True)
    port = port or _free_port()
    environment = {
        **os.environ,
        "PREFECT_HOME": str(home.resolve()),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_CLI_PROMPT": "false",
        # A server that is away for a minute at the end of a run must not kill the run.
        "PREFECT_CLIENT_MAX_RETRIES": "8",
        **variables,
    }
    services = Services(home, port, environment)
    # Closing the terminal, or a kill, must stop what was started, as Ctrl-C does.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: sys.exit(128 + got))
    try:
        start_server(services)
        for line in services.bring_up().splitlines():
            if line.startswith(LEFT_OUT):
                print(line, flush=True)
        if worker:
            start_worker(services)
        yield services
    finally:
        for name in reversed(list(services.processes)):
            services.stop(name)


def start_server(services: Services) -> None:
    """Starts the server and waits until it answers."""
    services.start("server", "server", "start", "--host", "127.0.0.1", "--port", str(services.port))
    _wait_for(services)


def start_worker(services: Services, name: str = "worker", pool: str = "ctl") -> None:
    """Starts a worker that takes one flow run at a time."""
    services.start(name, "worker", "start", "--pool", pool, "--name", name, "--limit", "1", "--type", "process")


def start_deployment(services: Services, name: str, parameters: dict[str, Any]) -> str:
    """Starts a deployment; returns the flow run's id."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: services.environment["PREFECT_API_URL"]}):
        return start_run(name, parameters)


def run_deployment(services: Services, name: str, parameters: dict[str, Any]) -> tuple[str, str]:
    """Starts a deployment and follows it to its end, printing the log lines of its stages.

    Returns the flow run's id and the name of its final state.
    """
    run_id = start_deployment(services, name, parameters)
    print(f"{name} is flow run {run_id}; watch it at {services.ui}/runs/flow-run/{run_id}", flush=True)
    return run_id, asyncio.run(_follow(services, run_id))


def state_of(services: Services, run_id: str) -> str:
    """The message of a flow run's state."""
    with urllib.request.urlopen(f"{services.ui}/api/flow_runs/{run_id}", timeout=30) as answer:
        return str(json.load(answer)["state"]["message"])


async def _follow(services: Services, run_id: str) -> str:
    from uuid import UUID

    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
    from prefect.client.schemas.sorting import LogSort
    from prefect.settings import PREFECT_API_URL, temporary_settings

    seen = quiet = 0
    with temporary_settings({PREFECT_API_URL: services.environment["PREFECT_API_URL"]}):
        async with get_client() as client:
            while True:
                run = await client.read_flow_run(UUID(run_id))
                ended = run.state is not None and run.state.is_final()
                logs = await client.read_logs(
                    LogFilter(flow_run_id=LogFilterFlowRunId(any_=[UUID(run_id)])),
                    limit=200,
                    offset=seen,
                    sort=LogSort.TIMESTAMP_ASC,
                )
                seen += len(logs)
                for line in logs:
                    if _is_ours(line.name, line.message, line.level):
                        print(f"{line.timestamp:%H:%M:%S}  {line.message}", flush=True)
                worker = services.processes.get("worker")
                if not ended and (worker is None or worker.poll() is not None):
                    raise RuntimeError(f"the worker has exited; its log is {services.home / 'worker.log'}")
                # The last log lines reach the server a little after the run's final state.
                quiet = quiet + 1 if ended and not logs else 0
                if quiet > _QUIET_POLLS:
                    return (run.state.name if run.state else None) or "unknown"
                if len(logs) < 200:
                    await asyncio.sleep(1.0)


def _is_ours(logger: str, message: str, level: int) -> bool:
    """Lines worth showing at a terminal: what stages report about themselves, and all errors."""
    if level >= 40:
        return True
    return logger == "prefect.task_runs" and not message.startswith(("[", "Finished in state", "Created task run"))


def _wait_for(services: Services) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if services.processes["server"].poll() is not None:
            break
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{services.ui}/api/health", timeout=2) as answer:
            if answer.status == 200:
                return
        time.sleep(0.3)
    raise RuntimeError(f"the Prefect server did not start; its log is {services.home / 'server.log'}")


def _free_port() -> int:
    """4200, Prefect's default, if it is free; otherwise any free port."""
    for port in (_PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
    raise RuntimeError("no free port on 127.0.0.1")


def _parameters(pairs: list[str]) -> dict[str, Any]:
    """Parameters from ``key=value``; a value that is not JSON is a string. Raises ConfigError for anything else."""
    parsed: dict[str, Any] = {}
    for pair in pairs:
        key, found, value = pair.partition("=")
        if not found:
            raise ConfigError(f"--param {pair!r}: expected key=value")
        try:
            parsed[key] = json.loads(value)
        except json.JSONDecodeError:
            parsed[key] = value
    return parsed


def main() -> int:
    """Returns 2, with a message, for what cannot be run, and 1 if the run does not end as Completed."""
    print_anything()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "up"])
    parser.add_argument("deployment", nargs="?", help="for run: the deployment, such as self-train/demo")
    parser.add_argument("--param", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--home", type=Path, default=Path(".prefect"), help="where the server keeps its database")
    parser.add_argument("--port", type=int)
    arguments = parser.parse_args()
    if arguments.command == "run" and not arguments.deployment:
        parser.error("run needs a deployment, such as self-train/demo")
    if arguments.home.exists() and not arguments.home.is_dir():
        parser.error(f"--home {arguments.home} is a file: name a folder")
    try:
        parameters = _parameters(arguments.param)
        if arguments.command == "run":
            if "/" not in arguments.deployment:
                raise ConfigError(
                    f"{arguments.deployment!r} is not a deployment: give FLOW/NAME, such as self-train/demo"
                )
            check_run(arguments.deployment, parameters)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    print("starting a Prefect server and a worker on this machine …", flush=True)
    try:
        state = _serve(arguments, parameters)
    except RuntimeError as error:  # of the server or the worker, with the name of its log
        print(error, file=sys.stderr)
        return 1
    return 0 if state in ("Completed", None) else 1


def _serve(arguments: argparse.Namespace, parameters: dict[str, Any]) -> str | None:
    """Runs the deployment and returns its final state, or waits for Ctrl-C."""
    with local_services(arguments.home, arguments.port) as services:
        print(f"the UI is at {services.ui}", flush=True)
        if arguments.command == "up":
            print(f"start a run: PREFECT_API_URL={services.ui}/api prefect deployment run self-train/demo")
            print("Ctrl-C stops the server and the worker", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
            return None
        _, state = run_deployment(services, arguments.deployment, parameters)
        print(f"{arguments.deployment}: {state}", flush=True)
    print(
        "the Prefect server and worker have been stopped; `make ui` starts them again to look at this run", flush=True
    )
    return state


if __name__ == "__main__":
    sys.exit(main())
