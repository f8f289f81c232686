"""A function of many items by a pool of processes: order, memory, errors, kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tasks.machine.child import ChildError
from tasks.machine.parallel import in_another_process, in_order
from tests.conftest import ROOT
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
