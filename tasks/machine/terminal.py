"""What a command prints."""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from collections.abc import Iterator


def print_anything() -> None:
    """Lets stdout replace what its encoding cannot express, instead of raising UnicodeEncodeError.

    Texts of the data can hold anything, and a terminal, a pipe or a log of another encoding can be behind stdout.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """For an output that may be of any encoding, and that its reader may close before the end, as `head` does.

    What the reader does not want is then not made: the block ends there, without an error. A BrokenPipeError of any other
    pipe is raised.
    """
    print_anything()
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        output = sys.stdout.fileno()
        pipe = select.poll()
        pipe.register(output, 0)
        if not pipe.poll(0):  # it has a reader
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
