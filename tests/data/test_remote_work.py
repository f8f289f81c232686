"""A stage under way on several machines, over an S3 server: parts that others finish, and who holds the run."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from data.files import write_json
from data.store.artifacts import BEGUN, DONE, Counts, Outcome, Stage
from data.store.store import RunStore
from data.store.worked import WORKED
from tests.support.s3 import STAGE, checkpoint, must_not_run, there, writes


def test_the_parts_of_a_stage_under_way_are_there_for_another_machine(machine: Callable[..., RunStore]) -> None:
    one = machine("one")

    def dies(work: Path) -> Outcome:
        folder = work / "shards-5"
        folder.mkdir()
        for i in (0, 1):
            (folder / f"{i}.jsonl").write_text(f"{i}\n")
            one.keep(work)
            write_json(folder / f".{i}{DONE}", {"files": [f"{i}.jsonl"]})
            one.keep(work)
        (folder / "2.jsonl").write_text("half")
        checkpoint = work / "scratch.tmp/checkpoint-10"
        checkpoint.mkdir(parents=True)
        (checkpoint / "optimizer.pt").write_text("12345")
        write_json(checkpoint / f"all{DONE}", {"files": {"optimizer.pt": 5}})
        one.keep(work)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one.run(STAGE, dies)
    seen: list[str] = []

    brought: list[str] = []

    def files(work: Path) -> set[str]:
        return {p.relative_to(work).as_posix() for p in work.rglob("*") if p.is_file()}

    def goes_on(work: Path) -> Outcome:
        seen.extend(sorted(files(work)))
        two.refresh(work)  # as who trains does: checkpoints are brought then
        brought.extend(sorted(files(work) - set(seen)))
        return writes("x\n")(work)

    two = machine("two")
    two.run(STAGE, goes_on)
    parts = ["scratch.tmp/checkpoint-10/all.done", "scratch.tmp/checkpoint-10/optimizer.pt"]
    shards = ["shards-5/.0.done", "shards-5/.1.done", "shards-5/0.jsonl", "shards-5/1.jsonl"]
    assert seen == [BEGUN, WORKED, *shards]
    assert brought == parts
    assert not [name for name in there(two) if name.startswith(".work")]


def finish_part(store: RunStore, text: str = "x\n", attempt: int = 1, number: int = 0) -> None:
    """A part of the stage under way, whole and kept."""
    folder = store.work_dir(STAGE) / "shards-5"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{number}.jsonl").write_text(text)
    write_json(folder / f".{number}{DONE}", {"files": [f"{number}.jsonl"], "attempt": attempt})
    store.keep(store.work_dir(STAGE))


def test_a_part_that_was_finished_again_is_brought_again(machine: Callable[..., RunStore]) -> None:
    one, two = machine("one"), machine("two")

    finish_part(one, "first\n", 1)
    two.refresh(two.work_dir(STAGE))
    finish_part(one, "second\n", 2)
    two.refresh(two.work_dir(STAGE))
    assert (two.work_dir(STAGE) / "shards-5/0.jsonl").read_text() == "second\n"
    two.keep(two.work_dir(STAGE))  # what was brought is not sent back
    finish_part(one, "third\n", 3)
    two.keep(two.work_dir(STAGE))
    assert one.remote is not None
    name = f"{one._relative(one.work_dir(STAGE))}/shards-5/0.jsonl"
    assert one.remote.read(name) == b"third\n"


def test_what_lies_here_from_an_earlier_attempt_does_not_replace_a_later_one(machine: Callable[..., RunStore]) -> None:
    """The parent's machine has a shard in which rows had failed; a worker elsewhere has asked for them again."""
    parent, worker = machine("one"), machine("two")

    finish_part(parent, "first\n", 1)
    finish_part(worker, "second\n", 2)
    seen: list[str] = []

    def body(work: Path) -> Outcome:
        seen.append((work / "shards-5/0.jsonl").read_text())
        return Outcome(Counts(0, 0))

    machine("one").run(STAGE, body)
    assert seen == ["second\n"]


