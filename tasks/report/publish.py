"""What is shown in Prefect's UI is a view: where it cannot be had, the run goes on without it."""

from __future__ import annotations

import re
from collections.abc import Callable

from tasks.run.stage import Run


def publish(what: str, show: Callable[[], object]) -> None:
    """Shows something in Prefect's UI; nothing where no flow is running. What goes wrong is a warning in the log.

    `what` names it there, such as "the comparison".
    """
    from prefect.context import FlowRunContext, TaskRunContext
    from prefect.logging import get_run_logger

    if FlowRunContext.get() is None and TaskRunContext.get() is None:
        return
    try:
        show()
    except Exception as error:
        get_run_logger().warning("%s cannot be shown in the UI: %s", what, error)


def slug_of(run: Run) -> str:
    """A run's part of the keys of its artifacts: keys are the server's, so that each run must have its own."""
    return slug(run.store.run_name)


def slug(run_name: str) -> str:
    """A run name in the letters that keys may have."""
    return re.sub(r"[^a-z0-9]+", "-", run_name.lower()).strip("-")
