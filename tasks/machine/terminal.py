"""What a command prints."""

from __future__ import annotations

import functools
import io
import os
import sys
from collections.abc import Callable
from typing import ParamSpec

_Given = ParamSpec("_Given")


def print_anything() -> None:
    """Lets stdout replace what its encoding cannot express, instead of raising UnicodeEncodeError.

    Texts of the data can hold anything, and a terminal, a pipe or a log of another encoding can be behind stdout.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def printing(main: Callable[_Given, int]) -> Callable[_Given, int]:
    """`main`, with an output that may be of any encoding, and that its reader may close before the end, as `head` does."""

    @functools.wraps(main)
    def command(*given: _Given.args, **named: _Given.kwargs) -> int:
        print_anything()
        try:
            code = main(*given, **named)
            sys.stdout.flush()
            return code
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0

    return command
