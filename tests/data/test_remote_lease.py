"""Who holds a run whose store is on an S3 server: one process, followed by another where it is dead or silent."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from data.store.artifacts import MANIFEST, Outcome, Stage
from data.store.lease import Lease, LeaseError, RemoteFile
from data.store.remote import Remote
from data.store.store import RunStore
from tests.support.s3 import STAGE, there, writes


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
        follower = Lease(RemoteFile(two.remote, "demo/.lease.json"), "the run 'demo'", say=said.append)  # type: ignore[arg-type]
        assert "taking over the run 'demo'" in said[0]
        follower._ended.set()
        return writes("x\n")(work)

    with pytest.raises(LeaseError, match="was taken over from this process"), one.held():
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
    with pytest.raises(LeaseError, match="was taken over from this process"), one.held():
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
