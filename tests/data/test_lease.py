"""One process works on a run: the second is refused, a dead one is followed at once, a silent one after a while."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from data.store.artifacts import Counts, Outcome, Stage
from data.store.lease import Lease, LeaseError, LocalFile
from data.store.store import RunStore

STAGE = Stage("data", "data", 1, {}, {})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "demo").mkdir()
    return tmp_path / "demo" / ".lease.json"


@pytest.fixture
def lease(path: Path) -> Iterator[Lease]:
    held = Lease(LocalFile(path), "the run 'demo'")
    yield held
    held.release()


def change(path: Path, **facts: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))


def in_another_process(path: Path) -> subprocess.Popen[str]:
    """A process that holds the lease until it is killed."""
    program = "import sys, time; from data.store.lease import Lease, LocalFile; from pathlib import Path; "
    program += "held = Lease(LocalFile(Path(sys.argv[1])), 'demo'); "
    program += "print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_the_second_is_refused_at_once_and_told_who_has_it(path: Path) -> None:
    holder = in_another_process(path)
    try:
        started = time.monotonic()
        with pytest.raises(
            LeaseError,
            match=rf"the run 'demo' is being worked on by process {holder.pid} on {os.uname().nodename} since 20\d\d-",
        ):
            Lease(LocalFile(path), "the run 'demo'")
        assert time.monotonic() - started < 2
    finally:
        holder.kill()
        holder.communicate()


def test_a_dead_process_on_this_machine_is_followed_at_once(path: Path) -> None:
    holder = in_another_process(path)
    holder.kill()
    while psutil.Process(holder.pid).status() != psutil.STATUS_ZOMBIE:  # dead, but not reaped yet
        time.sleep(0.01)
    said: list[str] = []
    follower = Lease(LocalFile(path), "the run 'demo'", say=said.append)
    holder.communicate()
    assert said == [f"taking over the run 'demo' from {_name(holder.pid, path, said)}: its process is dead"]
    follower.check()
    follower.release()
    assert not path.exists()


def _name(pid: int, path: Path, said: list[str]) -> str:
    return said[0].split(" from ")[1].split(": its")[0] if f"process {pid} on" in said[0] else "nobody"


def test_another_process_with_the_same_id_is_not_the_holder(path: Path, lease: Lease) -> None:
    machine = lease.holder.process.rsplit("/", 2)[0]
    change(path, token="other", process=f"{machine}/{os.getpid()}/1.5")
    Lease(LocalFile(path), "the run 'demo'").release()


def test_a_holder_on_another_machine_is_waited_for_until_its_time_is_over(path: Path, lease: Lease) -> None:
    elsewhere = {"token": "other", "host": "gpu-3", "process": "another boot/7/1.0"}
    change(path, **elsewhere, renewed=time.time() - 50)
    with pytest.raises(LeaseError, match=r"is being worked on by process \d+ on gpu-3"):
        Lease(LocalFile(path), "the run 'demo'")
    change(path, **elsewhere, renewed=time.time() - 61)
    said: list[str] = []
    Lease(LocalFile(path), "the run 'demo'", say=said.append).release()
    assert said[0].endswith("it has not renewed its lease for 61 s")


def test_of_many_that_take_over_one_has_it(path: Path, lease: Lease) -> None:
    change(path, token="other", process="another boot/7/1.0", renewed=0)
    won: list[Lease] = []
    refused: list[LeaseError] = []

    def contend() -> None:
        try:
            won.append(Lease(LocalFile(path), "the run 'demo'", say=lambda line: None))
        except LeaseError as error:
            refused.append(error)

    threads = [threading.Thread(target=contend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(refused)) == (1, 7)
    won[0].check()
    won[0].release()


def test_a_lease_is_renewed_while_its_holder_lives(path: Path) -> None:
    held = Lease(LocalFile(path), "the run 'demo'", ttl_s=0.4)
    first = json.loads(path.read_text())["renewed"]
    deadline = time.monotonic() + 10
    while json.loads(path.read_text())["renewed"] == first:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    held.release()


def test_a_run_that_lost_its_lease_commits_nothing_and_leaves_the_lease_alone(tmp_path: Path) -> None:
    store = RunStore(tmp_path, "demo")

    def body(work: Path) -> Outcome:
        change(store.path / ".lease.json", token="other", host="gpu-3", pid=12)
        return Outcome(Counts(0, 0))

    with (
        pytest.raises(LeaseError, match="was taken over from this process: it is held by process 12 on gpu-3"),
        store.held(),
    ):
        store.run(STAGE, body)
    assert not (store.path / "data").exists()
    assert json.loads((store.path / ".lease.json").read_text())["token"] == "other"
    assert RunStore(tmp_path, "demo").find(STAGE) is None


def test_a_holder_that_finds_another_in_its_place_says_so_and_stops_at_its_next_progress(path: Path) -> None:
    said: list[str] = []
    held = Lease(LocalFile(path), "the run 'demo'", ttl_s=0.4, say=said.append)
    held.raise_if_lost()
    change(path, token="other", host="gpu-3")
    deadline = time.monotonic() + 10
    while not said:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.raises(LeaseError, match="on gpu-3"):
        held.raise_if_lost()
    held.release()
    assert path.exists()


def test_a_run_is_free_again_when_it_has_ended_however_it_ended(tmp_path: Path) -> None:
    store = RunStore(tmp_path, "demo")
    with pytest.raises(KeyboardInterrupt), store.held():
        raise KeyboardInterrupt
    with RunStore(tmp_path, "demo").held(), RunStore(tmp_path, "other").held():
        pass


def test_a_link_whose_answer_is_lost_is_the_holders_own(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An NFS client asks again, and is told that there is one already."""
    link = os.link

    def lost(source: Path, target: Path) -> None:
        link(source, target)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "link", lost)
    held = Lease(LocalFile(path), "demo")
    with pytest.raises(LeaseError, match="demo is being worked on by process"):
        Lease(LocalFile(path), "demo")
    held.check()
    held.release()
    assert list(path.parent.iterdir()) == []


# ---- a file system without hard links ---------------------------------------------------------------------------------------


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def link(source: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", str(source), None, str(target))

    monkeypatch.setattr(os, "link", link)


def test_a_run_is_held_where_there_are_no_hard_links(tmp_path: Path, no_links: None) -> None:
    one, two = (RunStore(tmp_path, "demo") for _ in range(2))
    with one.held():
        assert one.lease is not None
        one.lease.check()
        with pytest.raises(LeaseError, match="is being worked on by process"), two.held():
            pass
    with two.held():
        pass
    assert not list((tmp_path / "demo").iterdir())


def test_a_lease_without_its_content_is_waited_for(path: Path, lease: Lease) -> None:
    """Without hard links, a file is there a moment before what is written into it."""
    written, said = path.read_text(), list[str]()
    path.write_text("")
    holder = threading.Timer(0.3, path.write_text, [written])
    holder.start()
    with pytest.raises(LeaseError, match=rf"is being worked on by process {os.getpid()} on"):
        Lease(LocalFile(path), "the run 'demo'", say=said.append)
    holder.join()
    lease.check()
    assert said == [], "it was not taken over meanwhile"


def test_who_wrote_a_lease_too_late_does_not_have_it(
    path: Path, no_links: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process has waited for the content, and has taken the empty file for that of a machine that lost power."""

    def late(file: int) -> None:
        LocalFile(path).remove()
        path.write_text("the other's")

    monkeypatch.setattr(os, "fsync", late)
    assert not LocalFile(path).create(b"this one's")
    assert path.read_text() == "the other's"
