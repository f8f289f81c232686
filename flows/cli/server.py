"""``gram-r2 ui``, ``up``, ``down``, ``deploy``, ``undeploy`` and ``recipes``: a Prefect server, and what is registered on it."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.errors import BAD_INPUT, InputError, ServerError, command
from flows.cli.given import built_in_recipes, recipe_names

if TYPE_CHECKING:
    from flows.cli.connection import Say, Server


def _say(line: str) -> None:
    print(line, flush=True)


@command
def ui() -> None:
    """Look at runs in Prefect's UI: starts a server and two workers on this machine until Ctrl-C, or finds those running.

    With PREFECT_API_URL set, only says where the UI of that server is.

    Examples:
      gram-r2 ui
    """
    from flows.cli.connection import connected
    from flows.cli.follow import signals_as_interrupts

    with signals_as_interrupts(), connected(_say) as server:
        _say(f"the UI is at {server.ui}")
        if not server.started:
            _say(
                "it was running already; `gram-r2 down` stops it"
                if server.local
                else "it is the server of PREFECT_API_URL"
            )
            return
        _say("start a run there, or in another terminal: gram-r2 run demo. Ctrl-C stops the server and the workers")
        with contextlib.suppress(KeyboardInterrupt):
            while (lost := server.lost()) is None:
                time.sleep(1.0)
            _say(lost)


@command
def up() -> None:
    """Prepare a Prefect server: creates work pools, automations and a deployment of every recipe.

    On the server at PREFECT_API_URL or, if that is not set, on this machine's.
    Can be repeated: says what was there, what was created and what was updated.
    Exits with 2 if a recipe was left out, as it cannot be run.

    Examples:
      PREFECT_API_URL=http://gpu-1:4200/api gram-r2 up
    """
    from flows.cli.connection import connected
    from flows.server.up import LEFT_OUT, bring_up

    left_out = False

    def say(line: str) -> None:
        nonlocal left_out
        left_out = left_out or line.startswith(LEFT_OUT)
        _say(line)

    with connected(say, with_created=True) as server:
        server.keep = True
        try:
            for problem in [] if server.started else bring_up(say):
                say(f"{LEFT_OUT}{problem}")
        except RuntimeError as error:  # Prefect's own words
            raise ServerError(str(error)) from error
        say_that_it_goes_on(server, _say)
    if left_out:
        raise typer.Exit(BAD_INPUT)


def say_that_it_goes_on(server: Server, say: Say) -> None:
    """Says of a server that this command has started, and that outlives it, how it is used and stopped."""
    if server.started:
        say(f"the Prefect server and workers on this machine go on: {server.ui}; `gram-r2 down` stops them")
        say(f"for `prefect` commands: export PREFECT_API_URL={server.api}")


@command
def down() -> None:
    """Stop the Prefect server and the workers on this machine, and the runs that they are working on.

    What a run has done is kept: `gram-r2 run` goes on from there.

    Examples:
      gram-r2 down
    """
    from flows.cli.connection import connected_if_running, named_server, runs_under_way
    from flows.server.local import home_folder, stop_services

    if named_server() is None:
        with connected_if_running() as server:
            for run in runs_under_way(server.ask) if server else ():
                _say(f"{run['name']} is {run['state']['name'].lower()}: it stops, and can be resumed")
    stopped = stop_services(home_folder())
    _say("the Prefect server and workers have been stopped" if stopped else "no Prefect server runs on this machine")


@command
def deploy(
    recipes: Annotated[
        list[str],
        typer.Argument(
            metavar="RECIPE...", autocompletion=recipe_names, show_default=False, help="Recipes, as for `gram-r2 run`."
        ),
    ],
) -> None:
    """Register recipes on the Prefect server, so that runs can be started in its UI, by a schedule, or from other machines.

    Each becomes the deployment FLOW/NAME of its file's name. `gram-r2 run` does
    this for a recipe of yours by itself.

    Examples:
      gram-r2 deploy my-run/
      prefect deployment run self-train/my-run
    """
    from flows.cli.connection import connected
    from flows.config.recipes import find_recipe
    from flows.server.deployments import deploy_recipe

    found = [find_recipe(recipe) for recipe in recipes]
    with connected(_say) as server:
        for flow, path in found:
            _say(f"{deploy_recipe(flow, path, _say)}: registered at {server.ui}")
        server.keep = True
        say_that_it_goes_on(server, _say)


@command
def undeploy(
    deployments: Annotated[
        list[str],
        typer.Argument(metavar="FLOW/NAME...", show_default=False, help="Deployments, such as self-train/my-run."),
    ],
) -> None:
    """Remove the deployments of recipes from the Prefect server. Its runs, and their folders, stay.

    Examples:
      gram-r2 undeploy self-train/my-run
    """
    from flows.cli.connection import connected_if_running, named_server, no_answer
    from flows.server.deployments import undeploy as remove

    with connected_if_running() as server:
        if server is None:
            url = named_server()
            raise InputError(
                no_answer(url)
                if url
                else "no Prefect server runs on this machine: set PREFECT_API_URL, or start one with `gram-r2 ui`"
            )
        for name in deployments:
            remove(name)
            _say(f"{name}: removed")


@command
def recipes() -> None:
    """List the built-in recipes, with what each is for. Copy one, or have `gram-r2 init` write yours.

    Examples:
      gram-r2 recipes
    """
    from flows.config.recipes import find_recipe

    names = built_in_recipes()
    width = max(map(len, names))
    for name in names:
        _, path = find_recipe(name)
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        _say(f"{name:<{width}}  {first.lstrip('# ')}")
