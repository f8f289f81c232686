"""Where a stage is shown: as a Prefect task with a log and a progress bar, or in the log of a plain program."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

from data.store.artifacts import STALE, Artifact, Manifest, Stage

_ARTIFACT_EVERY_S = 2.0
_PAUSE_S = 60.0


class Watch(Protocol):
    """Where a stage's log lines and progress go."""

    def log(self, line: str) -> None: ...

    def warn(self, line: str) -> None: ...

    def progress(self, done: int, total: int) -> None: ...

    def done(self, summary: str) -> None: ...


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

    # Prefect's result cache is not used: a second cache could point at files that no longer exist.
    task(name=stage.kind, task_run_name=stage.name, cache_policy=NO_CACHE, persist_result=False)(step)()
    return made[0]


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
    line = line if accuracy is None else f"{line}; accuracy {accuracy:.1%}{_drawn(manifest)}"
    return "; WARNING: ".join([line, *manifest.warnings])


def _drawn(manifest: Manifest) -> str:
    """How many items a benchmark's accuracy is of, if they were drawn."""
    drawn = manifest.metrics.get("drawn")
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

    def warn(self, line: str) -> None:
        self.logger.warning("%s", line)

    def progress(self, done: int, total: int) -> None:
        self.logger.debug("%s: %d of %d", self.name, done, total)

    def done(self, summary: str) -> None:
        pass


class _PrefectWatch:
    """Lines go to the task run's log; progress is one artifact per stage, with rows, rows/s and the time left.

    The display must not endanger the work: if the server does not respond, progress updates pause for a while.
    """

    def __init__(self, name: str) -> None:
        from prefect.logging import get_run_logger

        self.name = name
        self.logger = get_run_logger()
        self.started = self.last = time.monotonic()
        self.first_done: int | None = None
        self.text = f"{name}: starting"
        self.artifact: Any = None
        self._show(0.0)

    def log(self, line: str) -> None:
        self.logger.info("%s", line)

    def warn(self, line: str) -> None:
        self.logger.warning("%s", line)

    def progress(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self.first_done is None:
            # The work of an earlier attempt must not count towards this attempt's rate.
            self.first_done, self.started = done if done < total else 0, now
        if now - self.last < _ARTIFACT_EVERY_S and done < total:
            return
        self.last = now
        self.text = progress_text(self.name, done, total, done - self.first_done, now - self.started)
        self._show(100.0 * done / max(total, 1))

    def done(self, summary: str) -> None:
        self.text = summary
        self._show(100.0)

    def _show(self, percent: float) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        try:
            if self.artifact is None:
                self.artifact = create_progress_artifact(percent, description=self.text)
            else:
                update_progress_artifact(self.artifact, percent, description=self.text)
        except Exception as error:
            self.last = time.monotonic() + _PAUSE_S
            self.logger.warning("progress updates are paused for %.0f s: %s", _PAUSE_S, error)


def progress_text(name: str, done: int, total: int, done_now: int, seconds: float) -> str:
    """Rows, rows/s and ETA in one line."""
    rate = done_now / seconds if seconds > 0 and done_now > 0 else None
    text = f"{name}: {done:,} of {total:,}"
    if rate is None or done >= total:
        return text
    left = (total - done) / rate
    return f"{text}, {rate:,.1f}/s, " + (f"{left / 60:.0f} min left" if left >= 120 else f"{left:.0f} s left")
