"""Work in other processes: a function of many items, in order, or of a single one.

They are copies of this one, or new ones that are sent the function.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any, TypeVar

from tasks.machine import child

Item = TypeVar("Item")
Made = TypeVar("Made")
_MOST_PROCESSES = 32
"""The process that reads the items and takes what is made of them keeps up with about so many."""
_FIRST_BLOCKS = 32
"""Blocks that are worked on before other processes are started, which takes each a second: 8,192 rows of 256 in a block."""
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


def over_blocks(function: Callable[[Item], Made], blocks: Iterable[Item]) -> Generator[Made]:
    """``map(function, blocks)``, of which all but the first few are worked on by new processes, one a core.

    As these are no copies, it does not matter what other threads of this one do. `function` is one of a module, or a partial of
    one: it is sent to each of them. Raises ChildError if one is killed.
    """
    left = iter(blocks)
    yield from map(function, islice(left, _FIRST_BLOCKS))
    further = list(islice(left, 1))
    processes = min(len(os.sched_getaffinity(0)), _MOST_PROCESSES)
    if not further or processes == 1:
        yield from map(function, chain(further, left))
        return
    with _pool(processes, function, copies=False) as pool:
        yield from _results(pool, chain(further, left), 2 * processes)


def in_another_process(function: Callable[[Item], Made], item: Item) -> Made:
    """The result of the function, of which nothing else stays in this process: no library that it imports, no device."""
    with _pool(1, function) as pool:
        made: Made = next(_results(pool, [item], 1))
        return made


@contextmanager
def _pool(processes: int, function: Callable[[Any], Any], copies: bool = True) -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("fork" if copies else "spawn")
    pool = ProcessPoolExecutor(processes, context, _begin, (os.getpid(), function, copies))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _results(pool: ProcessPoolExecutor, items: Iterable[Item], ahead: int) -> Iterator[Any]:
    """The results in order; no more items are read than `ahead` of the one whose result is waited for.

    An error of reading an item is raised after the results of the items before it, as without a pool.
    """
    waiting: deque[Future[Any]] = deque()
    left, failure = iter(items), None
    try:
        while True:
            try:
                for item in islice(left, ahead + 1 - len(waiting)):
                    waiting.append(pool.submit(_call, item))
            except BrokenProcessPool:
                raise
            except Exception as error:
                left, failure = iter(()), error
            if not waiting:
                break
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise child.ChildError("a process of a pool was killed (out of memory?)") from error
    if failure is not None:
        raise failure


def _begin(parent: int, function: Callable[[Any], Any], is_copy: bool) -> None:
    os.environ[child.PARENT] = str(parent)
    child.die_with_parent()
    if not is_copy:  # a user who interrupts all of them is answered by the parent; a block is done in a moment
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    _inherited[:] = [function]


def _call(item: Any) -> Any:
    return _inherited[0](item)
