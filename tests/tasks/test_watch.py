"""What a run's log says at which level: a line a stage, and what must be known; the rest is in the stage's own log file."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.generation.local import GenerationStats
from tasks.generation.shards import GenerationJob
from tasks.label import cast_votes
from tasks.model.chat import ChatEncoder
from tasks.run.stage import Run
from tasks.run.watch import _TASK_LOG, _not_said_twice
from tests.conftest import InProcess, artifact, make, run_with


def levels(logged: list[logging.LogRecord]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for record in logged:
        found.setdefault(record.levelname, []).append(record.getMessage())
    return found


def test_a_stage_is_one_line_and_what_its_engine_prints_is_a_detail(
    tmp_path: Path, encoder: ChatEncoder, logged: list[logging.LogRecord]
) -> None:
    run = run_with(tmp_path, encoder, lambda request, j: "<think> So A is better. </think><answer>A</answer>")
    inner: Any = run.generator
    assert isinstance(inner, InProcess)

    def chatty(
        job: GenerationJob,
        log_file: Path,
        on_line: Callable[[str], None],
        on_progress: Callable[[int, int], None],
        say: Callable[[str], None],
    ) -> GenerationStats:
        on_line("[engine] Loading safetensors checkpoint shards")
        say("engine was killed by SIGKILL. Restarting it; finished rows are kept")
        return inner(job, log_file, on_line, on_progress, say)

    run.generator = chatty
    votes_of(run)
    said = levels(logged)
    assert [line for line in said["INFO"] if line.startswith("round-1/votes")] == [said["INFO"][-1]]
    assert "done in" in said["INFO"][-1]
    assert "[engine] Loading safetensors checkpoint shards" in said["DEBUG"]
    assert any(line.startswith("round-1/votes: started, key ") for line in said["DEBUG"])
    assert said["WARNING"] == ["engine was killed by SIGKILL. Restarting it; finished rows are kept"]


def votes_of(run: Run) -> None:
    judge = artifact(run, "judge", {"checkpoint/weights.jsonl": []})
    rows = artifact(run, "rows", {"batch.jsonl": [make(f"p{i}").to_json() for i in range(4)]})
    cast_votes(run, 1, judge, rows.ref("batch.jsonl"))


def test_prefects_line_on_a_stages_end_is_left_out_unless_it_is_an_error() -> None:
    def record(level: int, message: str) -> logging.LogRecord:
        return logging.LogRecord(_TASK_LOG.name, level, "", 0, message, None, None)

    assert not _not_said_twice(record(logging.INFO, "Finished in state Completed('data: done in 1.0 s')"))
    assert _not_said_twice(record(logging.ERROR, "Finished in state Failed('…')"))
    assert _not_said_twice(record(logging.INFO, "data: done in 1.0 s; 5 in, 5 kept"))
