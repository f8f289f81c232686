"""Makes sure that a cancelled run ends, even if its worker no longer listens.

It is the worker's job to cancel a run. A worker that was killed does not, nor does one whose server was away for half a
minute (Prefect 3.7: its observer gives up for good); the run would continue for hours in the state "Cancelling".
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING
from uuid import UUID

import httpx

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

_POLL_S = 5.0
_WORKERS_TURN_S = 10.0


@contextlib.contextmanager
def cancellable(or_replaced: bool = False) -> Iterator[None]:
    """Wraps the body of a flow: ends it as its worker would, if the worker has not done so seconds after the request.

    With `or_replaced` it also ends if Prefect considers it lost, or no longer knows it: another run has then taken over.
    """
    from prefect.context import FlowRunContext

    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        yield
        return
    watch = _Watch(context.flow_run.id, or_replaced)
    watch.start()
    try:
        yield
    finally:
        watch.over.set()
        watch.join(timeout=1.0)
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
        from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

        asked: float | None = None
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), get_client(sync_client=True) as client:
            while not self.over.wait(_POLL_S):
                cancelled, replaced = self._look(client)
                if not (cancelled or replaced):
                    asked = None
                    continue
                asked = asked or time.monotonic()
                if time.monotonic() - asked >= _WORKERS_TURN_S and not self.over.is_set():
                    self.cancelled = cancelled
                    os.kill(os.getpid(), signal.SIGTERM)
                    return

    def _look(self, client: SyncPrefectClient) -> tuple[bool, bool]:
        """Whether the run has been cancelled, and whether another run has taken over its work."""
        from prefect.exceptions import ObjectNotFound

        try:
            state = client.read_flow_run(self.flow_run).state
        except ObjectNotFound:  # somebody has deleted it
            return False, self.or_replaced
        except Exception:  # an unreachable server proves nothing; the exception depends on why it is unreachable
            return False, False
        if state is None:
            return False, False
        return state.is_cancelling() or state.is_cancelled(), self.or_replaced and state.is_final()


def _say_cancelled(flow_run: UUID) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelled

    with contextlib.suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        message = "The run ended itself, because its worker did not carry out the cancellation."
        client.set_flow_run_state(flow_run, Cancelled(message=message), force=True)
