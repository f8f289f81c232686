"""Work that is given to other machines: each part is a run of a deployment, on whatever worker takes it.

What is done is read from the store, never from Prefect: a run that is lost is followed by another one for what it left,
and a stage that is taken up again finds the runs that are still at work for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID, uuid4

import httpx

from data.records import canonical_json
from data.store.lease import LeaseError
from data.store.store import RunStore
from tasks.machine.child import ChildError, undisturbed

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

_POLL_S = 3.0
_PATIENCE_S = 60.0
_RETRIES = 2
_END_S = 10.0
_CANCEL_S = 15.0
_PAGE = 200
_MOST_LOST = 10
_MOST_FAILED = 1
"""Runs that may be lost, and that may fail, for one part before it is given up: what fails twice will again."""


@dataclass
class Part:
    """What one run does. `left` says what of it is still to be done, such as "3 shards"; nothing when it is done."""

    label: str
    parameters: Mapping[str, Any]
    left: Callable[[], str]
    run_id: UUID | None = None
    lost: int = 0
    failed: int = 0
    asked: float = 0.0
    """When its run was started, or 0 once it is at work."""


def run_parts(
    deployment: str,
    store: RunStore,
    work: Path,
    parts: Sequence[Part],
    on_poll: Callable[[], object],
    say: Callable[[str], None],
) -> None:
    """Has every part done by runs of `deployment`, and waits for them; `on_poll` is called again and again meanwhile.

    `work` is the folder of the stage, which names its runs. Raises ChildError where one fails twice, or where one after
    the other is lost. Whatever ends this function cancels the runs that are not over,
    unless the run has been taken over by another process: then they are that one's.
    """
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    # The next poll is a retry; minutes of them inside one request would keep a run from ending.
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: _RETRIES}), get_client(sync_client=True) as client:
        runs = _Runs(client, deployment, f"{store.url}/{store.run_name}", work.name, say)
        try:
            while True:
                on_poll()  # first, so that what is here of the stage is where its runs look for it
                waiting = [part for part in parts if part.left()]
                if not waiting:
                    break
                try:
                    runs.adopt(parts)
                    for part in waiting:
                        runs.ensure_running(part, on_poll)
                except httpx.HTTPError as error:  # the runs go on without the server
                    say(f"the Prefect server does not answer ({error!r})")
                time.sleep(_POLL_S)
        except LeaseError:
            raise
        except BaseException:
            with undisturbed():
                runs.cancel()
            raise
        runs.let_end()


class _Runs:
    """The runs of one stage's parts."""

    def __init__(
        self, client: SyncPrefectClient, deployment: str, place: str, name: str, say: Callable[[str], None]
    ) -> None:
        self.client, self.deployment, self.name, self.say = client, deployment, name, say
        # Of the whole run, whose stages come one after the other; and of its store: two may hold runs of one name.
        self.tag = "run-" + hashlib.sha256(place.encode()).hexdigest()[:16]
        self.ids: set[UUID] = set()
        self.keys: dict[str, str] = {}
        self.adopted = False

    def adopt(self, parts: Sequence[Part]) -> None:
        """Finds, once, the runs that an earlier attempt at this stage has started and that are still at work.

        Those with other parameters are cancelled: of a stage that was cut into another number of parts, or of one that
        a changed setting has replaced.
        """
        if self.adopted:
            return
        for run in self._under_way():
            given = canonical_json(run.parameters)
            part = next((p for p in parts if p.run_id is None and canonical_json(p.parameters) == given), None)
            self.ids.add(run.id)
            if part is not None:
                part.run_id = run.id
                self.say(f"{part.label}: its run {run.name!r} is still at work")
            else:
                self.say(f"the run {run.name!r} of an earlier attempt is cancelled")
                self._cancel(run.id)
        self.adopted = True

    def _under_way(self) -> list[FlowRun]:
        """Runs of this stage that are neither over nor being cancelled: those will do no more, but may take minutes to end."""
        from prefect.client.schemas.filters import (
            FlowRunFilter,
            FlowRunFilterState,
            FlowRunFilterStateType,
            FlowRunFilterTags,
        )
        from prefect.client.schemas.objects import StateType

        types = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING]
        wanted = FlowRunFilter(
            tags=FlowRunFilterTags(all_=[self.tag]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=types), name=None),
        )
        found: list[FlowRun] = []
        while page := self.client.read_flow_runs(flow_run_filter=wanted, offset=len(found), limit=_PAGE):
            found += page
        return found

    def ensure_running(self, part: Part, on_poll: Callable[[], object]) -> None:
        """Starts a part's run, or another one where the last has ended before it was done."""
        if part.run_id is not None:
            run = self._read(part.run_id)
            if run is None:  # somebody has deleted it
                state, what = None, f"{part.label}: its run {part.run_id} is gone"
            elif run.state is None or not run.state.is_final():
                self._say_if_nobody_takes_it(part, run)
                return
            else:
                state, what = run.state, f"{part.label}: its run {run.name!r} ended {run.state.name}"
            on_poll()  # what it has done may have been written after the last look
            if not (left := part.left()):
                return
            failed = state is not None and state.is_failed()
            part.failed += failed
            part.lost += not failed
            ended, part.run_id = part.run_id, None  # counted once, also where no other can be started now
            what, why = f"{what} with {left} left", state.message if state is not None else "no message"
            if part.failed > _MOST_FAILED or part.lost > _MOST_LOST:
                raise ChildError(f"{what}: {why}\nIts log is in the UI, under flow run {ended}")
            self.say(f"{what} ({why}); another worker goes on with it")
        part.run_id, part.asked = self._start(part).id, time.monotonic()

    def _read(self, run: UUID) -> FlowRun | None:
        from prefect.exceptions import ObjectNotFound

        try:
            return self.client.read_flow_run(run)
        except ObjectNotFound:
            return None

    def _say_if_nobody_takes_it(self, part: Part, run: FlowRun) -> None:
        if run.state is None or not run.state.is_scheduled():
            part.asked = 0.0
        elif part.asked and time.monotonic() - part.asked > _PATIENCE_S:
            self.say(f"{part.label}: no worker has taken its run {run.name!r} of {self.deployment} yet")
            part.asked = 0.0

    def _start(self, part: Part) -> FlowRun:
        from prefect.deployments import run_deployment

        again = f" again {n}" if (n := part.lost + part.failed) else ""
        # Where the answer to a request is lost, the next one with this key finds the run that was made.
        key = self.keys.setdefault(f"{part.label}{again}", str(uuid4()))
        run = run_deployment(
            self.deployment,
            parameters=dict(part.parameters),
            timeout=0,
            tags=[self.tag],
            flow_run_name=f"{self.name} {part.label}{again}",
            idempotency_key=key,
        )
        self.ids.add(run.id)  # type: ignore[union-attr]
        return cast("FlowRun", run)

    def let_end(self) -> None:
        """Lets runs whose part is done end by themselves; those that do not are cancelled, as one that was taken for lost."""
        deadline = time.monotonic() + _END_S
        with contextlib.suppress(httpx.HTTPError):
            while time.monotonic() < deadline and any(map(self._is_under_way, self.ids)):
                time.sleep(1.0)
        self.cancel()

    def _is_under_way(self, run: UUID) -> bool:
        found = self._read(run)
        return found is not None and (found.state is None or not found.state.is_final())

    def cancel(self) -> None:
        """Cancels all runs of the stage that are not over, those too that were taken for lost."""
        deadline = time.monotonic() + _CANCEL_S
        for run in self.ids:
            if time.monotonic() < deadline:  # a server that is away must not keep a run that is to end from ending
                self._cancel(run)

    def _cancel(self, run: UUID) -> None:
        from prefect.states import Cancelling

        # One that cannot be reached must not keep the others, nor hide why the stage ends.
        with contextlib.suppress(httpx.HTTPError):
            if self._is_under_way(run):
                self.client.set_flow_run_state(run, Cancelling(message="the run that waited for it has ended"))
