"""Work in other processes that are copies of this one: a function of many items, in order, or of a single one."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from tasks.machine import child

Item = TypeVar("Item")
Made = TypeVar("Made")
_MOST_PROCESSES = 32
"""The process that reads the items and takes what is made of them keeps up with about so many."""
_inherited: list[Callable[[Any], Any]] = []
"""In a process of a pool: the function."""


@contextmanager
def in_order(function: Callable[[Item], Made], items: Iterable[Item], most: int) -> Iterator[Iterator[Made]]:
    """The results for the items, in their order, made by as many processes as there are cores, but not more than `most`.

    The processes are copies of this one: what the function holds, such as a tokenizer, is not loaded again. So no other
    thread of this process may be at work, and it must not have used CUDA. A single process is this one itself. An
    exception of the function is raised here; a process that is killed raises ChildError.
    """
    processes = min(len(os.sched_getaffinity(0)), _MOST_PROCESSES, most)
    if processes <= 1:
        yield map(function, items)
        return
    with _pool(processes, function) as pool:
        yield _results(pool, items, 2 * processes)


def in_another_process(function: Callable[[Item], Made], item: Item) -> Made:
    """The result of the function, of which nothing else stays in this process: no library that it imports, no device."""
    with _pool(1, function) as pool:
        made: Made = next(_results(pool, [item], 1))
        return made


@contextmanager
def _pool(processes: int, function: Callable[[Any], Any]) -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(processes, context, _begin, (os.getpid(), function))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _results(pool: ProcessPoolExecutor, items: Iterable[Item], ahead: int) -> Iterator[Any]:
    """The results in order; no more items are read than `ahead` of the one whose result is waited for."""
    waiting: deque[Future[Any]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(_call, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise child.ChildError("a process of a pool was killed (out of memory?)") from error


def _begin(parent: int, function: Callable[[Any], Any]) -> None:
    os.environ[child.PARENT] = str(parent)
    child.die_with_parent()
    _inherited[:] = [function]


def _call(item: Any) -> Any:
    return _inherited[0](item)
