"""A run that is cancelled ends, whether or not its worker still listens.

Cancelling is the worker's to carry out. One that was killed does not, nor does one whose server was away for half a
minute (Prefect 3.7: its observer gives up for good); the run would go on for hours under the name of "Cancelling".
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from uuid import UUID

import httpx

_POLL_S = 5.0
_WORKERS_TURN_S = 10.0


@contextlib.contextmanager
def cancellable(or_replaced: bool = False) -> Iterator[None]:
    """Around the body of a flow: ends it as its worker would, where the worker has not some seconds after it was asked.

    With `or_replaced` it ends too when Prefect takes it for lost, for then another run is at its work. While it ends,
    nothing asks it to end again: what it cleans up must not be left half done.
    """
    from prefect.context import FlowRunContext

    context = FlowRunContext.get()
    if context is None or context.flow_run is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    watch = _Watch(context.flow_run.id, or_replaced)
    before = signal.getsignal(signal.SIGTERM)

    def asked(number: int, frame: FrameType | None) -> None:
        watch.over.set()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if callable(before):
            before(number, frame)
        else:
            sys.exit(128 + number)

    signal.signal(signal.SIGTERM, asked)
    watch.start()
    try:
        yield
    finally:
        watch.over.set()
        watch.join()
        signal.signal(signal.SIGTERM, before)
        if watch.cancelled:
            _say_cancelled(watch.flow_run)


class _Watch(threading.Thread):
    def __init__(self, flow_run: UUID, or_replaced: bool) -> None:
        super().__init__(name="cancelling", daemon=True)
        self.flow_run, self.or_replaced = flow_run, or_replaced
        self.over = threading.Event()
        self.cancelled = False

    def run(self) -> None:
        from prefect.client.orchestration import get_client

        asked: float | None = None
        with get_client(sync_client=True) as client:
            while not self.over.wait(_POLL_S):
                try:
                    state = client.read_flow_run(self.flow_run).state
                except Exception:  # a server that is away says nothing of cancelling; what is raised depends on how
                    continue
                cancelled = state is not None and (state.is_cancelling() or state.is_cancelled())
                replaced = self.or_replaced and state is not None and state.is_final()
                if not (cancelled or replaced):
                    asked = None
                    continue
                asked = asked or time.monotonic()
                if time.monotonic() - asked >= _WORKERS_TURN_S and not self.over.is_set():
                    self.cancelled = cancelled
                    os.kill(os.getpid(), signal.SIGTERM)
                    return


def _say_cancelled(flow_run: UUID) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelled

    with contextlib.suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        message = "The run has ended by itself, as its worker did not carry out that it was cancelled."
        client.set_flow_run_state(flow_run, Cancelled(message=message), force=True)
