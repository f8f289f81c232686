"""What a command prints."""

from __future__ import annotations

import io
import sys


def print_anything() -> None:
    """Lets stdout replace what its encoding cannot express, instead of raising UnicodeEncodeError.

    Texts of the data can hold anything, and a terminal, a pipe or a log of another encoding can be behind stdout.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
