"""Rows on which engines die: fewer and fewer are in the engine at once until one is found, and that one fails alone."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from data.files import write_jsonl
from tasks.generation.local import too_many_deaths
from tasks.generation.shards import GenerationJob, read_shards
from tasks.machine import child
from tasks.model.chat import ChatEncoder
from tasks.model.engine import Engine, FakeEngine, OnAnswer, Request, Requests
from tests.conftest import FlakyEngine
from tests.support.generating import N_ROWS, echo, generate, row_ids


def until_it_ends(job: GenerationJob, encoder: ChatEncoder, engine: Engine, most_deaths: int) -> None:
    """Has the job done as its parent does, which lives to see its engines die."""
    for deaths in itertools.count():
        try:
            generate(job, encoder, engine)
            return
        except MemoryError:
            assert deaths < most_deaths
            assert [shard.number for shard in job.shards() if shard.note_death()] != []


def test_a_row_that_kills_the_engine_is_found_and_fails_alone(job: GenerationJob, encoder: ChatEncoder) -> None:
    """Two such rows in one shard; whatever is asked for together with one of them is not lost by its deaths."""
    big = replace(job, generation={**job.generation, "shard_rows": 10})
    killer = FlakyEngine(
        FakeEngine(echo), crashes=lambda requests: {"4", "7"} & {row_ids(r) for r in requests} != set()
    )
    until_it_ends(big, encoder, killer, most_deaths=6)  # each row: among all, among a few, and alone
    lines = list(read_shards(big))
    assert [line["id"] for line in lines if "failed" in line] == ["4", "7"]
    assert {line["failed"] for line in lines if "failed" in line} == {"engine_crashed"}
    assert all("requests" in line for line in lines if line["id"] not in ("4", "7"))
    assert not list(Path(big.out).glob(".*.crashes"))


def test_rows_that_kill_the_engine_in_two_shards_are_not_asked_for_again_and_again(
    job: GenerationJob, encoder: ChatEncoder
) -> None:
    two = replace(job, generation={**job.generation, "shard_rows": 6})
    deadly = {"2", "9"}
    killer = FlakyEngine(FakeEngine(echo), crashes=lambda requests: deadly & {row_ids(r) for r in requests} != set())
    until_it_ends(two, encoder, killer, most_deaths=6)
    assert [line["id"] for line in read_shards(two) if "failed" in line] == ["2", "9"]


def test_a_row_that_kills_the_engine_while_it_is_scored_fails_alone(job: GenerationJob, encoder: ChatEncoder) -> None:
    scored = replace(job, score_against=[{"role": "user", "content": "alone"}], generation={"shard_rows": N_ROWS})
    marked = [*map(ord, "ab40")]  # what the fake engine says to the row 4

    def deadly(request: Request) -> bool:
        return request.score_from is not None and list(request.prompt_ids[request.score_from :])[:4] == marked

    killer = FlakyEngine(FakeEngine(echo), crashes=lambda requests: any(map(deadly, requests)))
    until_it_ends(scored, encoder, killer, most_deaths=3)
    lines = list(read_shards(scored))
    assert [line["id"] for line in lines if line.get("failed") == "engine_crashed"] == ["4"]
    rest = [c for line in lines if "requests" in line for r in line["requests"] for c in r["completions"]]
    assert len(rest) == 4 * (N_ROWS - 1)
    assert all("logprob_alone" in completion for completion in rest)


class Patient(FlakyEngine):
    """Waits for the requests that are made in a thread ahead of it, so that it holds as many as it may."""

    def generate(self, requests: Requests, on_answer: OnAnswer) -> None:
        super().generate(self.waited_for(requests), on_answer)

    def waited_for(self, requests: Requests) -> Iterator[Request | None]:
        """At first for a second, which the thread may need on a busy machine; once that was in vain, hardly."""
        since, patience = time.monotonic(), 1.0
        for request in requests:
            if request is not None:
                since = time.monotonic()
            elif time.monotonic() - since < patience:
                time.sleep(0.003)
                continue
            else:
                patience = 0.01
            yield request


def test_after_each_death_fewer_rows_are_in_the_engine_and_all_again_when_the_row_is_found(
    tmp_path: Path, encoder: ChatEncoder, job: GenerationJob
) -> None:
    """Two shards of 60 rows of two requests each, an engine with room for 200 requests, and a row in the second shard."""
    write_jsonl(Path(job.rows), ({"id": str(i)} for i in range(120)))
    job = replace(job, n_rows=120, generation={"shard_rows": 60})
    most: list[int] = []

    def noted(requests: Sequence[Request]) -> bool:
        rows = {row_ids(request) for request in requests}
        most[-1] = max(most[-1], len(rows))
        return "70" in rows

    engine = Patient(FakeEngine(echo), crashes=noted, holds=200)
    for was_at_work in ([True, True], [True, True], [False, True]):
        most.append(0)
        with pytest.raises(MemoryError):
            generate(job, encoder, engine)
        assert [shard.note_death() for shard in job.shards()] == was_at_work
    most.append(0)
    generate(job, encoder, engine)
    assert most == [100, 32, 1, 49]
    assert [line["id"] for line in read_shards(job) if "failed" in line] == ["70"]


def test_a_child_that_fails_is_started_again_and_the_others_go_on(tmp_path: Path) -> None:
    helper, failed = "tests.support.child_helpers", list[str]()
    lines: list[str] = []
    commands = [
        child.Command(helper, ["fail", "3", "1"], {}, "dies"),
        child.Command(helper, ["say", "lives"], {}, "other"),
    ]

    def again(label: str, error: child.ChildError) -> bool:
        failed.append(str(error))
        return len(failed) < 2

    child.run_children(commands, tmp_path / "log", lines.append, lambda label, facts: None, again)
    assert [error.split(".")[0] for error in failed] == ["dies failed with exit code 3"] * 2
    assert (lines.count("[dies] line 0"), lines.count("[other] lives")) == (2, 1)


def test_an_engine_may_die_three_times_without_having_finished_a_row() -> None:
    deaths: Counter[str] = Counter()
    assert [too_many_deaths(deaths, "engine 0", made=0) for _ in range(4)] == [False, False, False, True]
    assert not too_many_deaths(deaths, "engine 1", made=0)
    assert [too_many_deaths(deaths, "engine 1", made=made) for made in (5, 0, 0, 0)] == [False, False, False, True]
    assert [too_many_deaths(deaths, "engine 2", made=1) for _ in range(100)] == [False] * 100


def test_kills_from_outside_are_no_reason_to_suspect_a_row(job: GenerationJob, encoder: ChatEncoder) -> None:
    """Kill −9 of the whole run, five times: nobody lives to see the engine die."""
    sizes: list[int] = []

    def noted(requests: Sequence[Request]) -> bool:
        sizes.append(len(requests))
        return len(sizes) <= 5

    whole = replace(job, generation={**job.generation, "shard_rows": N_ROWS})
    for _ in range(5):
        with pytest.raises(MemoryError):
            generate(whole, encoder, FlakyEngine(FakeEngine(echo), crashes=noted))
        for shard in whole.shards():
            shard.forget_work()
    assert generate(whole, encoder) == 2 * N_ROWS
    assert all("requests" in line for line in read_shards(whole))
