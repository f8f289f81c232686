"""The command line in this process: what a command prints, and its exit code."""

from __future__ import annotations

from dataclasses import dataclass

from typer.testing import CliRunner

from flows.cli.app import app


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


def gram_r2(*arguments: str, env: dict[str, str] | None = None) -> Ended:
    """Runs a command; an exception that is no exit is raised, as a user would see its traceback."""
    done = CliRunner().invoke(app, list(arguments), env=env, prog_name="gram-r2")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Ended(done.exit_code, done.stdout, done.stderr)
