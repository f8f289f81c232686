"""A Prefect server's answers about one flow run, moment by moment, as its API gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

RUN = "6f4f9a5c-0000-4000-8000-000000000001"
_BEGAN = datetime(2026, 11, 26, 9, 30, tzinfo=UTC)


@dataclass
class Moment:
    """What the server has at one look. Tasks: (name, state type, message, progress as (percent, text) or None)."""

    state: str = "RUNNING"
    name: str = ""
    message: str = ""
    tasks: Sequence[tuple[str, str, str, tuple[float, str] | None]] = ()
    lines: Sequence[tuple[int, str, str]] = ()
    """(level, logger, text) of all log lines so far."""
    workers: int = 1
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"run_name": "demo", "rounds": {"count": 3}})


@dataclass
class Answers:
    """Answers as the server would at each moment in turn; an exception is raised instead. `asked` has every request."""

    moments: Sequence[Moment | Exception]
    under_way: Sequence[Mapping[str, Any]] = ()
    now: int = -1
    asked: list[tuple[str, Mapping[str, Any] | None]] = field(default_factory=list)

    def __call__(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        self.asked.append((path, body))
        if path == f"/flow_runs/{RUN}":
            self.now += 1
        if path == "/flow_runs/filter":
            return list(self.under_way)
        moment = self.moments[min(max(self.now, 0), len(self.moments) - 1)]
        if isinstance(moment, Exception):
            raise moment
        if path == f"/flow_runs/{RUN}":
            return flow_run(moment)
        if path == "/task_runs/filter":
            assert body is not None
            return tasks(moment)[::-1][body.get("offset", 0) :][: body["limit"]]
        if path == "/artifacts/filter":
            assert body is not None
            wanted = body["artifacts"]["task_run_id"]["any_"]
            return [shown for shown in artifacts(moment) if shown["task_run_id"] in wanted]
        if path == "/logs/filter":
            assert body is not None
            return logs(moment, body)
        if path.endswith("/workers/filter"):
            return [{"name": f"worker-{i}", "status": "ONLINE"} for i in range(moment.workers)] + [
                {"status": "OFFLINE"}
            ]
        raise AssertionError(f"asked for {path}")


def flow_run(moment: Moment) -> dict[str, Any]:
    return {
        "id": RUN,
        "name": "demo",
        "parameters": dict(moment.parameters),
        "state": {
            "type": moment.state,
            "name": moment.name or moment.state.capitalize(),
            "message": moment.message or None,
        },
        "estimated_run_time": 75.0,
        "work_pool_name": "ctl",
        "work_queue_name": "default",
    }


def tasks(moment: Moment) -> list[dict[str, Any]]:
    return [
        {
            "id": f"task-{name}",
            "name": name,
            "state": {"type": kind.split("/")[0], "name": kind.split("/")[-1].capitalize(), "message": message or None},
            "estimated_run_time": 12.0,
        }
        for name, kind, message, _ in moment.tasks
    ]


def artifacts(moment: Moment) -> list[dict[str, Any]]:
    return [
        {"task_run_id": f"task-{name}", "type": "progress", "data": progress[0], "description": progress[1]}
        for name, _, _, progress in moment.tasks
        if progress is not None
    ]


def logs(moment: Moment, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    wanted = body["logs"]
    found = [
        {
            "id": f"line-{i}",
            "timestamp": (_BEGAN + timedelta(seconds=10 * i)).isoformat().replace("+00:00", "Z"),
            "level": level,
            "name": logger,
            "message": text,
        }
        for i, (level, logger, text) in enumerate(moment.lines)
        if level >= wanted["level"]["ge_"]
    ]
    if "timestamp" in wanted:
        found = [line for line in found if line["timestamp"] >= wanted["timestamp"]["after_"].replace("+00:00", "Z")]
    return found[body["offset"] :][: body["limit"]]


def not_found() -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "http://127.0.0.1/api")
    return httpx.HTTPStatusError("not found", request=request, response=httpx.Response(404, request=request))
