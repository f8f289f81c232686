"""A store at a URL that is away for a while: what is under way goes on, for as long as its lease may go without renewal."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data.files import write_json
from data.store.artifacts import DONE, Counts, Outcome
from data.store.lease import TTL_S, Lease, LeaseError, RemoteFile
from data.store.remote import AWAY_S, Remote
from data.store.store import RunStore
from tests.support.s3 import STAGE, must_not_run

_CALLS = ("cat_file", "pipe_file", "find", "get_file", "put_file", "cp_file", "rm_file")
"""What `Remote` asks of a file system, one file at a time."""


class Away(Exception):
    """As botocore's errors, it has no base that says what it is."""


class Faults:
    """Errors that a file system raises in place of its next answers."""

    def __init__(self, store: RunStore | Remote, monkeypatch: pytest.MonkeyPatch) -> None:
        remote = store.remote if isinstance(store, RunStore) else store
        assert remote is not None
        self.left: dict[str, int] = {}
        self.error: Exception = Away("connection refused")
        self.said: list[str] = []
        self.asked: list[str] = []
        remote.say = self.said.append
        for name in _CALLS:
            monkeypatch.setattr(remote.fs, name, self._faulty(name, getattr(remote.fs, name)))

    def _faulty(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def faulty(*given: Any, **options: Any) -> Any:
            self.asked.append(name)
            if self.left.get(name, 0) > 0:
                self.left[name] -= 1
                raise self.error
            return call(*given, **options)

        return faulty

    def next(self, times: int, *names: str) -> None:
        self.left = dict.fromkeys(names or _CALLS, times)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.store.remote._AGAIN_S", 0.01)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """A store in memory, which other tests do not see."""
    return f"memory://{tmp_path.name}-{time.time_ns()}"


@pytest.fixture
def remote(folder: str, tmp_path: Path) -> Remote:
    return Remote(folder, tmp_path / "cache")


@pytest.fixture
def faults(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> Faults:
    return Faults(remote, monkeypatch)


@pytest.fixture
def seen_from(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], RunStore]:
    """The run "demo" as a machine sees it; each has a cache of its own."""

    def store(machine: str) -> RunStore:
        monkeypatch.setenv("GRAM_R2_CACHE", str(tmp_path / machine))
        return RunStore(folder, "demo")

    return store


def test_it_is_asked_again_and_that_is_said_once(remote: Remote, faults: Faults) -> None:
    (remote.folder / "f").parent.mkdir(parents=True)
    (remote.folder / "f").write_text("x")
    remote.send("f")
    faults.next(3)
    remote.send("f")
    (remote.folder / "f").unlink()
    assert (remote.read("f"), remote.fetch("f").read_text(), remote.sizes("")) == (b"x", "x", {"f": 1})
    remote.remove(["f"])
    assert remote.read("f") is None
    where, _, when = faults.said[0].partition(" does not answer (Away('connection refused')): ")
    assert (where, when) == (f"the store {remote.url}", "trying again for up to 60 s")
    assert len(faults.said) == 5, "of each call, as the store has answered in between"


def test_it_may_be_away_for_as_long_as_a_lease_lasts(
    remote: Remote, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert AWAY_S == TTL_S
    monkeypatch.setattr("data.store.remote.AWAY_S", 0.2)
    remote.read("x")
    faults.next(10_000)
    began = time.monotonic()
    with pytest.raises(Away):
        remote.read("x")
    assert 0.2 <= time.monotonic() - began < 5
    asked = len(faults.asked)
    with pytest.raises(Away):
        remote.sizes("")  # what comes after does not wait as long again
    assert len(faults.asked) == asked + 1


def test_one_that_has_never_answered_is_not_waited_for(remote: Remote, faults: Faults) -> None:
    faults.next(1)
    with pytest.raises(Away):
        remote.read("x")


@pytest.mark.parametrize("error", [PermissionError("no"), OSError(errno.ENOSPC, "no room"), NotImplementedError()])
def test_what_will_not_change_is_said_at_once(remote: Remote, faults: Faults, error: Exception) -> None:
    remote.read("x")
    faults.error = error
    faults.next(1)
    with pytest.raises(type(error)):
        remote.read("x")


def test_a_stage_goes_on_and_is_committed(
    seen_from: Callable[[str], RunStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its parts are kept and another machine's are fetched while the store is away, and so is what it has made."""
    one, two = seen_from("one"), seen_from("two")
    faults = Faults(one, monkeypatch)

    def body(work: Path) -> Outcome:
        for number, store in enumerate((two, one)):
            folder = store.work_dir(STAGE) / "shards-5"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number}.jsonl").write_text("x\n")
            write_json(folder / f".{number}{DONE}", {"files": [f"{number}.jsonl"]})
            faults.next(1)
            store.keep(store.work_dir(STAGE))
            one.refresh(work)
        faults.next(2)
        return Outcome(Counts(1, 1))

    with one.held(faults.said.append):
        one.run(STAGE, body)
    assert faults.said
    found = seen_from("three").run(STAGE, must_not_run)
    assert sorted(found.manifest.files) == ["shards-5/0.jsonl", "shards-5/1.jsonl"]


def test_a_run_that_was_taken_over_meanwhile_is_not_committed(
    seen_from: Callable[[str], RunStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = seen_from("one")
    faults = Faults(one, monkeypatch)

    def taken_over(line: str) -> None:
        assert one.remote is not None
        one.remote.write("demo/.lease.json", b"the other's")

    def body(work: Path) -> Outcome:
        faults.next(1, "put_file")  # the manifest, as there is no other file
        return Outcome(Counts(0, 0))

    with pytest.raises(LeaseError, match="was taken over from this process"), one.held(taken_over):
        one.run(STAGE, body)
    assert seen_from("two").find(STAGE) is None


def test_a_lease_is_held_by_who_has_written_it_though_the_answer_was_lost(
    remote: Remote, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.read("lease")
    write = remote.fs.pipe_file

    def unanswered(*given: Any, **options: Any) -> None:
        write(*given, **options)
        raise Away("connection reset")

    with monkeypatch.context() as patch:
        patch.setattr(remote.fs, "pipe_file", unanswered)
        held = Lease(RemoteFile(remote, "lease"), "the run 'demo'", say=faults.said.append)
    held.check()
    with pytest.raises(LeaseError, match="is being worked on by"):
        Lease(RemoteFile(remote, "lease"), "the run 'demo'")
    held.release()


def test_the_lease_of_another_is_not_replaced_late(remote: Remote, faults: Faults) -> None:
    """By the time that the store answers, another machine may have taken over."""
    remote.read("lease")
    faults.next(1)
    with pytest.raises(Away):
        remote.write("lease", b"mine")
    assert remote.read("lease") is None
