"""``gram-r2 list`` and ``gram-r2 open``: the runs that there are, and the report of one."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from data.paths import PathError, expanded, from_home
from flows.cli.errors import InputError, command
from flows.cli.given import RunName

if TYPE_CHECKING:
    from flows.cli.connection import Server
    from flows.cli.folders import RunFolder

_COLUMNS = ("run", "flow", "state", "rounds", "accuracy", "changed", "folder")
_WIDE = 200


@command
def list_runs(
    store: Annotated[
        Path | None,
        typer.Argument(
            metavar="STORE", show_default=False, help="A folder with runs. Default: all below the current folder."
        ),
    ] = None,
) -> None:
    """List the runs below the current folder, and those that a Prefect server is working on.

    Shows of each run its state, how many rounds it has, its last accuracy on
    held-out pairs, and where it is.

    Examples:
      gram-r2 list
      gram-r2 list /shared/runs
    """
    from rich.console import Console
    from rich.table import Column, Table

    from flows.cli.connection import connected_if_running
    from flows.cli.folders import RunFolder, run_folders

    below = Path(from_home(str(store))) if store else Path()
    if not below.is_dir():
        raise InputError(f"{store} is not a folder: give one that holds runs")
    folders = [RunFolder(path) for path in run_folders(below)]
    with connected_if_running() as server:
        rows = list(rows_of(folders, server, time.time()))
    if not rows:
        print(f"no runs below {below.resolve()}: `gram-r2 run demo` makes one")
        return
    # What does not fit is wrapped: a name that is cut off cannot be given to another command.
    columns = [Column(name, overflow="fold") for name in _COLUMNS]
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE).print(table)


def rows_of(folders: Sequence[RunFolder], server: Server | None, now: float) -> Iterator[tuple[str, ...]]:
    """A row for each run: those with a folder, the latest last, then those that so far only the server knows."""
    unknown = {(_store(run), _name(run)): run for run in (_under_way(server) if server else ())}
    for folder in sorted(folders, key=lambda one: one.changed):
        run = unknown.pop((str(folder.path.parent), folder.name), None) or unknown.pop(("runs", folder.name), None)
        where = folder.path.relative_to(Path.cwd()) if folder.path.is_relative_to(Path.cwd()) else folder.path
        state = run["state"]["name"].lower() if run else folder.state
        rounds = "–" if folder.rounds is None else str(folder.rounds)
        accuracy = "–" if folder.accuracy is None else f"{folder.accuracy:.1%}"
        yield folder.name, folder.flow, state, rounds, accuracy, ago(now - folder.changed), str(where)
    for (store, name), run in unknown.items():
        yield name, "–", run["state"]["name"].lower(), "–", "–", "–", f"{store}/{name}"


def _store(run: Any) -> str:
    """The store of a flow run, as this machine finds it if it can."""
    store = str(run["parameters"].get("store"))
    with contextlib.suppress(PathError):
        store = expanded(store)
    return store


def _name(run: Any) -> str:
    return str(run["parameters"].get("run_name") or run["name"])


def _under_way(server: Server) -> list[Any]:
    """Flow runs that have not ended, except those that do parts of others."""
    from flows.cli.connection import runs_under_way

    return [run for run in runs_under_way(server.ask) if "job" not in run["parameters"]]


def ago(seconds: float) -> str:
    """How long ago something was, in its largest unit."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return "just now"


@command
def open_report(run: RunName) -> None:
    """Open a run's report in the browser. Where there is no display, only its path is printed.

    Examples:
      gram-r2 open demo
      gram-r2 open /shared/runs/llama-3.2-3b
    """
    from flows.cli.folders import find_run

    show_report(find_run(run), webbrowser.open if has_display() else None)


def show_report(folder: RunFolder, browse: Callable[[str], object] | None) -> None:
    """Prints where a run's report is, and opens it with `browse`. Raises InputError if there is none yet."""
    if folder.report is None:
        from flows.config.recipe_text import shown

        see = f"`gram-r2 status {shlex.quote(shown(folder.path))}`"
        if folder.flow == "benchmark":
            raise InputError(
                f"a run of the flow benchmark has no page; its scores: {see}, and scores.json of each stage in it"
            )
        done = f"{len(folder.stages)} stages are done" if folder.stages else "nothing is done yet"
        raise InputError(f"{folder.path} has no report yet: it is written when the run ends ({done}); see {see}")
    print(folder.report)
    if browse is not None:
        browse(folder.report.as_uri())


def has_display() -> bool:
    """Whether a browser could be seen by whoever runs this."""
    if sys.platform in ("darwin", "win32"):
        return "SSH_CONNECTION" not in os.environ
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
