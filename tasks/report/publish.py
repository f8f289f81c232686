"""What Prefect's UI shows is only a view: if it is not available, the run continues without it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from data.store.store import RunStore


def publish(what: str, show: Callable[[], object]) -> None:
    """Shows something in Prefect's UI; does nothing if no flow is running. A failure is logged as a warning.

    `what` names it in the log, such as "the comparison".
    """
    from prefect.context import FlowRunContext, TaskRunContext
    from prefect.logging import get_run_logger

    if FlowRunContext.get() is None and TaskRunContext.get() is None:
        return
    try:
        show()
    except Exception as error:
        get_run_logger().warning("%s cannot be shown in the UI: %s", what, error)


def show_markdown(key: str, text: str, description: str) -> None:
    """Makes this text the flow run's artifact of that key."""
    _show(key, "markdown", text, description)


def show_table(key: str, rows: Sequence[Mapping[str, str]], description: str) -> None:
    """Makes this table the flow run's artifact of that key."""
    _show(key, "table", json.dumps(rows), description)


def _show(key: str, kind: str, data: str, description: str) -> None:
    """Creates the artifact or, if an earlier round or attempt of this flow run has, replaces its content."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
    from prefect.utilities.context import get_task_and_flow_run_ids

    _, flow_run = get_task_and_flow_run_ids()
    assert flow_run is not None
    ours = ArtifactFilter(key=ArtifactFilterKey(any_=[key]), flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run]))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=ours)
        if found:
            client.update_artifact(found[0].id, ArtifactUpdate(data=data, description=description))
        else:
            client.create_artifact(
                ArtifactCreate(key=key, type=kind, data=data, description=description, flow_run_id=flow_run)
            )


def slug(run_name: str) -> str:
    """A run name in the characters that keys allow. The server shares keys between runs, so each run needs its own."""
    return re.sub(r"[^a-z0-9]+", "-", run_name.lower()).strip("-")


def place_of(store: RunStore, path: Path) -> str:
    """A path of a run as it is written in a command: relative to the current folder if it is inside."""
    if store.remote is None and path.is_relative_to(Path.cwd()):
        return str(path.relative_to(Path.cwd()))
    return store.shown(path)
