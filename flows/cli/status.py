"""``gram-r2 status``: what runs now, and how far a run is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.errors import InputError, command
from flows.cli.given import run_names

if TYPE_CHECKING:
    from flows.cli.connection import Ask, Server
    from flows.cli.folders import RunFolder


@command
def status(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            autocompletion=run_names,
            show_default=False,
            help="A run's name, its folder, or its recipe's.",
        ),
    ] = None,
) -> None:
    """Show what runs now: the Prefect server, its workers, and the runs under way with their progress.

    Of a RUN, shows every stage that is done, what it is doing, and its
    accuracies: from the server while it runs there, else from its folder.
    Nothing is started.

    Examples:
      gram-r2 status
      gram-r2 status my-run
    """
    from flows.cli.connection import connected_if_running

    with connected_if_running() as server:
        lines = list(about_run(run, server) if run else about_services(server))
    for line in lines:
        print(line)


def about_services(server: Server | None) -> Iterator[str]:
    """The server, the workers that listen to each pool, and the runs under way."""
    from flows.cli.connection import named_server, no_answer, runs_under_way

    if server is None:
        named = named_server()
        yield (
            no_answer(named)
            if named
            else ("no Prefect server runs on this machine: `gram-r2 ui` starts one, and `gram-r2 run` one for its run")
        )
        return
    yield f"Prefect server: {server.ui}" + ("" if server.local else " (PREFECT_API_URL)")
    for pool in server.ask("/work_pools/filter", {}):
        workers = server.ask(f"/work_pools/{pool['name']}/workers/filter", {})
        online = ", ".join(str(worker["name"]) for worker in workers if worker.get("status") == "ONLINE")
        yield f"work pool {pool['name']}: " + (f"workers {online}" if online else "no worker is listening")
    runs = runs_under_way(server.ask)
    for one in runs:
        yield from _in_short(server.ask, one)
    if not runs:
        yield "no run is under way"


def _in_short(ask: Ask, run: Any) -> Iterator[str]:
    from flows.cli.reading import FlowRun
    from flows.cli.screen import accuracies, waiting_for
    from tasks.page.rendering import duration

    look = FlowRun(ask, run["id"], patience=0).look(with_log=False)
    yield f"{look.name}: {waiting_for(look) or look.state.lower()}, {duration(look.seconds)}"
    for stage in look.stages:
        if stage.type == "RUNNING":
            yield f"  {stage.name}: {stage.percent or 0:.0f}%, {stage.doing or 'starting'}"
    if measured := accuracies(look.stages, look.rounds):
        yield "  accuracy: " + ", ".join(f"{who} {what}" for who, what in measured.items())


def about_run(name: str, server: Server | None) -> Iterator[str]:
    """A run's stages, from the server if it is under way there, else from its folder. Raises InputError for an unknown run."""
    from flows.cli.connection import runs_under_way
    from flows.cli.folders import find_run
    from flows.cli.reading import FlowRun

    folder, unknown = None, None
    try:
        folder = find_run(name)
    except InputError as error:
        unknown = error
    folder_name = folder.name if folder else name.rstrip("/").rpartition("/")[2]
    for run in runs_under_way(server.ask) if server else ():
        if folder_name in (run["name"], run["parameters"].get("run_name")):
            assert server is not None
            for stage in FlowRun(server.ask, run["id"]).look(with_log=False).stages:
                if stage.type != "RUNNING":
                    yield f"{stage.name}: {stage.said or stage.state.lower()}"
            yield from _in_short(server.ask, run)
            yield f"{server.ui}/runs/flow-run/{run['id']}"
            return
    if folder is None:
        raise InputError(
            f"{unknown}. No run of that name is under way{' on ' + server.ui if server else ''}"
        ) from unknown
    if not folder.is_run:
        raise InputError(
            f"there is no run in {folder.path}"
            if folder.path.exists()
            else f"the run {folder.name!r} has not been started: {folder.path} is not there yet"
        )
    yield from _of_folder(folder)


def _of_folder(folder: RunFolder) -> Iterator[str]:
    from tasks.page.rendering import duration
    from tasks.run.watch import drawn_in_words

    for stage in folder.stages:
        accuracy = stage.get("accuracy")
        yield (
            f"{stage['name']}: {duration(stage['seconds'])}; {stage['rows_in']:,} in, {stage['kept']:,} kept"
            + (f"; accuracy {accuracy:.1%}{drawn_in_words(stage)}" if accuracy is not None else "")
        )
    if folder.holder:
        yield f"{folder.name}: running, {folder.holder}"
    else:
        yield f"{folder.name}: {folder.state}; {len(folder.stages)} stages are done, in {folder.path}"
    if folder.begun:
        yield f"  {'running' if folder.holder else 'begun'}: {', '.join(folder.begun)}"
    if folder.report:
        yield f"  report: {folder.report}"
