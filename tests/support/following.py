"""A run on a server of this machine, followed to its end in a terminal."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from typing import Any

from flows.server.processes import Services
from flows.server.runs import start_run

_QUIET_POLLS = 2


def start_deployment(services: Services, name: str, parameters: dict[str, Any], queue: str | None = None) -> str:
    """Starts a deployment; returns the flow run's id."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: services.environment["PREFECT_API_URL"]}):
        return start_run(name, parameters, queue)


def run_deployment(services: Services, name: str, parameters: dict[str, Any]) -> tuple[str, str]:
    """Starts a deployment and follows it to its end, printing the log lines of its stages.

    Returns the flow run's id and the name of its final state.
    """
    run_id = start_deployment(services, name, parameters)
    print(f"{name} is flow run {run_id}; watch it at {services.ui}/runs/flow-run/{run_id}", flush=True)
    return run_id, asyncio.run(_follow(services, run_id))


def state_of(services: Services, run_id: str) -> str:
    """The message of a flow run's state."""
    with urllib.request.urlopen(f"{services.ui}/api/flow_runs/{run_id}", timeout=30) as answer:
        return str(json.load(answer)["state"]["message"])


async def _follow(services: Services, run_id: str) -> str:
    from uuid import UUID

    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
    from prefect.client.schemas.sorting import LogSort
    from prefect.settings import PREFECT_API_URL, temporary_settings

    seen = quiet = 0
    with temporary_settings({PREFECT_API_URL: services.environment["PREFECT_API_URL"]}):
        async with get_client() as client:
            while True:
                run = await client.read_flow_run(UUID(run_id))
                ended = run.state is not None and run.state.is_final()
                logs = await client.read_logs(
                    LogFilter(flow_run_id=LogFilterFlowRunId(any_=[UUID(run_id)])),
                    limit=200,
                    offset=seen,
                    sort=LogSort.TIMESTAMP_ASC,
                )
                seen += len(logs)
                for line in logs:
                    if _is_ours(line.name, line.message, line.level):
                        print(f"{line.timestamp:%H:%M:%S}  {line.message}", flush=True)
                if not ended and not services.is_alive("worker"):
                    raise RuntimeError(f"the worker has exited; its log is {services.home / 'worker.log'}")
                # The last log lines reach the server a little after the run's final state.
                quiet = quiet + 1 if ended and not logs else 0
                if quiet > _QUIET_POLLS:
                    return (run.state.name if run.state else None) or "unknown"
                if len(logs) < 200:
                    await asyncio.sleep(1.0)


def _is_ours(logger: str, message: str, level: int) -> bool:
    """Lines worth showing at a terminal: what stages report about themselves, and all errors."""
    if level >= 40:
        return True
    return logger == "prefect.task_runs" and not message.startswith(("[", "Finished in state", "Created task run"))
