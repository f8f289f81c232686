"""Shards that the engines of one machine take in turn: each is made once, and what a lost engine leaves is not lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.generation.claims import OpenShards, rows_a_shard
from tasks.generation.shards import GenerationJob, Shard
from tasks.model.chat import ChatEncoder
from tasks.model.engine import FakeEngine
from tests.conftest import FlakyEngine
from tests.support.claiming import N_ROWS, N_SHARDS, make, numbers, twenty_shards
from tests.support.generating import echo, generate, shard_bytes


@pytest.fixture
def job(job: GenerationJob) -> GenerationJob:
    return twenty_shards(job)


def dies_on(job: GenerationJob, encoder: ChatEncoder, shard: Shard) -> None:
    """Leaves a shard as an engine does whose process ends while it works on it."""
    with pytest.raises(MemoryError):
        generate(job, encoder, FlakyEngine(FakeEngine(echo), crashes=lambda requests: True), [shard])


@pytest.mark.parametrize("engines", [1, 2, 3, 7])
def test_engines_that_take_turns_make_every_shard_once(job: GenerationJob, encoder: ChatEncoder, engines: int) -> None:
    alone = replace(job, out=job.out + "-alone")
    generate(alone, encoder)
    shards = OpenShards(job, engines)
    taken = []
    while not shards.are_written():
        for i in range(engines):
            if (shard := shards.take(f"engine {i}")) is not None:
                taken.append(shard.number)
                make(job, encoder, shard)
    assert sorted(taken) == list(range(N_SHARDS))
    assert shard_bytes(job) == shard_bytes(alone)


def test_an_engine_that_is_faster_makes_more(job: GenerationJob, encoder: ChatEncoder) -> None:
    shards = OpenShards(job, 2)
    slow = shards.take("slow")
    fast = 0
    while (shard := shards.take("fast")) is not None:
        make(job, encoder, shard)
        fast += 1
    assert fast == N_SHARDS - 1
    assert shards.answer("fast") == {"shard": None, "wait": True}, "the other one may be lost"
    assert shards.answer("slow") == {"shard": None, "wait": False}, "it has only its own to finish"
    assert not shards.are_written()
    make(job, encoder, slow)
    assert shards.answer("fast") == {"shard": None, "wait": True}, "the other one has not said so"
    shards.report("slow", 3)
    assert shards.are_written()
    assert shards.answer("fast") == {"shard": None, "wait": False}


def test_the_first_engine_to_start_leaves_the_others_their_share(job: GenerationJob, encoder: ChatEncoder) -> None:
    shards = OpenShards(job, 4)
    assert numbers(shards, "engine 0") == [0, 1, 2, 3, 4]
    assert shards.answer("engine 0") == {"shard": None, "wait": True}
    for shard in map(job.shard, range(5)):
        make(job, encoder, shard)
    assert numbers(shards, "engine 0") == [5, 6, 7], "a quarter of the 45 rows that are left, in whole shards"
    shards.report("engine 0", 5 * 3 + 5)
    assert numbers(shards, "engine 0") == [8, 9], "what it has done of its unfinished shards is not left to do"
    assert [numbers(shards, f"engine {i}") for i in (1, 2, 3)] == [[10, 11, 12], [13, 14, 15], [16, 17, 18]]


def test_an_engine_that_does_not_show_up_is_not_waited_for(job: GenerationJob, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = OpenShards(job, 4)
    assert len(numbers(shards, "engine 0")) == 5
    monkeypatch.setattr("tasks.generation.claims._START_S", 0.0)
    assert numbers(shards, "engine 0") == list(range(5, N_SHARDS))


def test_an_engine_without_anything_to_do_gets_a_shard_however_small_its_share_is(
    job: GenerationJob, encoder: ChatEncoder
) -> None:
    for number in range(N_SHARDS - 2):
        make(job, encoder, job.shard(number))
    shards = OpenShards(job, 8)
    assert shards.engines == 2, "no more engines than shards"
    assert [shards.take("engine 0"), shards.take("engine 1")] == [job.shard(18), job.shard(19)]


def test_the_shards_of_an_engine_that_died_are_its_own_before_they_are_others(
    job: GenerationJob, encoder: ChatEncoder
) -> None:
    """What killed it must not kill the others too; but they do not end while something is left."""
    shards = OpenShards(job, 2)
    assert numbers(shards, "engine 0", 3) == [0, 1, 2]
    make(job, encoder, job.shard(1))
    dies_on(job, encoder, job.shard(2))
    assert shards.died("engine 0")
    assert len(job.shard(2).crashes()) == 1
    assert job.shard(0).crashes() == []
    assert numbers(shards, "engine 1", 2) == [3, 4]
    assert numbers(shards, "engine 0", 3) == [0, 2, 5]
    assert not shards.died("engine 0"), "it did not work on any of these"
    for number in (3, 4, *range(6, N_SHARDS)):
        if number > 4:
            assert shards.take("engine 1") == job.shard(number)
        make(job, encoder, job.shard(number))
    assert shards.take("engine 1") == job.shard(0)


def test_a_mark_of_an_engine_that_was_killed_with_its_parent_says_nothing(
    job: GenerationJob, encoder: ChatEncoder
) -> None:
    dies_on(job, encoder, job.shard(0))
    shards = OpenShards(job, 1)
    assert shards.take("engine") == job.shard(0)
    assert not shards.died("engine")
    assert job.shard(0).crashes() == []


def test_the_rows_of_finished_and_of_unfinished_shards_are_counted_once(
    job: GenerationJob, encoder: ChatEncoder
) -> None:
    make(job, encoder, job.shard(0))
    shards = OpenShards(job, 2)
    assert (shards.rows_done, shards.rows_open) == (3, 0)
    first, second = shards.take("engine 0"), shards.take("engine 0")
    shards.report("engine 0", 4)
    assert (shards.rows_done, shards.rows_open) == (7, 4)
    make(job, encoder, first)
    shards.report("engine 0", 5)
    assert (shards.rows_done, shards.rows_open) == (8, 2)
    shards.take("engine 1")
    shards.report("engine 1", 1)
    assert (shards.rows_done, shards.rows_open) == (9, 3)
    shards.died("engine 0")
    assert (shards.rows_done, shards.rows_open) == (7, 1), "its successor counts again what it finds"
    assert shards.take("engine 0") == second


def test_rows_that_failed_are_open_again_in_the_next_attempt_only(job: GenerationJob, encoder: ChatEncoder) -> None:
    for shard in job.shards():
        make(job, encoder, shard, failing=("4", "50"))
    assert OpenShards(job, 1).are_written()
    again = replace(job, attempt=2)
    shards = OpenShards(again, 1)
    assert numbers(shards, "engine") == [1, 16]
    assert shards.rows_done == N_ROWS - 6
    make(again, encoder, job.shard(1))
    make(again, encoder, job.shard(16), failing=("50",))
    shards.report("engine", 6)
    assert shards.are_written()
    assert (shards.rows_done, shards.rows_open) == (N_ROWS, 0)


@pytest.mark.parametrize(
    ("n_rows", "most", "expected"),
    [(0, 256, 8), (1, 256, 8), (2_000, 256, 8), (10_000, 256, 39), (325_000, 256, 256), (325_000, 2, 2)],
)
def test_small_stages_have_small_shards(n_rows: int, most: int, expected: int) -> None:
    assert rows_a_shard(n_rows, most) == expected