def test_work_that_a_crash_left_behind_a_finished_stage_goes(machine: Callable[..., RunStore]) -> None:
    store = machine("one")
    store.run(STAGE, writes("x\n"))
    store.begin(store.work_dir(STAGE))
    assert store.is_under_way(store.work_dir(STAGE))
    machine("one").run(STAGE, must_not_run)
    assert not [name for name in there(store) if name.startswith(".work")]


def test_copies_that_somebody_removes_take_nothing_with_them(machine: Callable[..., RunStore]) -> None:
    one, parent = machine("one"), machine("two")
    work = parent.work_dir(STAGE)
    finish_part(one, number=0)
    finish_part(one, number=1)
    parent.refresh(work)
    before = there(parent)
    shutil.rmtree(parent.root)
    parent.refresh(work)
    parent.keep(work)
    assert there(parent) == before
    assert not (work / "shards-5/0.jsonl").exists() or (work / "shards-5/.0.done").exists()


def test_a_checkpoint_that_is_replaced_while_it_is_sent_or_brought_ends_nothing(
    machine: Callable[..., RunStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = machine("one"), machine("two")
    work = one.work_dir(STAGE)
    assert one.remote is not None
    assert two.remote is not None
    old, new = checkpoint(one, 10), checkpoint(one, 20)
    send, read = one.remote.send, two.remote.read

    def slow_send(path: str) -> None:
        shutil.rmtree(old, ignore_errors=True)
        send(path)

    with monkeypatch.context() as patch:
        patch.setattr(one.remote, "send", slow_send)
        one.keep(work)

    def slow_read(path: str) -> bytes | None:
        content = read(path)
        if path.endswith(f"all{DONE}"):
            shutil.rmtree(new, ignore_errors=True)
            one.keep(work)
        return content

    monkeypatch.setattr(two.remote, "read", slow_read)
    two.refresh(two.work_dir(STAGE))
    assert not [name for name in there(one) if "checkpoint" in name], "the store follows the trainer"


def test_several_workers_of_one_machine_share_its_copies(machine: Callable[..., RunStore]) -> None:
    machine("one").run(STAGE, writes("x\n"))
    workers = [machine("two") for _ in range(4)]
    errors: list[BaseException] = []
    start = threading.Barrier(4)

    def bring(store: RunStore) -> None:
        wanted = [store.path / "round-1/labels/checkpoint", store.path / "round-1/labels/labels.jsonl"]
        try:
            start.wait()
            store.bring_all(wanted)
            assert (wanted[0] / "weights").read_text() == "x\n" * 100
        except BaseException as error:
            errors.append(error)

    for _ in range(10):
        shutil.rmtree(workers[0].root, ignore_errors=True)
        threads = [threading.Thread(target=bring, args=(store,)) for store in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []


def test_copies_of_stages_that_have_ended_go(machine: Callable[..., RunStore]) -> None:
    one, two = machine("one"), machine("two")
    other = Stage("round-2/labels", "label", 1, {}, {})
    for stage in (STAGE, other):
        one.begin(one.work_dir(stage))
        two.refresh(two.work_dir(stage))
    assert all(two.is_under_way(two.work_dir(stage)) for stage in (STAGE, other))
    one.run(STAGE, writes("x\n"))
    two.forget_ended_work()
    assert [two.work_dir(stage).exists() for stage in (STAGE, other)] == [False, True]
    assert not two.is_under_way(two.work_dir(STAGE))


def test_a_worker_brings_what_a_stage_holds_now_not_what_it_held(machine: Callable[..., RunStore]) -> None:
    one, two = machine("one"), machine("two")
    one.run(STAGE, writes("old\n"))
    wanted = [two.path / "round-1/labels/checkpoint", two.path / "round-1/labels/labels.jsonl"]
    two.bring_all(wanted)
    assert wanted[1].read_text() == "old\n"
    one.run(Stage("round-1/labels", "label", 2, {"votes": 8}, {"judge": "bb"}, round=1), writes("new\n"))
    two.bring_all(wanted)
    assert (wanted[0] / "weights").read_text() == "new\n" * 100
    wanted[1].write_text("what somebody scribbled here")
    two.bring_all(wanted)
    assert wanted[1].read_text() == "new\n"
