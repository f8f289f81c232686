"""What a Prefect server says of a flow run: its state, its stages and their progress, and its log. Nothing is written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from flows.cli.connection import Ask

_PAGE = 200
_LATEST = 50
_LATE_LINES = timedelta(seconds=30)
_INFO = 20
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@dataclass(frozen=True)
class Stage:
    """A stage of the run: a task run. `said` describes it once it is done, `doing` while it runs; `percent` is in 0…100."""

    id: str
    name: str
    type: str
    state: str
    said: str
    seconds: float
    percent: float | None = None
    doing: str = ""

    @property
    def round(self) -> int | None:
        found = re.match(r"round-(\d+)/", self.name)
        return int(found[1]) if found else None

    @property
    def accuracy(self) -> str | None:
        """The accuracy on held-out pairs, such as "93.6%", if this stage measured it."""
        found = re.search(r"accuracy (\d+(?:\.\d+)?%)", self.said)
        return found[1] if found and self.name.split("/")[-1] == "benchmark" else None


@dataclass(frozen=True)
class Line:
    """A line of the run's log."""

    at: datetime
    logger: str
    level: int
    text: str


@dataclass(frozen=True)
class Look:
    """A flow run as the server describes it: `lines` are those that were not there before.

    `listening` is the number of workers that could take the run, while none has; `rounds` is None for a flow without rounds.
    """

    name: str
    type: str
    state: str
    message: str
    stages: Sequence[Stage]
    lines: Sequence[Line]
    rounds: int | None
    seconds: float
    pool: str
    queue: str
    listening: int | None

    @property
    def ended(self) -> bool:
        return self.type in ENDED


@dataclass
class FlowRun:
    """A flow run that is looked at again and again: what has been seen of it is not asked for a second time.

    Only after `patience` looks is it said what a run waits for that no worker has taken: a worker that has just been started
    takes some seconds to appear.
    """

    ask: Ask
    id: str
    patience: int = 15
    _stages: dict[str, Stage] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)
    _since: datetime | None = None
    _waited: int = 0

    def look(self, with_log: bool = True) -> Look:
        """Raises httpx.HTTPError if the server does not answer, and prefect's ObjectNotFound if it knows no such run."""
        run = self.ask(f"/flow_runs/{self.id}")
        for task in self._tasks():
            self._stages[task["id"]] = _stage(task)
        self._add_progress()
        state, parameters = run["state"] or {}, run["parameters"] or {}
        self._waited = self._waited + 1 if state.get("type") == "SCHEDULED" else 0
        waits = self._waited > self.patience and run.get("work_pool_name")
        return Look(
            name=run["name"],
            type=state.get("type", "SCHEDULED"),
            state=state.get("name", "Scheduled"),
            message=state.get("message") or "",
            stages=tuple(self._stages.values()),
            lines=tuple(self._new_lines()) if with_log else (),
            rounds=_rounds(parameters),
            seconds=float(run.get("estimated_run_time") or 0.0),
            pool=run.get("work_pool_name") or "",
            queue=run.get("work_queue_name") or "",
            listening=self._listening(run["work_pool_name"]) if waits else None,
        )

    def _tasks(self) -> list[Mapping[str, Any]]:
        """The run's task runs in the order in which they began; only the latest if the others are known."""
        asked = {"flow_runs": {"id": {"any_": [self.id]}}, "sort": "EXPECTED_START_TIME_DESC"}
        if self._stages:
            latest: list[Mapping[str, Any]] = self.ask("/task_runs/filter", {**asked, "limit": _LATEST})
            return latest[::-1]
        return list(self._pages("/task_runs/filter", asked))[::-1]

    def _pages(self, path: str, asked: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        offset = 0
        while page := self.ask(path, {**asked, "limit": _PAGE, "offset": offset}):
            yield from page
            offset += len(page)
            if len(page) < _PAGE:
                return

    def _add_progress(self) -> None:
        running = [stage.id for stage in self._stages.values() if stage.type == "RUNNING"]
        if not running:
            return
        asked = {"artifacts": {"task_run_id": {"any_": running}, "type": {"any_": ["progress"]}}, "limit": _PAGE}
        for shown in self.ask("/artifacts/filter", asked):
            stage = self._stages[shown["task_run_id"]]
            doing = (shown["description"] or "").removeprefix(f"{stage.name}: ")
            self._stages[stage.id] = replace(stage, percent=float(shown["data"] or 0.0), doing=doing)

    def _new_lines(self) -> Iterator[Line]:
        # Lines reach the server in batches, and not in the order in which they were written.
        after = {"timestamp": {"after_": (self._since - _LATE_LINES).isoformat()}} if self._since else {}
        asked = {
            "logs": {"flow_run_id": {"any_": [self.id]}, "level": {"ge_": _INFO}, **after},
            "sort": "TIMESTAMP_ASC",
        }
        for line in self._pages("/logs/filter", asked):
            if line["id"] not in self._seen:
                self._seen.add(line["id"])
                at = datetime.fromisoformat(line["timestamp"])
                self._since = max(at, self._since or at)
                yield Line(at, line["name"], line["level"], line["message"])

    def _listening(self, pool: str) -> int:
        workers = self.ask(f"/work_pools/{pool}/workers/filter", {})
        return sum(worker.get("status") == "ONLINE" for worker in workers)


def _rounds(parameters: Mapping[str, Any]) -> int | None:
    """How many rounds a run was started with; None for a flow without rounds, or if its parameters do not say."""
    overrides = parameters.get("overrides") or {}
    section = overrides.get("rounds") or parameters.get("rounds") or {}
    count: int | None = overrides.get("rounds.count", section.get("count"))
    return count


def _stage(task: Mapping[str, Any]) -> Stage:
    state = task["state"] or {}
    return Stage(
        id=task["id"],
        name=task["name"],
        type=state.get("type", "PENDING"),
        state=state.get("name", "Pending"),
        said=(state.get("message") or "").removeprefix(f"{task['name']}: "),
        seconds=float(task.get("estimated_run_time") or 0.0),
    )
