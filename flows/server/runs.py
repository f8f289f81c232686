"""Runs of deployments on a Prefect server: started, followed, cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from flows.config.recipes import ConfigError

if TYPE_CHECKING:
    from prefect.client.schemas.filters import FlowRunFilter


def start_run(deployment: str, parameters: dict[str, Any], queue: str | None = None) -> str:
    """Starts a deployment, FLOW/NAME, on the server at PREFECT_API_URL; returns the flow run's id.

    `queue` names a work queue of its pool, in place of the deployment's own. Raises ConfigError if there is no such
    deployment.
    """
    from prefect.deployments import run_deployment
    from prefect.exceptions import ObjectNotFound

    try:
        run: Any = run_deployment(
            deployment,
            parameters=parameters,
            flow_run_name=parameters.get("run_name"),
            timeout=0,
            as_subflow=False,
            work_queue_name=queue,
        )
    except ObjectNotFound as error:
        raise ConfigError(f"the server has no deployment {deployment}: register it with `gram-r2 deploy`") from error
    return str(run.id)


def cancel_run(run: str) -> None:
    """Asks for the cancellation of a flow run, as the UI's button does. One that has ended stays as it is."""
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelling

    with get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(run), Cancelling())


def under_way() -> list[str]:
    """The names of all flow runs on the server at PREFECT_API_URL that have not ended, waiting ones included."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return sorted(run.name for run in client.read_flow_runs(flow_run_filter=not_ended()))


def crash_running(why: str) -> None:
    """Ends all flow runs that have begun on the server at PREFECT_API_URL; those that wait go on waiting."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import StateType
    from prefect.states import Crashed

    begun = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=not_ended()):
            if run.state_type in begun:
                client.set_flow_run_state(run.id, Crashed(message=why), force=True)


def not_ended() -> FlowRunFilter:
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
    from prefect.client.schemas.objects import TERMINAL_STATES, StateType

    types = [one for one in StateType if one not in TERMINAL_STATES]
    return FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=types), name=None))
