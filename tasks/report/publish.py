"""What Prefect's UI shows is only a view: if it is not available, the run continues without it."""

from __future__ import annotations

import re
from collections.abc import Callable

from tasks.run.stage import Run


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


def slug_of(run: Run) -> str:
    """The run's part of its artifacts' keys: the server shares keys between runs, so each run needs its own."""
    return slug(run.store.run_name)


def slug(run_name: str) -> str:
    """A run name in the characters that keys allow."""
    return re.sub(r"[^a-z0-9]+", "-", run_name.lower()).strip("-")
