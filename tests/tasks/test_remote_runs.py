"""Parts of a run on other machines: which of their runs count as lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest

from tasks.machine import remote_runs
from tasks.machine.child import ChildError
from tasks.machine.remote_runs import Part, _Runs

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Server:
    """A client of a server on which every run crashes, after a wait and with or without having begun."""

    def __init__(self, waited: timedelta, began: bool) -> None:
        self.waited, self.began = waited, began

    def read_flow_run(self, run: Any) -> Any:
        state = SimpleNamespace(
            name="Crashed",
            message="no sign of life",
            timestamp=NOW,
            is_final=lambda: True,
            is_failed=lambda: False,
            is_crashed=lambda: True,
        )
        start = NOW if self.began else None
        return SimpleNamespace(id=run, name="x", state=state, start_time=start, created=NOW - self.waited)


@pytest.mark.parametrize(
    ("minutes", "began", "gives_up"), [(15, False, False), (1, False, True), (15, True, True), (600, True, True)]
)
def test_a_run_that_gets_no_machine_is_not_lost(
    minutes: int, began: bool, gives_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(timedelta(minutes=minutes), began)
    runs = _Runs(cast("Any", server), "generate/shards", "place", "stage", lambda line: None)
    keys: list[str] = []

    def started(deployment: str, **given: Any) -> Any:
        keys.append(given["idempotency_key"])
        return SimpleNamespace(id=uuid4())

    monkeypatch.setattr("prefect.deployments.run_deployment", started)
    part = Part("engine 1", {}, lambda: "3 shards")

    def go_on() -> None:
        for _ in range(3 * remote_runs._MOST_LOST):
            runs.ensure_running(part, lambda: None)

    if gives_up:
        with pytest.raises(ChildError, match=r"engine 1: its run 'x' ended Crashed with 3 shards left"):
            go_on()
    else:
        go_on()
        assert len(set(keys)) == 3 * remote_runs._MOST_LOST, "each is another run"
