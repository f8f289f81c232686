"""A stage of twenty small shards, for tests of who makes which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from data.files import write_jsonl
from tasks.generation.claims import OpenShards
from tasks.generation.shards import GenerationJob, Shard
from tasks.model.chat import ChatEncoder
from tasks.model.engine import FakeEngine
from tests.conftest import FlakyEngine
from tests.support.generating import echo, generate, row_ids

N_ROWS, N_SHARDS = 60, 20


def twenty_shards(job: GenerationJob) -> GenerationJob:
    """The job with three rows in each of twenty shards, in the folder of a stage, for up to four machines."""
    folder = Path(job.rows).parent
    write_jsonl(folder / "run/rows.jsonl", ({"id": str(i), "text": f"row {i}"} for i in range(N_ROWS)))
    return replace(
        job,
        rows=str(folder / "run/rows.jsonl"),
        n_rows=N_ROWS,
        model=str(folder / "run/judge"),
        out=str(folder / "run/.work/votes-12/shards-3"),
        generation={"shard_rows": 3, "workers": 4},
    )


def make(job: GenerationJob, encoder: ChatEncoder, shard: Shard | None, failing: Sequence[str] = ()) -> None:
    """Makes one shard, as an engine does; the rows with these ids fail."""
    assert shard is not None
    generate(job, encoder, FlakyEngine(FakeEngine(echo), lambda request: row_ids(request) in failing), [shard])


def numbers(shards: OpenShards, engine: str, most: int = N_SHARDS) -> list[int]:
    """The numbers of the shards that an engine gets if it asks this often at most, without finishing any."""
    taken: list[int] = []
    while len(taken) < most and (shard := shards.take(engine)) is not None:
        taken.append(shard.number)
    return taken
