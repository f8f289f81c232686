"""Generation over several machines: a stage's shards are spread over runs of the deployment ``generate/shards``.

What is done is read from the shards on disk, never from Prefect: a run that is lost is followed by another one for the
shards that it left, and a stage that is taken up again finds the runs that are still at work for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import httpx

from data.store import RunStore
from tasks.child import ChildError
from tasks.dispatch import GenerationStats
from tasks.shards import GenerationJob, Shard

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

DEPLOYMENT = "generate/shards"
_POLL_S = 3.0
_PATIENCE_S = 60.0
_MOST_LOST = 10
_MOST_FAILED = 1
"""Runs that may be lost, and that may fail, for one part of a stage before it is given up: what fails twice will again."""


@dataclass
class _Part:
    """Every `workers`-th shard of a stage, and the flow run that makes them."""

    worker: int
    shards: list[Shard]
    run_id: UUID | None = None
    lost: int = 0
    failed: int = 0
    asked: float = 0.0
    """When its run was started, or 0 once it is at work."""

    def left(self, attempt: int) -> int:
        """How many of its shards are still to be made."""
        return sum(not shard.is_written(attempt) for shard in self.shards)


def generate_in_pool(
    job: GenerationJob,
    on_line: Callable[[str], None],
    on_progress: Callable[[int, int], None],
    store: RunStore,
) -> GenerationStats:
    """Runs the job's open shards on workers of the pool ``gpu``, and waits for them; see `tasks.dispatch` for one machine.

    Raises ChildError where a run fails, or where one after the other is lost. Whatever ends this function early cancels
    the runs that it waits for.
    """
    from prefect.client.orchestration import get_client

    open_shards = [shard for shard in job.shards() if not shard.is_finished()]
    workers = max(1, min(int(job.generation["workers"]), job.n_shards))
    parts = [_Part(i, [shard for shard in open_shards if shard.number % workers == i]) for i in range(workers)]
    parts = [part for part in parts if part.left(job.attempt)]
    tag = "shards-" + hashlib.sha256(job.out.encode()).hexdigest()[:16]
    told = {"job": job.relative_to(store.root).to_json(), "store": store.url, "workers": workers}
    with get_client(sync_client=True) as client:
        try:
            _adopt(client, parts, workers, tag, on_line)
            while waiting := [part for part in parts if part.left(job.attempt)]:
                # First, so that what is here of the stage is where its runs look for it.
                on_progress(sum(shard.rows_done() for shard in job.shards()), job.n_rows)
                for part in waiting:
                    try:
                        _see_to(client, part, {**told, "worker": part.worker}, tag, on_line)
                    except httpx.TransportError as error:  # the engines go on without the server
                        on_line(f"engine {part.worker}: the Prefect server does not answer ({error!r})")
                time.sleep(_POLL_S)
                store.refresh(Path(job.out).parent)
        finally:
            _cancel(client, [part.run_id for part in parts if part.run_id and part.left(job.attempt)])
    on_progress(job.n_rows, job.n_rows)
    spent = [shard.spent() for shard in open_shards]
    return GenerationStats(sum(t for t, _ in spent), sum(s for _, s in spent), len(parts))


def _adopt(
    client: SyncPrefectClient, parts: Sequence[_Part], workers: int, tag: str, say: Callable[[str], None]
) -> None:
    """Finds the runs that an earlier attempt at this stage has started and that are still at work.

    Those of a stage that was spread over another number of workers are cancelled: their shards are others'.
    """
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags

    for run in client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[tag]))):
        if run.state is None or run.state.is_final():
            continue
        part = next((part for part in parts if part.worker == run.parameters.get("worker")), None)
        if part is not None and part.run_id is None and run.parameters.get("workers") == workers:
            part.run_id = run.id
            say(f"engine {part.worker}: its run {run.name!r} is still at work")
        else:
            say(f"the run {run.name!r} of an earlier attempt is cancelled")
            _cancel(client, [run.id])


def _see_to(
    client: SyncPrefectClient, part: _Part, parameters: dict[str, Any], tag: str, say: Callable[[str], None]
) -> None:
    """Starts a part's run, or another one where the last has ended with shards left."""
    if part.run_id is not None:
        run = client.read_flow_run(part.run_id)
        left = part.left(int(parameters["job"]["attempt"]))
        if run.state is None or not run.state.is_final() or not left:
            if run.state is None or not run.state.is_scheduled():
                part.asked = 0.0
            elif part.asked and time.monotonic() - part.asked > _PATIENCE_S:
                say(f"engine {part.worker}: no worker of the pool gpu has taken its run {run.name!r} yet")
                part.asked = 0.0
            return
        part.failed += run.state.is_failed()
        part.lost += not run.state.is_failed()
        what = f"engine {part.worker}: its run {run.name!r} ended {run.state.name} with {left} shards left"
        if part.failed > _MOST_FAILED or part.lost > _MOST_LOST:
            raise ChildError(f"{what}: {run.state.message}\nIts log is in the UI, under flow run {run.id}")
        say(f"{what} ({run.state.message}); they go to another worker")
    part.run_id, part.asked = _start(part, parameters, tag).id, time.monotonic()


def _start(part: _Part, parameters: dict[str, Any], tag: str) -> FlowRun:
    from prefect.deployments import run_deployment

    stage = Path(parameters["job"]["out"]).parent.name
    name = f"{stage} engine {part.worker}" + (f" again {n}" if (n := part.lost + part.failed) else "")
    run = run_deployment(DEPLOYMENT, parameters=parameters, timeout=0, tags=[tag], flow_run_name=name)
    return cast("FlowRun", run)


def _cancel(client: SyncPrefectClient, runs: Sequence[UUID]) -> None:
    from prefect.states import Cancelling

    for run in runs:
        # One that cannot be reached must not keep the others, nor hide why the stage ends.
        with contextlib.suppress(httpx.HTTPError):
            client.set_flow_run_state(run, Cancelling(message="the run that waited for it has ended"))
