"""The engines of one job: which is started again, which is given up, and how the rows of other machines are counted."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.records import Message
from tasks.generation.claims import OpenShards
from tasks.generation.local import Engines, run_engines
from tasks.generation.pool import WatchedShards, report_rows
from tasks.generation.shards import GenerationJob, Shard, read_shards
from tasks.machine.child import ChildError
from tasks.model.chat import ChatEncoder
from tasks.model.engine import Request, Sampling
from tasks.settings import GenerationSettings
from tests.conftest import settings_with, until
from tests.support.claiming import N_ROWS, make, twenty_shards
from tests.support.endpoints import chat, serving
from tests.support.recording import recording

# ---- engines that die ---------------------------------------------------------------------------------------------------


@pytest.fixture
def job(job: GenerationJob) -> GenerationJob:
    return twenty_shards(job)


class Two:
    """Two engines at work, and what is said of them."""

    def __init__(self, job: GenerationJob, encoder: ChatEncoder) -> None:
        self.job, self.encoder = job, encoder
        self.said: list[str] = []
        self.shards = OpenShards(job, 2)
        self.engines = Engines(self.shards, self.said.append, {"engine 0", "engine 1"})

    def dies(self, label: str, at_work: bool = True, made: int = 0) -> bool:
        """One of them takes a shard and dies with it; returns whether it is started again."""
        shard = self.shards.take(label)
        assert shard is not None
        if at_work:
            shard.folder.mkdir(parents=True, exist_ok=True)
            (shard.folder / f".{shard.number:06d}.at-work").write_text("null")
        if made:
            self.engines.latest[label] = {"made": made, "tokens": 10 * made, "seconds": 2.0, "memory_mib": 7.0}
        return self.engines.starts_again(label, ChildError(f"{label} was killed"))


@pytest.fixture
def two(job: GenerationJob, encoder: ChatEncoder) -> Two:
    return Two(job, encoder)


def test_an_engine_that_dies_at_work_is_started_again_with_what_it_did_counted(two: Two) -> None:
    assert two.dies("engine 1", made=3)
    assert two.said == ["engine 1 was killed\nRestarting it; finished rows are kept"]
    two.engines.latest["engine 1"] = {"made": 1, "tokens": 5, "seconds": 1.5, "memory_mib": 9.0}
    stats = two.engines.stats()
    assert (stats.tokens, stats.seconds, stats.engines, stats.memory_mib) == (35, 3.5, 1, 9.0)


def test_an_engine_that_dies_before_it_has_worked_ends_the_stage(two: Two) -> None:
    with pytest.raises(ChildError, match="engine 0 was killed"):
        two.dies("engine 0", at_work=False)


def test_an_engine_whose_death_cannot_be_recorded_ends_the_stage_with_its_own_words(two: Two) -> None:
    """As on a full disk, of which it has died."""
    (Path(two.job.out) / ".000000.crashes").mkdir(parents=True)
    with pytest.raises(ChildError, match=r"engine 0 was killed\nIts death could not be recorded: .*Is a directory"):
        two.dies("engine 0")


def test_one_that_cannot_be_started_again_is_given_up_while_there_is_another(two: Two) -> None:
    """As after the loss of its GPU."""
    assert two.dies("engine 0", made=1)
    assert not two.dies("engine 0", at_work=False)
    assert two.said[-1] == "engine 0 was killed\nIt is given up; its rows are left to engine 1"
    assert two.dies("engine 1", made=1)
    with pytest.raises(ChildError, match="engine 1 was killed"):
        two.dies("engine 1", at_work=False)


def test_deaths_are_bounded_by_those_without_a_finished_row_in_between(two: Two) -> None:
    for _ in range(20):
        assert two.dies("engine 0", made=1)
    for _ in range(2):
        assert two.dies("engine 0")
    assert not two.dies("engine 0")


def test_an_engine_that_fails_after_the_last_row_ends_nothing(two: Two) -> None:
    for shard in two.job.shards():
        assert two.shards.take("engine 0" if shard.number % 2 else "engine 1") == shard
        make(two.job, two.encoder, shard)
    two.shards.report("engine 0", 0)
    assert not two.engines.starts_again("engine 1", ChildError("engine 1 failed with exit code 1"))
    assert two.said[-1].endswith("All rows had been written by then")


# ---- real processes -----------------------------------------------------------------------------------------------------


class DiesOnce(tuple[Message, ...]):
    """Messages that end the process of the first engine that looks at them."""

    __slots__ = ()
    mark = Path()

    def __iter__(self) -> Iterator[Message]:
        if not self.mark.exists():
            self.mark.touch()
            os._exit(9)
        return super().__iter__()


def ask_about(row: Mapping[str, Any], params: Mapping[str, Any], encoder: ChatEncoder) -> list[Request]:
    messages = (Message("user", row["text"]),)
    if row["id"] == "31":
        DiesOnce.mark = Path(params["mark"])
        messages = DiesOnce(messages)
    return [Request("ab", [], Sampling(max_tokens=8), messages=messages)]


def test_two_engines_share_a_job_and_the_death_of_one_is_not_the_others(job: GenerationJob, tmp_path: Path) -> None:
    """Two processes, and a third after the death; a row during which an engine died once is asked for again."""
    lines: list[str] = []
    said: list[str] = []
    done: list[int] = []
    seen: set[str] = set()

    class Noting(OpenShards):
        def take(self, engine: str) -> Shard | None:
            seen.add(engine)
            return super().take(engine)

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        until(lambda: len(seen) == 2, 60)
        return 200, chat(body["messages"][0]["content"].upper())

    with serving(answer) as served:
        job = replace(
            job,
            builder="tests.tasks.test_engines:ask_about",
            params={"mark": str(tmp_path / "died")},
            model=served.url,
            models=settings_with().models.for_role("judge").model_dump(mode="json"),
            generation={**GenerationSettings().model_dump(mode="json"), "shard_rows": 3},
        )
        heard = (lines.append, lambda n, _: done.append(n), said.append)
        stats = run_engines(Noting(job, 2), ["engine 0", "engine 1"], tmp_path / "log", *heard)
    texts = [line["requests"][0]["completions"][0]["text"] for line in read_shards(job)]
    assert texts == [f"ROW {i}" for i in range(N_ROWS)]
    assert ["Restarting it; finished rows are kept" in line for line in said] == [True], (
        "a death is no output of an engine"
    )
    assert sum(line.startswith("[") and "rows made" in line for line in lines) == 20, (
        "each shard once, by either engine"
    )
    assert done[-1] == N_ROWS
    assert stats.engines == 2


# ---- engines of other machines ------------------------------------------------------------------------------------------


def test_rows_of_other_machines_are_counted_without_reading_what_they_write(
    job: GenerationJob, encoder: ChatEncoder
) -> None:
    work = Path(job.out).parent
    work.mkdir(parents=True)
    watched = WatchedShards(job, 2, set(range(20)))
    assert watched.rows_done() == 0
    report_rows(work, 0, 2)
    report_rows(work, 1, 1)
    report_rows(work, 7, 100)  # of an earlier attempt with more workers
    assert watched.rows_done() == 3
    make(job, encoder, job.shard(0))
    (Path(job.out) / ".000001.partial").write_text('{"row": 3, "id": "3"}\n')
    with recording() as opened:
        assert watched.rows_done() == 6
    assert not [path for path in opened if "partial" in path.name]
    with recording() as opened:
        watched.rows_done()
    assert not [path for path in opened if path.name.startswith("000000")], "once seen complete, it is not read again"
    report_rows(work, 0, 0)
    assert watched.rows_done() == 6, "it never goes back"


def test_as_many_workers_are_started_as_there_are_shards_left(job: GenerationJob, encoder: ChatEncoder) -> None:
    watched = WatchedShards(job, 4, {3, 4})
    assert [watched.left_for(worker) for worker in range(4)] == ["2 shards", "2 shards", "", ""]
    make(job, encoder, job.shard(3))
    watched.rows_done()
    assert [watched.left_for(worker) for worker in range(4)] == ["1 shard", "", "", ""]


def test_a_counter_does_not_bring_back_the_folder_of_a_stage_that_has_ended(tmp_path: Path) -> None:
    report_rows(tmp_path / ".work/votes-12", 0, 5)
    assert not (tmp_path / ".work").exists()
