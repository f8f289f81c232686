"""A run that is cancelled ends, whether or not its worker still listens.

Cancelling is the worker's to carry out. One that was killed does not, nor does one whose server was away for half a
minute (Prefect 3.7: its observer gives up for good); the run would go on for hours under the name of "Cancelling".
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from uuid import UUID

import httpx

_POLL_S = 5.0
_WORKERS_TURN_S = 10.0


@contextlib.contextmanager
def cancellable() -> Iterator[None]:
    """Around the body of a flow: ends it as its worker would, where the worker has not some seconds after it was asked."""
    from prefect.context import FlowRunContext

    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        yield
        return
    watch = _Watch(context.flow_run.id)
    watch.start()
    try:
        yield
    finally:
        watch.over.set()
        watch.join()
        if watch.acted:
            _say_cancelled(watch.flow_run)


class _Watch(threading.Thread):
    def __init__(self, flow_run: UUID) -> None:
        super().__init__(name="cancelling", daemon=True)
        self.flow_run = flow_run
        self.over = threading.Event()
        self.acted = False

    def run(self) -> None:
        from prefect.client.orchestration import get_client

        asked: float | None = None
        with get_client(sync_client=True) as client:
            while not self.over.wait(_POLL_S):
                # A server that is away says nothing of cancelling.
                with contextlib.suppress(httpx.HTTPError):
                    state = client.read_flow_run(self.flow_run).state
                    if state is None or not (state.is_cancelling() or state.is_cancelled()):
                        asked = None
                        continue
                    asked = asked or time.monotonic()
                    if time.monotonic() - asked >= _WORKERS_TURN_S:
                        self.acted = True
                        os.kill(os.getpid(), signal.SIGTERM)
                        return


def _say_cancelled(flow_run: UUID) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelled

    with contextlib.suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        message = "The run has ended by itself, as its worker did not carry out that it was cancelled."
        client.set_flow_run_state(flow_run, Cancelled(message=message), force=True)
