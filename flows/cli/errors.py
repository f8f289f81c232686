"""How every sub-command ends on bad input: one line on stderr that says what is wrong, and exit code 2."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec

import typer

from tasks.machine.terminal import printing

_Given = ParamSpec("_Given")
FAILED, BAD_INPUT, CANCELLED = 1, 2, 130


class InputError(ValueError):
    """What a command was given cannot be used: why, and what to do."""


class ServerError(RuntimeError):
    """A server, or a service of this machine, that cannot be used now: which, why, and what to do."""


def bad_input() -> tuple[type[Exception], ...]:
    """The errors whose message is all that a user needs; any other is a bug, or a failure, and keeps its traceback."""
    from data.files import StoreError
    from data.paths import PathError
    from data.sources.rows import SourceError
    from flows.config.recipes import ConfigError
    from tasks.benchmark.games import GamesError
    from tasks.model.chat import ChatTemplateError
    from tasks.model.folder import ModelError
    from tasks.plan.assumptions import PlanError
    from tasks.trust.review_files import ReviewError

    known = (InputError, ConfigError, SourceError, PlanError, ModelError, ChatTemplateError, GamesError, ReviewError)
    return *known, PathError, StoreError, OSError


def _no_answer() -> type[Exception]:
    import httpx

    return httpx.HTTPError


def command(function: Callable[_Given, None]) -> Callable[_Given, None]:
    """The function as a sub-command: it prints to any output, and bad input ends it with one line and exit code 2.

    A server that cannot be used ends it with one line and exit code 1.
    """

    @functools.wraps(function)
    def run(*given: _Given.args, **named: _Given.kwargs) -> None:
        try:
            with printing():
                function(*given, **named)
        except ServerError as error:
            print(error, file=sys.stderr)
            raise typer.Exit(FAILED) from error
        except _no_answer() as error:
            print(f"the server: {error}".partition("\n")[0], file=sys.stderr)  # then httpx says where to read about it
            raise typer.Exit(FAILED) from error
        except bad_input() as error:
            print(error, file=sys.stderr)
            raise typer.Exit(BAD_INPUT) from error

    return run
