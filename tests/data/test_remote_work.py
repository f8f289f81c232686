"""A stage under way on several machines, over an S3 server: parts that others finish, and who holds the run."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from data.files import write_json
from data.store.artifacts import BEGUN, DONE, MANIFEST, Counts, Outcome, Stage
from data.store.lease import Lease, LeaseError, RemoteFile
from data.store.remote import Remote
from data.store.store import RunStore
from tests.support.s3 import STAGE, must_not_run, there, writes

# ---- work in progress -------------------------------------------------------------------------------------------------------


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
    assert seen == [BEGUN, "shards-5/.0.done", "shards-5/.1.done", "shards-5/0.jsonl", "shards-5/1.jsonl"]
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


def checkpoint(store: RunStore, step: int) -> Path:
    folder = store.work_dir(STAGE) / f"scratch.tmp/trainer/checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "optimizer.pt").write_text("1")
    write_json(folder / f"all{DONE}", {"files": {"optimizer.pt": 1}})
    return folder


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


# ---- the lease ----------------------------------------------------------------------------------------------------------------


def test_one_machine_holds_a_run(machine: Callable[..., RunStore], url: str) -> None:
    one, two = machine("one"), machine("two")
    with one.held():
        with pytest.raises(LeaseError, match=rf"is being worked on by process {os.getpid()} on"), two.held():
            pass
        assert one.lease is not None
        one.lease.check()
    with two.held():
        pass
    assert there(two) == set()


def test_a_silent_holder_is_followed_and_commits_nothing_more(machine: Callable[..., RunStore]) -> None:
    one, two = machine("one"), machine("two")

    def body(work: Path) -> Outcome:
        assert one.remote is not None
        file = RemoteFile(one.remote, "demo/.lease.json")
        told = json.loads(file.read() or b"")
        file.write(json.dumps({**told, "renewed": 0, "process": "another boot/1/1"}).encode())
        said: list[str] = []
        follower = Lease(RemoteFile(two.remote, "demo/.lease.json"), "demo", say=said.append)  # type: ignore[arg-type]
        assert "taking over the run 'demo'" in said[0]
        follower._ended.set()
        return writes("x\n")(work)

    with pytest.raises(LeaseError, match="has been taken from this process"), one.held():
        one.run(STAGE, body)
    assert two.find(STAGE) is None


def test_an_upload_that_outlives_the_lease_is_not_committed(
    machine: Callable[..., RunStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights take hours to send, and the run is taken over meanwhile."""
    one = machine("one")
    assert one.remote is not None
    put = one.remote.fs.put_file

    def slow(source: str, target: str) -> None:
        put(source, target)
        assert one.lease is not None
        if target.endswith("weights"):
            one.lease.file.write(json.dumps({**json.loads(one.lease.file.read() or b""), "token": "other"}).encode())

    monkeypatch.setattr(one.remote.fs, "put_file", slow)
    with pytest.raises(LeaseError, match="has been taken from this process"), one.held():
        one.run(STAGE, writes("x\n"))
    assert f"{STAGE.name}/{MANIFEST}" not in there(one)
    assert f"{STAGE.name}/checkpoint/weights" in there(one)


def test_a_worker_keeps_a_copy_of_one_rounds_judge_and_of_the_prover(machine: Callable[..., RunStore]) -> None:
    one, two = machine("one"), machine("two")
    names = ["prover", "round-0/judge", "round-1/judge"]
    for name in names:
        one.run(Stage(name, "train", 1, {}, {"of": name}), writes(name))
    checkpoints = [two.path / name / "checkpoint" for name in names]
    for checkpoint in checkpoints:
        two.forget_copies_like(checkpoint)
        two.bring_all([checkpoint])
    assert [checkpoint.exists() for checkpoint in checkpoints] == [True, False, True]
    two.forget_copies_like(checkpoints[0])
    assert [checkpoint.exists() for checkpoint in checkpoints] == [True, False, True]
    assert {f"{name}/checkpoint/weights" for name in names} <= there(one), "what is there stays"


def test_reports_are_where_the_store_is(machine: Callable[..., RunStore]) -> None:
    one, two = machine("one"), machine("two")
    one.path.mkdir(parents=True)
    (one.path / "metrics.jsonl").write_text("{}\n")
    one.share(one.path / "metrics.jsonl")
    two.bring(two.path / "metrics.jsonl")
    assert (two.path / "metrics.jsonl").read_text() == "{}\n"
    two.bring(two.path / "report.html")
    assert not (two.path / "report.html").exists()


def test_copies_are_of_the_store_alone(machine: Callable[..., RunStore]) -> None:
    """Two stores with runs of one name do not mix."""
    remote = machine("one").remote
    assert remote is not None
    assert Remote(remote.url + "-2").folder != remote.folder
