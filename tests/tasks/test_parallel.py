"""A function of many items by a pool of processes: order, memory, errors, kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tasks.machine.child import ChildError
from tasks.machine.parallel import in_another_process, in_order, over_blocks
from tests.conftest import ROOT
from tests.support.blocks import in_company, multiplied
from tests.tasks.test_child import is_alive, within

CORES = len(os.sched_getaffinity(0))
several = pytest.mark.skipif(CORES < 2, reason="with one core, the items are worked on in the process itself")


def squared(i: int) -> tuple[int, int]:
    if i == 13:
        raise ValueError("13 is unlucky")
    return i * i, os.getpid()


def killed(i: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return i


@pytest.mark.parametrize("most", [1, 2])
def test_the_results_come_in_the_order_of_the_items(most: int) -> None:
    with in_order(squared, iter([5, 3, 4, 1]), most) as made:
        results = list(made)
    assert [result for result, _ in results] == [25, 9, 16, 1]
    assert ({pid for _, pid in results} == {os.getpid()}) is (most == 1 or CORES == 1)


@pytest.mark.parametrize("most", [1, 2])
def test_only_a_few_items_are_read_ahead(most: int) -> None:
    read = []

    def items() -> Iterator[int]:
        for i in range(14, 1000):
            read.append(i)
            yield i

    with in_order(squared, items(), most) as made:
        assert next(made)[0] == 14 * 14
        assert len(read) <= 5


@pytest.mark.parametrize("most", [1, 2])
def test_what_the_function_raises_is_raised(most: int) -> None:
    with in_order(squared, range(10, 20), most) as made:
        assert [next(made)[0] for _ in range(3)] == [100, 121, 144]
        with pytest.raises(ValueError, match="13 is unlucky"):
            next(made)


@pytest.mark.parametrize("most", [1, 2])
def test_an_error_of_reading_comes_after_the_results_before_it(most: int) -> None:
    def items() -> Iterator[int]:
        yield from (1, 2)
        raise OSError("the disk is gone")

    with in_order(squared, items(), most) as made:
        assert [next(made)[0] for _ in range(2)] == [1, 4]
        with pytest.raises(OSError, match="the disk is gone"):
            next(made)


@several
def test_a_process_that_is_killed_is_told() -> None:
    with in_order(killed, range(4), 2) as made, pytest.raises(ChildError, match="was killed"):
        next(made)


def test_a_function_in_another_process() -> None:
    result, pid = in_another_process(squared, 7)
    assert (result, pid != os.getpid()) == (49, True)
    with pytest.raises(ValueError, match="13 is unlucky"):
        in_another_process(squared, 13)


WAITING = """
import os, time
from tasks.machine.parallel import in_order

def wait(i):
    os.write(1, f"{os.getpid()}\\n".encode())  # at once, as both write
    time.sleep(60)

with in_order(wait, range(4), 2) as made:
    list(made)
"""


@several
def test_the_processes_do_not_outlive_the_one_that_started_them() -> None:
    command = [sys.executable, "-c", WAITING]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(parent.stdout.readline()) for _ in range(2)]
        assert parent.pid not in pids
        parent.kill()
        parent.wait()
        assert within(10, lambda: not any(map(is_alive, pids)))


# ---- blocks, by processes that are no copies -----------------------------------------------------------------------------


def test_a_few_blocks_are_worked_on_here_each_as_it_is_asked_for() -> None:
    read = []

    def blocks() -> Iterator[int]:
        for i in range(20, 52):
            read.append(i)
            yield i

    for n, made in enumerate(over_blocks(partial(multiplied, 10), blocks())):
        assert made[:2] == (10 * (20 + n), os.getpid())
        assert len(read) == n + 1
    assert len(read) == 32


@pytest.fixture
def two_first_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.machine.parallel._FIRST_BLOCKS", 2)


@several
@pytest.mark.usefixtures("two_first_blocks")
def test_many_blocks_are_worked_on_in_order_by_processes_that_are_no_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.blocks.NOTES", ["written here"])
    read = []

    def blocks() -> Iterator[int]:
        for i in range(20, 80):
            read.append(i)
            yield i

    pids = []
    for n, (result, pid, notes) in enumerate(over_blocks(partial(multiplied, 10), blocks())):
        assert result == 10 * (20 + n)
        assert notes == (["written here"] if pid == os.getpid() else [])
        assert len(read) <= n + 2 * CORES + 2
        pids.append(pid)
    assert pids[:2] == [os.getpid()] * 2
    others = set(pids[2:])
    assert len(pids) == 60
    assert os.getpid() not in others
    assert not any(map(is_alive, others))


@several
def test_several_processes_work_at_the_same_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """However late the second one starts: the first waits for it in its own block."""
    monkeypatch.setattr("tasks.machine.parallel._FIRST_BLOCKS", 0)
    pids = set(over_blocks(partial(in_company, tmp_path, 1), [-1] * 4))
    assert len(pids) > 1
    assert -1 not in pids


@pytest.mark.usefixtures("two_first_blocks")
def test_the_first_error_is_raised_after_the_results_before_it() -> None:
    def blocks(n: int) -> Iterator[int]:
        yield from range(n)
        raise OSError("the disk is gone")

    for n, message in ((30, "13 is unlucky"), (9, "the disk is gone")):
        results = []
        with pytest.raises((ValueError, OSError), match=message):
            results.extend(result for result, _, _ in over_blocks(partial(multiplied, 10), blocks(n)))
        assert results == [10 * i for i in range(min(n, 13))]


@several
@pytest.mark.usefixtures("two_first_blocks")
def test_a_new_process_that_is_killed_is_told() -> None:
    with pytest.raises(ChildError, match="was killed"):
        list(over_blocks(partial(multiplied, 10), [1, 2, 99, *range(12)]))
