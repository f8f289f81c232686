"""Where a stage is shown: as a Prefect task with a log and a progress bar, or in the log of a plain program."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol
from uuid import UUID

from data.store.artifacts import STALE, Artifact, Stage

_ARTIFACT_EVERY_S = 2.0
_PAUSE_S = 60.0
_TASK_LOG = logging.getLogger("prefect.task_runs")


class Watch(Protocol):
    """Where a stage's log lines and progress go. `detail` is for what only somebody looking for a fault wants to read."""

    def log(self, line: str) -> None: ...

    def detail(self, line: str) -> None: ...

    def warn(self, line: str) -> None: ...

    def progress(self, done: int, total: int) -> None: ...

    def done(self) -> None: ...


def in_task(stage: Stage, function: Callable[[], Artifact]) -> Artifact:
    """Runs `function` as a Prefect task named after the stage, or directly if no flow is running.

    A reused stage ends in a state named "Reused", so that the UI shows it.
    """
    from prefect import State, task
    from prefect.cache_policies import NO_CACHE
    from prefect.context import FlowRunContext
    from prefect.states import Completed

    if FlowRunContext.get() is None:
        return function()
    made: list[Artifact] = []

    def step() -> State[Any]:
        made.append(function())
        return Completed(name="Reused" if made[0].reused else "Completed", message=describe(made[0]))

    _TASK_LOG.addFilter(_not_said_twice)
    # Prefect's result cache is not used: a second cache could point at files that no longer exist.
    task(name=stage.kind, task_run_name=stage.name, cache_policy=NO_CACHE, persist_result=False)(step)()
    return made[0]


def _not_said_twice(record: logging.LogRecord) -> bool:
    """Leaves out Prefect's line on a stage's last state: its message is the line that the stage itself has logged."""
    return record.levelno > logging.INFO or not record.getMessage().startswith("Finished in state")


def describe(artifact: Artifact) -> str:
    """One line about a finished stage, for logs and its state in the UI; its warnings are part of it."""
    manifest = artifact.manifest
    counts = manifest.counts
    lost = {**counts.dropped, **{f"failed: {reason}": n for reason, n in counts.failed.items()}}
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in lost.items())
    how = _reused(artifact) if artifact.reused else f"done in {manifest.seconds:.1f} s"
    rows = f"{counts.rows_in:,} in, {counts.kept:,} kept" + (f", lost {reasons}" if reasons else "")
    line = f"{manifest.name}: {how}; {rows}"
    accuracy = manifest.metrics.get("accuracy")
    line = line if accuracy is None else f"{line}; accuracy {accuracy:.1%}{drawn_in_words(manifest.metrics)}"
    return "; WARNING: ".join([line, *manifest.warnings])


def drawn_in_words(metrics: Mapping[str, Any]) -> str:
    """How many items a benchmark's accuracy is of, if they were drawn, with a space before it."""
    drawn = metrics.get("drawn")
    return f" on {drawn['items']:,} of {drawn['of']:,} items" if drawn else ""


def _reused(artifact: Artifact) -> str:
    if artifact.taken_from == STALE:
        return "taken back, as it had been made with these settings before"
    if artifact.taken_from:
        return f"taken from {artifact.manifest.reused_from}"
    return f"reused from {artifact.manifest.reused_from}" if artifact.manifest.reused_from else "reused"


def open_watch(name: str) -> Watch:
    """The watch for the current context: a Prefect task run, or a plain program."""
    from prefect.context import TaskRunContext

    return _PrefectWatch(name) if TaskRunContext.get() is not None else _LogWatch(name)


class _LogWatch:
    def __init__(self, name: str) -> None:
        self.logger = logging.getLogger("gram_r2")
        self.name = name

    def log(self, line: str) -> None:
        self.logger.info("%s", line)

    def detail(self, line: str) -> None:
        self.logger.debug("%s", line)

    def warn(self, line: str) -> None:
        self.logger.warning("%s", line)

    def progress(self, done: int, total: int) -> None:
        self.logger.debug("%s: %d of %d", self.name, done, total)

    def done(self) -> None:
        pass


class _PrefectWatch:
    """Lines go to the task run's log; progress is one artifact while the stage runs, with rows, rows/s and the time left.

    The display must not endanger the work: if the server does not respond, progress updates pause for a while.
    """

    def __init__(self, name: str) -> None:
        from prefect.logging import get_run_logger

        self.name = name
        self.logger = get_run_logger()
        self.started = time.monotonic()
        self.last = 0.0
        self.first_done: int | None = None
        self.artifact: Any = None

    def log(self, line: str) -> None:
        self.logger.info("%s", line)

    def detail(self, line: str) -> None:
        self.logger.debug("%s", line)

    def warn(self, line: str) -> None:
        self.logger.warning("%s", line)

    def progress(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self.first_done is None:
            # The work of an earlier attempt must not count towards this attempt's rate.
            self.first_done, self.started = done if done < total else 0, now
        if now - self.last < _ARTIFACT_EVERY_S:
            return
        self.last = now
        text = progress_text(self.name, done, total, done - self.first_done, now - self.started)
        self._try(lambda: self._show(100.0 * done / max(total, 1), text))

    def done(self) -> None:
        """Removes the progress: what became of the stage is in its state and its log."""
        if self.artifact is not None:
            self._try(lambda: forget_progress([self.artifact]))

    def _show(self, percent: float, text: str) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        if self.artifact is None:
            self.artifact = create_progress_artifact(percent, description=text)
        else:
            update_progress_artifact(self.artifact, percent, description=text)

    def _try(self, show: Callable[[], object]) -> None:
        try:
            show()
        except Exception as error:
            self.last = time.monotonic() + _PAUSE_S
            self.logger.warning("progress updates are paused for %.0f s: %s", _PAUSE_S, error)


def forget_progress(artifacts: Iterable[UUID]) -> None:
    """Removes these artifacts from the server; one that is already gone is left out."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        for artifact in artifacts:
            with contextlib.suppress(ObjectNotFound):
                client.delete_artifact(artifact)


def progress_text(name: str, done: int, total: int, done_now: int, seconds: float) -> str:
    """Rows, rows/s and ETA in one line."""
    rate = done_now / seconds if seconds > 0 and done_now > 0 else None
    text = f"{name}: {done:,} of {total:,}"
    if rate is None or done >= total:
        return text
    left = (total - done) / rate
    return f"{text}, {rate:,.1f}/s, " + (f"{left / 60:.0f} min left" if left >= 120 else f"{left:.0f} s left")
