"""A Prefect server and a worker of a test's own, for the length of a block."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from flows.server.local import stop_all
from flows.server.processes import (
    Services,
    bring_up,
    environment_of,
    free_port,
    launch_server,
    start_worker,
    wait_for_server,
)


@contextlib.contextmanager
def local_services(
    home: Path, port: int | None = None, worker: bool = True, variables: Mapping[str, str] = {}
) -> Iterator[Services]:
    """A server with every deployment and, if wanted, a worker for all queues. Both have stopped when the block ends.

    `variables` are added to the environment of every process started.
    """
    home.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    made = Services(home, port, environment_of(home, port, variables))
    _stop_at_signals()
    try:
        start_server(made)
        bring_up(made, lambda line: print(line, flush=True))
        if worker:
            start_worker(made)
        yield made
    finally:
        stop_all(made)


def start_server(services: Services) -> None:
    """Starts the server and waits until it answers."""
    launch_server(services)
    wait_for_server(services)


def _stop_at_signals() -> None:
    """Closing the terminal, or a kill, then stops what was started, as Ctrl-C does."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: sys.exit(128 + got))
