"""Work on a block that tells which process does it. The module imports little, as each new process imports it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

UNLUCKY, DEADLY = 13, 99
NOTES: list[str] = []
"""What a test writes here is also in a copy of its process, as is a lock that another thread holds."""


def multiplied(factor: int, block: int) -> tuple[int, int, list[str]]:
    """The product, the process that made it, and its notes."""
    if block == UNLUCKY:
        raise ValueError("13 is unlucky")
    if block == DEADLY:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.002 * (block % 3))  # so that a later block can be done before an earlier one
    return factor * block, os.getpid(), NOTES


def in_company(folder: Path, others: int, block: int) -> int:
    """Waits until as many other processes work on a block, and gives its own process's id; `block` if they do not come."""
    (folder / str(os.getpid())).touch()
    deadline = time.monotonic() + 60
    while len(list(folder.iterdir())) <= others:
        if time.monotonic() > deadline:
            return block
        time.sleep(0.01)
    return os.getpid()
