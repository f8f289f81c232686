"""A generation job over an engine that repeats the prompt, for tests of shards and stages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.generation.shards import GenerationJob, Shard
from tasks.generation.worker import run_shards
from tasks.model.chat import ChatEncoder
from tasks.model.engine import FakeEngine, Request, Sampling
from tasks.model.requests import Skip
from tasks.run.rows import generate_rows
from tasks.run.stage import Context, Run

N_ROWS = 11


BUILDER = "tests.support.generating:build"


def build(row: Mapping[str, Any], params: Mapping[str, Any], encoder: ChatEncoder) -> list[Request] | Skip:
    """Two requests a row, of two completions each; none for the rows that are too long."""
    if row["id"] in params.get("skipped", ()):
        return Skip("prompt_too_long")
    ids = encoder.text_ids(row["id"])
    return [Request(name, ids, Sampling(n=2, seed=10 * int(row["id"]))) for name in ("ab", "ba")]


def echo(request: Request, j: int) -> str:
    return f"{request.name}{request.sampling.seed}.{j}"


def row_ids(request: Request) -> str:
    return str(request.sampling.seed // 10)


def generate(
    job: GenerationJob, encoder: ChatEncoder, engine: Any = None, shards: Iterable[Shard] | None = None
) -> int:
    """Runs the job, or these shards of it, and returns the number of requests that the engine was given."""
    inner = FakeEngine(echo)
    run_shards(job, replace(engine, inner=inner) if engine else inner, encoder, lambda facts: None, shards)
    return inner.requests_seen


def shard_bytes(job: GenerationJob) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(job.out).glob("[0-9]*"))}


def stage(run: Run, rows: Path, name: str = "round-1/votes", params: Mapping[str, Any] | None = None) -> Any:
    def body(context: Context) -> Any:
        return generate_rows(context, BUILDER, params or {}, rows, rows.parent)

    return run.find_or_make(name, "vote", {"name": name}, {}, body)
