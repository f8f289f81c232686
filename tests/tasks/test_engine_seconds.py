"""What a stage's engines did, over all its attempts: its GPU time and its rate, however the last attempt ended."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from data.files import write_json
from data.store.store import RunStore
from tasks.generation.local import GenerationStats, done_before, gpu_seconds, note_engines
from tasks.generation.pool import generate_in_pool
from tasks.generation.shards import GenerationJob
from tasks.model.chat import ChatEncoder
from tasks.model.engine import FakeEngine
from tests.conftest import FlakyEngine, run_with
from tests.support.claiming import make, twenty_shards
from tests.support.generating import echo, generate, row_ids, stage


@dataclass
class Engines:
    """Makes all rows but those with the ids in `failing`, and says that this took what `stats` says.

    If it is `killed`, it says nothing any more, but each shard that it has made holds its part of that.
    """

    encoder: ChatEncoder
    stats: GenerationStats
    failing: str = ""
    killed: bool = False

    def __call__(self, job: GenerationJob, *_: Any) -> GenerationStats:
        note_engines(job, self.stats.engines)
        generate(job, self.encoder, FlakyEngine(FakeEngine(echo), lambda request: row_ids(request) in self.failing))
        if self.killed:
            for shard in job.shards():
                file = shard.folder / f".{shard.number:06d}.done"
                used = {"tokens": self.stats.tokens / job.n_shards, "seconds": self.stats.seconds / job.n_shards}
                write_json(file, {**json.loads(file.read_bytes()), **used})
            raise KeyboardInterrupt
        return self.stats


NIGHT = GenerationStats(tokens=100_000, seconds=20.0, engines=8, memory_mib=900.0)
NOTHING = GenerationStats()

Attempts = Callable[..., dict[str, Any]]


@pytest.fixture
def after(tmp_path: Path, job: GenerationJob, encoder: ChatEncoder) -> Attempts:
    """The metrics of a stage after these attempts, each of a run of its own that allows one more."""

    def metrics(*attempts: Engines) -> dict[str, Any]:
        for n, engines in enumerate(attempts, start=1):
            run = run_with(tmp_path, encoder, echo, generation={"max_failed_share": 0.5, "max_attempts": n})
            run.generator = engines
            try:
                made = stage(run, Path(job.rows))
            except KeyboardInterrupt:
                continue
        return {**made.manifest.metrics, "tokens_generated": 100_000}

    return metrics


def test_a_resumed_stage_with_nothing_left_to_generate_has_the_rate_it_had(
    after: Attempts, encoder: ChatEncoder
) -> None:
    found = after(Engines(encoder, NIGHT, killed=True), Engines(encoder, NOTHING))
    assert (found["engine_seconds"], found["engines"], found["tokens_per_s"]) == (20.0, 8, 40_000.0)
    assert gpu_seconds(found) == pytest.approx(20.0)


def test_a_slow_tail_after_a_kill_does_not_set_the_rate_of_the_whole(after: Attempts, encoder: ChatEncoder) -> None:
    tail = GenerationStats(tokens=100, seconds=1.0, engines=1)
    found = after(Engines(encoder, NIGHT, killed=True), Engines(encoder, tail))
    assert (found["engine_seconds"], found["engines"]) == (21.0, 8)
    assert gpu_seconds(found) == pytest.approx(21.0, rel=0.01)


def test_failed_rows_that_are_tried_again_add_to_what_the_finished_stage_took(
    after: Attempts, encoder: ChatEncoder
) -> None:
    few = GenerationStats(tokens=100, seconds=0.5, engines=1, memory_mib=300.0)
    found = after(
        Engines(encoder, NIGHT, failing="4"),
        Engines(encoder, few, failing="4", killed=True),
        Engines(encoder, few),
    )
    assert found["engine_seconds"] == pytest.approx(21.0, abs=0.2)
    assert (found["engines"], found["engine_memory_mib"]) == (8, 900.0)
    assert gpu_seconds(found) == pytest.approx(21.0, rel=0.02)


def test_a_shard_holds_what_all_attempts_at_it_took(job: GenerationJob) -> None:
    shard = job.shard(0)
    for attempt, failed in ((1, 2), (2, 0)):
        with shard.appending() as stream:
            places = {}
            for row in range(shard.stop):
                places[row] = (Path(stream.name), stream.tell())
                stream.write(json.dumps({"row": row, "id": str(row)}).encode() + b"\n")
        shard.finish(places, failed, attempt, tokens=10 * attempt, seconds=1.5 * attempt)
    assert shard.usage() == (30, 4.5)


# ---- on other machines ---------------------------------------------------------------------------------------------------


class Shared(RunStore):
    """A store in which other machines have finished all shards when it is first looked at."""

    def __init__(self, folder: Path, job: GenerationJob, encoder: ChatEncoder) -> None:
        super().__init__(folder, "run")
        self.job, self.encoder = job, encoder

    def refresh(self, work: Path, wanted: object = None) -> None:
        for shard in self.job.shards():
            if not shard.is_written(self.job.attempt):
                make(self.job, self.encoder, shard)


def test_what_other_machines_did_in_an_attempt_is_told_from_what_they_did_before(
    tmp_path: Path, job: GenerationJob, encoder: ChatEncoder
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    first = twenty_shards(job)
    for shard in first.shards():
        if shard.number < 12:
            make(first, encoder, shard, failing=["1", "4"])
    before, again = done_before(first), replace(first, attempt=2)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):  # where there is no server, nor need of one
        made = generate_in_pool(again, lambda line: None, lambda done, total: None, Shared(tmp_path, again, encoder))
    after = done_before(again)
    assert (before.engines, made.engines, after.engines) == (1, 4, 4)
    assert made.tokens == after.tokens - before.tokens > 0
    assert made.seconds == pytest.approx(after.seconds - before.seconds)
