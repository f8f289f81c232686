"""Shards that several machines share, over a folder or an object store: none makes what another has, and none is left over."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.files import link_file
from data.store.store import RunStore
from tasks.generation.claims import SharedShards
from tasks.generation.shards import GenerationJob, read_shards
from tasks.model.chat import ChatEncoder
from tests.support.claiming import N_ROWS, N_SHARDS, make, numbers, twenty_shards


@pytest.fixture
def job(job: GenerationJob) -> GenerationJob:
    return twenty_shards(job)


Machine = Callable[..., SharedShards]


@pytest.fixture(params=["folder", "memory://gram-r2-tests"])
def machine(
    request: pytest.FixtureRequest, job: GenerationJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Machine]:
    """The shards as one of several machines sees them, which share a folder, or an object store with a cache for each."""
    made: list[SharedShards] = []

    def seen_from(name: str, attempt: int = 1) -> SharedShards:
        monkeypatch.setenv("GRAM_R2_CACHE", str(tmp_path / name))
        shared = request.param == "folder"
        store = RunStore(tmp_path if shared else f"{request.param}/{tmp_path.name}", "run")
        if not shared:
            link_file(Path(job.rows), store.root / "run/rows.jsonl")
        there = job if shared else job.relative_to(tmp_path).under(store.root)
        store.begin(Path(there.out).parent)
        made.append(SharedShards(replace(there, attempt=attempt), store, lambda line: None))
        return made[-1]

    monkeypatch.setattr("tasks.generation.claims._LOOK_EVERY_S", 0.0)
    monkeypatch.setattr("data.store.lease._SETTLE_S", 0.01)
    yield seen_from
    for shards in made:
        shards.close()


def keep(shards: SharedShards) -> None:
    shards.store.keep(Path(shards.job.out).parent)


def claims(shards: SharedShards) -> set[int]:
    """The shards that are claimed, as the store has it."""
    return {int(name[1:7]) for name in shards._names() if name.endswith(".claim")}


def test_machines_share_a_stage_and_make_nothing_twice(machine: Machine, encoder: ChatEncoder) -> None:
    machines = [machine("one"), machine("two"), machine("three")]
    taken: list[int] = []
    while not all(shards.are_written() for shards in machines):
        for shards in machines:
            if (shard := shards.take("engine")) is not None:
                taken.append(shard.number)
                make(shards.job, encoder, shard)
                keep(shards)
    assert sorted(taken) == list(range(N_SHARDS))
    assert claims(machines[0]) == set()
    one = machines[0]
    one.store.refresh(Path(one.job.out).parent)
    assert [line["row"] for line in read_shards(one.job)] == list(range(N_ROWS))


def test_a_claim_is_held_until_the_store_has_the_shard(machine: Machine, encoder: ChatEncoder) -> None:
    one, two = machine("one"), machine("two")
    first = one.take("engine")
    assert (first.number, two.take("engine").number) == (0, 1)  # type: ignore[union-attr]
    if one.store.remote is not None:
        make(one.job, encoder, first)
        assert [shards.take("engine").number for shards in (one, two)] == [2, 3]  # type: ignore[union-attr]
        assert claims(one) == {0, 1, 2, 3}
        keep(one)
    else:
        make(one.job, encoder, first)
    one.take("engine")
    assert 0 not in claims(one)
    three = machine("three")
    assert three.take("engine").number > 1  # type: ignore[union-attr]
    assert three.store.remote is None or not three.job.shard(0).path.exists(), "who only makes others does not fetch it"


def test_claims_of_a_lost_machine_are_taken_when_nothing_else_is_left(machine: Machine, encoder: ChatEncoder) -> None:
    lost, other = machine("one"), machine("two")
    assert numbers(lost, "engine", 2) == [0, 1]
    elsewhere = {"process": "another boot/7/1"}
    change_claim(lost, 0, **elsewhere, renewed=0)
    change_claim(lost, 1, **elsewhere)
    taken = []
    while (shard := other.take("engine")) is not None:
        taken.append(shard.number)
        make(other.job, encoder, shard)
        keep(other)
    assert taken == [*range(2, N_SHARDS), 0]
    assert other.answer("engine") == {"shard": None, "wait": True}, "the holder of shard 1 is alive, as far as is known"


def change_claim(shards: SharedShards, number: int, **facts: Any) -> None:
    file = shards._leases[number].file
    file.write(json.dumps({**json.loads(file.read() or b""), **facts}).encode())


def test_a_machine_that_ends_early_gives_up_its_claims(machine: Machine) -> None:
    one, two = machine("one"), machine("two")
    assert numbers(one, "engine", 2) == [0, 1]
    one.close()
    assert numbers(two, "engine", 2) == [0, 1]


def test_a_machine_that_starts_after_the_stage_has_ended_makes_nothing_and_leaves_nothing(machine: Machine) -> None:
    late = machine("late")
    work = Path(late.job.out).parent
    shutil.rmtree(work)
    if late.store.remote is not None:
        late.store.remote.remove([f"run/.work/{name}" for name in late.store.remote.sizes("run/.work")])
    assert late.take("engine") is None
    assert late.answer("engine") == {"shard": None, "wait": False}
    assert not work.exists()
    assert claims(late) == set()


def test_a_shard_that_was_finished_since_the_last_look_is_not_given_out(
    machine: Machine, encoder: ChatEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = machine("one"), machine("two")
    monkeypatch.setattr("tasks.generation.claims._LOOK_EVERY_S", 60.0)
    two._look()
    shard = one.take("engine")
    make(one.job, encoder, shard)
    keep(one)
    one.close()
    assert two.take("engine").number == 1  # type: ignore[union-attr]


def test_a_shard_with_failed_rows_is_tried_again_by_another_machine_which_keeps_the_others(
    machine: Machine, encoder: ChatEncoder
) -> None:
    one = machine("one")
    for number in range(N_SHARDS):
        make(one.job, encoder, one.job.shard(number), failing=("4",))
    keep(one)
    one.close()
    two = machine("two", attempt=2)
    [number] = numbers(two, "engine")
    assert number == 1
    assert sorted(two.job.shard(1).done()) == [3, 5]
    assert machine("three", attempt=1).take("engine") is None


def test_an_engine_that_died_leaves_its_claims_to_its_successor(machine: Machine) -> None:
    one, two = machine("one"), machine("two")
    assert numbers(one, "engine", 2) == [0, 1]
    one.died("engine")
    assert numbers(two, "engine", 2) == [2, 3]
    assert numbers(one, "engine", 3) == [0, 1, 4]


def test_rows_of_an_unfinished_shard_outlive_their_machine(machine: Machine) -> None:
    one, two = machine("one"), machine("two")
    shard = one.take("engine")
    assert shard is not None
    shard.folder.mkdir(parents=True, exist_ok=True)
    (shard.folder / ".000000.partial").write_text('{"row": 0, "id": "0"}\n{"row": 1, "id": "1"}\n{"row": 2, "i')
    one.keep_rows()
    one.close()
    assert two.take("engine") == two.job.shard(0)
    assert sorted(two.job.shard(0).done()) == [0, 1], "the last line was cut"
