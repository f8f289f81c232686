"""A Prefect server and workers as processes on this machine: started, found answering, stopped with their children."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from flows.server.entries import SHORT
from flows.server.up import BAD_RECIPE, LEFT_OUT, Say, run_module

_PORTS = range(4200, 4300)
"""Prefect's default and those after it. The system hands none of them to outgoing connections, which could take one between
the look and the start."""
_START_S = 120.0
_STOP_S = 20.0
_REAP_S = 5.0


@dataclass
class Services:
    """The running services: port, environment with the API's address, and processes by name."""

    home: Path
    port: int
    environment: dict[str, str]
    processes: dict[str, psutil.Process] = field(default_factory=dict)
    started: bool = True
    """Whether the server was started for this, and not found running."""

    @property
    def ui(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, name: str, *arguments: str) -> None:
        """Starts ``prefect <arguments>`` in its own process group; its output goes to a file in the home folder."""
        log = (self.home / f"{name}.log").open("ab")
        self.processes[name] = psutil.Popen(
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
        return run_module("flows.cli.app", "up", environment=self.environment, allowed=(0, BAD_RECIPE))

    def stop(self, *names: str) -> None:
        """Stops services with all their children, and waits until their process groups are empty."""
        stopped = [self.processes.pop(name) for name in names]
        groups = {process.pid for process in stopped}
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + _STOP_S
            for group in groups:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(group, number)
            while (groups := _alive(groups)) and time.monotonic() < deadline:
                time.sleep(0.1)
        for process in stopped:
            with contextlib.suppress(psutil.TimeoutExpired):
                process.wait(_REAP_S)  # if it is this process's child; its threads may take a moment longer to end

    def is_alive(self, name: str) -> bool:
        process = self.processes.get(name)
        return process is not None and is_alive(process)


def _alive(groups: set[int]) -> set[int]:
    """Those process groups in which a process runs; one that has ended may wait long for its parent to notice."""
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if (group := os.getpgid(process.pid)) in groups and process.status() != psutil.STATUS_ZOMBIE:
                found.add(group)
    return found


def is_alive(process: psutil.Process) -> bool:
    """Whether a process runs, and is not one that has ended and waits for its parent to notice."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def environment_of(home: Path, port: int, variables: Mapping[str, str] = {}) -> dict[str, str]:
    """The environment of all services whose data are in `home`, and of commands that use them."""
    return {
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


def launch_server(services: Services) -> None:
    """Starts the server, which answers some seconds later."""
    services.start("server", "server", "start", "--host", "127.0.0.1", "--port", str(services.port))


def bring_up(services: Services, say: Say, with_created: bool = False) -> None:
    """Creates what the server lacks, and says which recipes were left out and, if wanted, what was created."""
    for line in services.bring_up().splitlines():
        if with_created or line.startswith(LEFT_OUT):
            say(line)


def start_worker(
    services: Services, name: str = "worker", pool: str = "ctl", queue: str | None = None, limit: int = 1
) -> None:
    """Starts a worker that takes so many flow runs at a time, from one work queue of the pool or from all of them."""
    queues = ["--work-queue", queue] if queue else []
    told = ["--pool", pool, *queues, "--name", name, "--limit", str(limit), "--type", "process"]
    services.start(name, "worker", "start", *told)


WORKERS = {"worker": ("default", 1), "worker-short": (SHORT, 2)}
"""The workers of the pool ctl on one machine: the queue of each, and how many runs it takes at a time."""


def start_workers(services: Services) -> None:
    """Starts those of the workers that are not running."""
    for name, (queue, limit) in WORKERS.items():
        if not services.is_alive(name):
            start_worker(services, name, queue=queue, limit=limit)


def wait_for_server(services: Services) -> None:
    """Returns once the server answers. Raises RuntimeError with the last line and the name of its log if it does not."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if not services.is_alive("server"):
            break
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{services.ui}/api/health", timeout=2) as answer:
            if answer.status == 200 and _listens(services.processes["server"], services.port):
                return
        time.sleep(0.3)
    log = services.home / "server.log"
    raise RuntimeError(f"the Prefect server did not start: {_last_line(log)}; its log is {log}")


def _listens(process: psutil.Process, port: int) -> bool:
    """Whether it is this process that answers at the port, and not one that was quicker to take it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        found = process.net_connections("tcp")
        return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in found)
    return False


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def free_port(*wanted: int) -> int:
    """The first of the wanted ports, then of 4200 to 4299, then of all others, that is free on 127.0.0.1."""
    for port in (*wanted, *_PORTS, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
    raise RuntimeError("no free port on 127.0.0.1")
