"""A Prefect server and workers on this machine, in the background, for commands that need them."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import httpx
import psutil

from data.files import write_json
from flows.config.recipes import checkout
from flows.server.processes import (
    WORKERS,
    Services,
    bring_up,
    environment_of,
    free_port,
    is_alive,
    launch_server,
    start_workers,
    wait_for_server,
)
from flows.server.runs import crash_running, under_way
from flows.server.up import Say

_SAME_S = 5.0
"""How far apart two readings of one process's start may be: the system's clock can be set in between."""


def _say(line: str) -> None:
    print(line, flush=True)


def home_folder() -> Path:
    """Where the services of this checkout keep their database, their logs, and the record of their processes."""
    return checkout() / ".prefect"


def services(home: Path, port: int | None = None, say: Say = _say, with_created: bool = False) -> Services:
    """The server and the workers recorded in `home`, as far as they run; those missing are started in the background.

    They outlive this process. A new server gets every pool, automation and deployment; `say` is told which recipes were left
    out and, if wanted, what was created. Raises RuntimeError with the name of a log if the server does not answer, and
    FileExistsError if `home` is a file.
    """
    with _locked(home):
        found = _recorded(home)
        if found is None or not found.is_alive("server"):
            found = _without_server(home, port, found)
        before = set(found.processes)
        try:
            if found.started:
                launch_server(found)
                _record(found)  # before the wait, in which this command may be killed
            wait_for_server(found)
            if found.started or not any(
                map(found.is_alive, WORKERS)
            ):  # the command that started it may have been killed
                bring_up(found, say, with_created and found.started)
            start_workers(found)
        except BaseException:
            found.stop(*found.processes.keys() - before)
            raise
        finally:
            _record(found)
    return found


def _without_server(home: Path, port: int | None, found: Services | None) -> Services:
    """Services to be started. Workers that have outlived their server go on, if it can have its port again."""
    left = dict(found.processes) if found else {}
    port = port or free_port(*[found.port] if found else [])
    made = Services(home, port, environment_of(home, port), left, started=True)
    if found and found.port != port:
        made.stop(*left)
    return made


def stop_services(home: Path) -> bool:
    """Stops what is recorded in `home`, with the runs that it executes; returns whether anything was running."""
    if not _record_of(home).is_file():
        return False
    with _locked(home):
        found = _recorded(home)
        running = set(found.processes) if found else set()
        if found is not None:
            found.stop(*found.processes.keys() - {"server"})
            if found.is_alive("server"):
                _end_runs(found)
            found.stop(*found.processes)
        _record_of(home).unlink(missing_ok=True)
    return bool(running)


def _end_runs(services: Services) -> None:
    """Tells the server that the runs which its workers were carrying out have ended: nobody else will."""
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    here = {PREFECT_API_URL: services.environment["PREFECT_API_URL"], PREFECT_CLIENT_MAX_RETRIES: 0}
    with temporary_settings(here), contextlib.suppress(httpx.HTTPError, RuntimeError):  # it may not answer any more
        crash_running("stopped with the services of this machine; the same command goes on with it")


def stop_all(services: Services) -> None:
    """The workers first, which tell the server that they go."""
    services.stop(*services.processes.keys() - {"server"})
    services.stop(*services.processes)


@contextlib.contextmanager
def in_use(home: Path) -> Iterator[TextIO]:
    """While the block runs, no other command's `release` stops the services in `home`. Yields what `release` needs."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "services.users").open("w") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        yield users


def release(services: Services, users: TextIO, say: Say) -> None:
    """Stops services that were started for a command that ends, unless another command uses them or runs are under way."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    others: list[str] = []
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until the block of `in_use` ends
    except BlockingIOError:
        others = ["another command"]
    with (
        temporary_settings({PREFECT_API_URL: services.environment["PREFECT_API_URL"]}),
        contextlib.suppress(httpx.HTTPError),  # the server has gone already
    ):
        others += under_way()
    if others:
        say(f"the Prefect server and workers go on, for {', '.join(others)}; `gram-r2 down` stops them")
    else:
        stop_services(services.home)
        say("the Prefect server and workers have been stopped; `gram-r2 ui` starts them again to look at runs")


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    """One command at a time: two that begin together must not start two servers."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "services.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _record_of(home: Path) -> Path:
    return home / "services.json"


def _record(services: Services) -> None:
    known = {
        name: {"pid": one.pid, "started": one.create_time()}
        for name, one in services.processes.items()
        if is_alive(one)
    }
    write_json(_record_of(services.home), {"port": services.port, "processes": known})


def _recorded(home: Path) -> Services | None:
    """What is recorded, with those processes that still run; a process that has taken over a number is none of them."""
    try:
        told = json.loads(_record_of(home).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    found: dict[str, psutil.Process] = {}
    for name, known in told["processes"].items():
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(known["pid"])
            if is_alive(process) and abs(process.create_time() - known["started"]) < _SAME_S:
                found[name] = process
    return Services(home, told["port"], environment_of(home, told["port"]), found, started=False)
