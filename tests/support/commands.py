"""The command line in this process: what a command prints, and its exit code."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from typer.main import get_command
from typer.testing import CliRunner

from flows.cli.app import app

COMMAND = [sys.executable, "-c", "from flows.cli.app import main; main()"]
"""What starts the command as a process; its arguments follow."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


def gram_r2(*arguments: str, env: dict[str, str] | None = None, charset: str = "utf-8") -> Ended:
    """Runs a command, whose output has this encoding; an exception that is no exit is raised, as a user would see it."""
    done = CliRunner(charset=charset).invoke(app, list(arguments), env=env, prog_name="gram-r2")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Ended(done.exit_code, done.stdout, done.stderr)


def words_of_commands(found: Any = None, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of each command and each group of commands; first none, which stand for the whole."""
    found = found or get_command(app)
    yield words
    for name, one in getattr(found, "commands", {}).items():
        yield from words_of_commands(one, (*words, name))
