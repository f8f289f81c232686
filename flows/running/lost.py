"""Stages that a killed attempt left behind: a retried flow run would show them as running forever."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from tasks.run.watch import forget_progress

if TYPE_CHECKING:
    from prefect import State


_seen: set[UUID] = set()
"""The flow runs of which this process may have begun tasks: one flow run may carry out several runs, one after the other."""


def crash_lost_stages(flow_run: UUID) -> int:
    """Marks unfinished task runs of a flow run's earlier attempts as crashed and removes their progress; returns their number.

    Call it before the first task of an attempt, while no other process works on the run. Later calls do nothing: tasks that
    the server still shows as running are this attempt's own, since their last states reach it with a delay.
    """
    if flow_run in _seen:
        return 0
    _seen.add(flow_run)
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        ArtifactFilter,
        ArtifactFilterType,
        FlowRunFilter,
        FlowRunFilterId,
        TaskRunFilter,
        TaskRunFilterState,
        TaskRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.states import Crashed

    under_way = TaskRunFilterState(type=TaskRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING]), name=None)
    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run]))
    with get_client(sync_client=True) as client:
        left = client.read_task_runs(flow_run_filter=of_run, task_run_filter=TaskRunFilter(state=under_way))
        for task_run in left:
            lost: State[Any] = Crashed(
                message="The process that worked on it is gone; a later attempt continues its work."
            )
            client.set_task_run_state(task_run.id, lost, force=True)
        bars = ArtifactFilter(type=ArtifactFilterType(any_=["progress"]))
        forget_progress(bar.id for bar in client.read_artifacts(artifact_filter=bars, flow_run_filter=of_run))
    return len(left)
