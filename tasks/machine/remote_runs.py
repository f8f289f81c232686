"""Work given to other machines: each part is a run of a deployment, on whichever worker takes it.

Progress is read from the store, never from Prefect: a lost run is followed by another one for the rest of its work, and
a resumed stage finds the runs that are still working for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID, uuid4

import httpx

from data.records import canonical_json
from data.store.lease import LeaseError
from data.store.store import RunStore
from tasks.machine.checkout import facts
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
_IN_VAIN = timedelta(minutes=10)
"""A run that crashes sooner without having begun has another reason than that no machine was free, such as its image."""
_MOST_LOST = 10
_MOST_FAILED = 1
"""How many runs of one part may be lost, and how many may fail, before it is given up: what fails twice will fail again."""


@dataclass
class Part:
    """The work of one run. `left` describes what remains to be done, such as "3 shards"; it is empty when all is done.

    How many of its runs were lost, failed, and waited for a machine in vain is counted.
    """

    label: str
    parameters: Mapping[str, Any]
    left: Callable[[], str]
    run_id: UUID | None = None
    lost: int = 0
    failed: int = 0
    waited: int = 0
    asked: float = 0.0
    """When its run was started; 0 once a worker has taken it, or the wait has been logged."""


def _has_waited_in_vain(run: FlowRun) -> bool:
    """Whether a run was given up before it began, as Prefect's automations do with one that gets no GPU: no work was lost."""
    state = run.state
    if state is None or not state.is_crashed() or run.start_time is not None or run.created is None:
        return False
    return state.timestamp - run.created >= _IN_VAIN


def _given(part: Part) -> dict[str, Any]:
    """The parameters of a part's run: the worker that takes it compares its own checkout with this machine's."""
    return {**part.parameters, "checkout": facts()}


def _compared(parameters: Mapping[str, Any]) -> str:
    prompts = (parameters.get("checkout") or {}).get("prompts")
    return canonical_json({**parameters, "checkout": prompts})


def run_parts(
    deployment: str,
    store: RunStore,
    work: Path,
    parts: Sequence[Part],
    on_poll: Callable[[], object],
    say: Callable[[str], None],
) -> None:
    """Does every part in a run of `deployment`, and waits for all; `on_poll` is called repeatedly meanwhile.

    `work` is the folder of the stage, after which its runs are named. Raises ChildError if a part's run fails twice or is
    lost too often. Whatever ends this function cancels the runs that have not ended, unless another process has taken over
    the stage's run: then they are that process's.
    """
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    # The next poll is a retry anyway; minutes of retries inside one request would keep a run from ending.
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: _RETRIES}), get_client(sync_client=True) as client:
        runs = _Runs(client, deployment, f"{store.url}/{store.run_name}", work.name, say)
        try:
            while True:
                on_poll()  # first, so that the stage's files are where its runs look for them
                waiting = [part for part in parts if part.left()]
                if not waiting:
                    break
                try:
                    runs.adopt(parts)
                    for part in waiting:
                        runs.ensure_running(part, on_poll)
                except httpx.HTTPError as error:  # the runs continue without the server
                    say(f"the Prefect server does not respond ({error!r})")
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
        # Shared by the whole run, whose stages follow one another, and specific to its store: two stores may hold runs of
        # the same name.
        self.tag = "run-" + hashlib.sha256(place.encode()).hexdigest()[:16]
        self.ids: set[UUID] = set()
        self.keys: dict[str, str] = {}
        self.adopted = False

    def adopt(self, parts: Sequence[Part]) -> None:
        """Finds, once, the runs that an earlier attempt at this stage started and that are still running.

        Those with other parameters are cancelled: they belong to a stage that was split into another number of parts,
        or was replaced because of a changed setting. Another version of a package is no reason.
        """
        if self.adopted:
            return
        for run in self._under_way():
            given = _compared(run.parameters)
            part = next((p for p in parts if p.run_id is None and _compared(_given(p)) == given), None)
            self.ids.add(run.id)
            if part is not None:
                part.run_id = run.id
                self.say(f"{part.label}: its run {run.name!r} is still running")
            else:
                self.say(f"cancelling the run {run.name!r} of an earlier attempt")
                self._cancel(run.id)
        self.adopted = True

    def _under_way(self) -> list[FlowRun]:
        """This stage's runs that have neither ended nor are being cancelled: those do no more, but may take minutes to end."""
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
        """Starts a part's run, or another one if the last ended before its work was done."""
        if part.run_id is not None:
            run = self._read(part.run_id)
            if run is None:  # it was deleted
                state, what = None, f"{part.label}: its run {part.run_id} no longer exists"
            elif run.state is None or not run.state.is_final():
                self._say_if_nobody_takes_it(part, run)
                return
            else:
                state, what = run.state, f"{part.label}: its run {run.name!r} ended {run.state.name}"
            on_poll()  # its last results may have been written after the last poll
            if not (left := part.left()):
                return
            failed = state is not None and state.is_failed()
            part.failed += failed
            in_vain = run is not None and _has_waited_in_vain(run)
            part.waited += in_vain
            part.lost += not failed and not in_vain
            ended, part.run_id = part.run_id, None  # counted once, even if no other can be started now
            what, why = f"{what} with {left} left", state.message if state is not None else "no message"
            if part.failed > _MOST_FAILED or part.lost > _MOST_LOST:
                raise ChildError(f"{what}: {why}\nIts log is in the UI, under flow run {ended}")
            self.say(f"{what} ({why}); another worker takes over")
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

        retry = f" retry {n}" if (n := part.lost + part.failed + part.waited) else ""
        # If the response to a request is lost, the next request with this key finds the run that was created.
        key = self.keys.setdefault(f"{part.label}{retry}", str(uuid4()))
        run = run_deployment(
            self.deployment,
            parameters=_given(part),
            timeout=0,
            tags=[self.tag],
            flow_run_name=f"{self.name} {part.label}{retry}",
            idempotency_key=key,
        )
        self.ids.add(run.id)  # type: ignore[union-attr]
        return cast("FlowRun", run)

    def let_end(self) -> None:
        """Lets runs whose part is done end by themselves; those that do not, such as one presumed lost, are cancelled."""
        deadline = time.monotonic() + _END_S
        with contextlib.suppress(httpx.HTTPError):
            while time.monotonic() < deadline and any(map(self._is_under_way, self.ids)):
                time.sleep(1.0)
        self.cancel()

    def _is_under_way(self, run: UUID) -> bool:
        found = self._read(run)
        return found is not None and (found.state is None or not found.state.is_final())

    def cancel(self) -> None:
        """Cancels all runs of the stage that have not ended, including those presumed lost."""
        deadline = time.monotonic() + _CANCEL_S
        for run in self.ids:
            if time.monotonic() < deadline:  # an unreachable server must not keep a run from ending
                self._cancel(run)

    def _cancel(self, run: UUID) -> None:
        from prefect.states import Cancelling

        # A failed request must not keep the others from being cancelled, nor hide why the stage ends.
        with contextlib.suppress(httpx.HTTPError):
            if self._is_under_way(run):
                self.client.set_flow_run_state(run, Cancelling(message="the run that waited for it has ended"))
