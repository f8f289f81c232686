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
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import httpx

from data.records import canonical_json
from tasks.child import ChildError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

_POLL_S = 3.0
_PATIENCE_S = 60.0
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


def see_through(
    deployment: str, work: str, parts: Sequence[Part], on_poll: Callable[[], object], say: Callable[[str], None]
) -> None:
    """Has every part done by runs of `deployment`, and waits for them; `on_poll` is called again and again meanwhile.

    `work` is the folder of the stage, by which the runs of an earlier attempt at it are found. Raises ChildError where a
    run fails twice, or where one after the other is lost. Whatever ends this function early cancels the runs that it
    waits for.
    """
    from prefect.client.orchestration import get_client

    tag = "stage-" + hashlib.sha256(work.encode()).hexdigest()[:16]
    name = work.rpartition("/")[2]
    with get_client(sync_client=True) as client:
        try:
            _adopt(client, parts, tag, say)
            while True:
                on_poll()  # first, so that what is here of the stage is where its runs look for it
                waiting = [part for part in parts if part.left()]
                if not waiting:
                    return
                for part in waiting:
                    try:
                        _see_to(client, deployment, name, part, tag, say)
                    except httpx.TransportError as error:  # the runs go on without the server
                        say(f"{part.label}: the Prefect server does not answer ({error!r})")
                time.sleep(_POLL_S)
        finally:
            _cancel(client, [part.run_id for part in parts if part.run_id and part.left()])


def _adopt(client: SyncPrefectClient, parts: Sequence[Part], tag: str, say: Callable[[str], None]) -> None:
    """Finds the runs that an earlier attempt at this stage has started and that are still at work.

    Those with other parameters, as of a stage that was cut into another number of parts, are cancelled.
    """
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags

    for run in client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[tag]))):
        if run.state is None or run.state.is_final() or run.state.is_cancelling():
            continue  # one that is being cancelled will do no more, and where its worker is gone it takes minutes to end
        given = canonical_json(run.parameters)
        part = next((p for p in parts if p.run_id is None and canonical_json(p.parameters) == given), None)
        if part is not None:
            part.run_id = run.id
            say(f"{part.label}: its run {run.name!r} is still at work")
        else:
            say(f"the run {run.name!r} of an earlier attempt is cancelled")
            _cancel(client, [run.id])


def _see_to(
    client: SyncPrefectClient, deployment: str, name: str, part: Part, tag: str, say: Callable[[str], None]
) -> None:
    """Starts a part's run, or another one where the last has ended before it was done."""
    if part.run_id is not None:
        run = client.read_flow_run(part.run_id)
        left = part.left()
        if run.state is None or not run.state.is_final() or not left:
            if run.state is None or not run.state.is_scheduled():
                part.asked = 0.0
            elif part.asked and time.monotonic() - part.asked > _PATIENCE_S:
                say(f"{part.label}: no worker has taken its run {run.name!r} of {deployment} yet")
                part.asked = 0.0
            return
        part.failed += run.state.is_failed()
        part.lost += not run.state.is_failed()
        what = f"{part.label}: its run {run.name!r} ended {run.state.name} with {left} left"
        if part.failed > _MOST_FAILED or part.lost > _MOST_LOST:
            raise ChildError(f"{what}: {run.state.message}\nIts log is in the UI, under flow run {run.id}")
        say(f"{what} ({run.state.message}); another worker goes on with it")
    part.run_id, part.asked = _start(deployment, name, part, tag).id, time.monotonic()


def _start(deployment: str, name: str, part: Part, tag: str) -> FlowRun:
    from prefect.deployments import run_deployment

    again = f" again {n}" if (n := part.lost + part.failed) else ""
    run = run_deployment(
        deployment,
        parameters=dict(part.parameters),
        timeout=0,
        tags=[tag],
        flow_run_name=f"{name} {part.label}{again}",
    )
    return cast("FlowRun", run)


def _cancel(client: SyncPrefectClient, runs: Sequence[UUID]) -> None:
    from prefect.states import Cancelling

    for run in runs:
        # One that cannot be reached must not keep the others, nor hide why the stage ends.
        with contextlib.suppress(httpx.HTTPError):
            client.set_flow_run_state(run, Cancelling(message="the run that waited for it has ended"))
