"""``gram-r2 run``: starts a recipe's run, and follows it to its end."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flows.cli.errors import CANCELLED, FAILED, InputError, command
from flows.cli.given import Changes, GivenRun, Recipe, recipe_with

if TYPE_CHECKING:
    from rich.console import Console

    from flows.cli.connection import Say, Server
    from flows.cli.reading import Look

_SHORT = "short"
"""The queue of runs that must not wait behind a run of days."""
_CANCEL_RETRIES = 3


@dataclass(frozen=True)
class Actions:
    """What changes something on the server: registering a recipe, and starting and cancelling a flow run."""

    deploy: Callable[[str, Path, Say], str]
    start: Callable[[str, dict[str, Any], str | None], str]
    cancel: Callable[[str], None]


@command
def run(
    recipe: Recipe,
    changes: Changes = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", show_default=False, help="The run's name. Default: the recipe's."),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Start the run, and do not wait for its end.")] = False,
    on_change: Annotated[
        Literal["auto", "redo", "refuse"] | None,
        typer.Option(
            show_default=False,
            help="If settings or data differ from those that the run was started with: redo what reads them, or refuse to "
            "start. Default: auto, which redoes them until the run has finished, and refuses from then on.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only plan the run: what each stage will cost.")] = False,
) -> None:
    """Run a recipe, and follow it to its end. The same command resumes a run that was stopped.

    Everything is checked before anything is started. Runs on the Prefect server
    at PREFECT_API_URL or, if that is not set, on a server and two workers on
    this machine, which are started for it and stopped after it.

    Ctrl-C asks whether to cancel the run, let it go on alone, or go on
    watching; without a terminal it cancels. Exits with 0 if the run has
    completed, 1 if it has failed, 2 if it cannot be run, 130 if it was
    cancelled here.

    Examples:
      gram-r2 run demo
      gram-r2 run my-run/ --name my-run-16 --set labels.votes=16
      gram-r2 run llama-3.2-3b --detach
    """
    from rich.console import Console

    from flows.cli.connection import connected, named_server
    from flows.cli.follow import signals_as_interrupts
    from flows.config.recipes import deployment_of
    from flows.running.refusal import refusal
    from tasks.run.changes import REDO

    if dry_run:
        refuse_without_plan(recipe)
    given = recipe_with(recipe, changes, run_name=name, on_change=on_change, dry_run=dry_run or None)
    deployment_of(given.flow, given.path)  # refuses a name that cannot be registered
    console = Console(highlight=False)

    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    refuse_what_cannot_run(given, named_server(), say)
    if refused := refusal(given.flow, given.parameters):
        raise InputError(
            refused.replace(REDO, "Pass --on-change redo").replace("use another run_name", "give another --name")
        )
    with signals_as_interrupts(), connected(say) as server:
        if not server.local:
            say(f"on the Prefect server of PREFECT_API_URL, {server.api}")
        code = carry_on(given, server, actions(), console, detach)
    if code:
        raise typer.Exit(code)


def actions() -> Actions:
    """Those of Prefect."""
    from flows.server.deployments import deploy_recipe
    from flows.server.runs import cancel_run, start_run

    return Actions(deploy_recipe, start_run, cancel_run)


def refuse_without_plan(recipe: str) -> None:
    """Raises InputError for a recipe whose runs cannot be planned."""
    from flows.config.parameters import FLOWS
    from flows.config.recipes import find_recipe

    flow, _ = find_recipe(recipe)
    planned = [one for one, kind in FLOWS.items() if "dry_run" in kind.model_fields]
    if flow not in planned:
        raise InputError(f"--dry-run: runs of {flow} cannot be planned; those of {', '.join(planned)} can")


def refuse_what_cannot_run(given: GivenRun, server: str | None, say: Say) -> None:
    """Raises ConfigError for what would stop the run. On another machine, only settings are sure to do so: the rest is said."""
    from flows.cli.connection import is_elsewhere
    from flows.config.checks import check, check_planned, problems
    from flows.config.every_run import PlannedParameters
    from flows.config.recipes import ConfigError

    config = given.config
    if server is not None and is_elsewhere(server):
        found = problems(config)
        wrong = found.pop("settings")
        for line in chain.from_iterable(found.values()):
            say(f"on this machine, this would stop the run: {line}")
        if wrong:
            raise ConfigError("\n".join(wrong))
    elif isinstance(config, PlannedParameters) and config.dry_run:
        check_planned(config)
    else:
        check(config)


def carry_on(given: GivenRun, server: Server, act: Actions, console: Console, detach: bool) -> int:
    """Starts the run, or finds it under way, and follows it to its end; returns the command's exit code."""
    from flows.cli.screen import PlainScreen

    say = PlainScreen(console).say
    run_id = under_way(given, server)
    if run_id is not None:
        say(f"the run {given.config.run_name!r} is under way already: following it")
    else:
        run_id = start(given, act, say)
    server.keep = True  # whatever ends this command, but for what follows
    say(f"{given.deployment}, run {given.config.run_name!r}: {server.ui}/runs/flow-run/{run_id}")
    if detach:
        say(how_to_go_on(given, server))
        return 0
    return to_its_end(given, server, run_id, act, console)


def to_its_end(given: GivenRun, server: Server, run_id: str, act: Actions, console: Console) -> int:
    """Follows the flow run, and says how it ended; returns the exit code."""
    from flows.cli.connection import retrying
    from flows.cli.follow import asker, follow, watch
    from flows.cli.reading import FlowRun
    from flows.cli.screen import LiveScreen, PlainScreen

    live = console.is_terminal and not console.is_dumb_terminal
    screen = LiveScreen(console) if live else PlainScreen(console)
    flow_run = FlowRun(server.ask, run_id)

    def cancel() -> None:
        with retrying(_CANCEL_RETRIES):
            act.cancel(run_id)

    with retrying(0):
        watched = watch(lambda: follow(flow_run, screen, server.lost, server.sleep), cancel, asker(console), screen.say)
    if watched.last is None:
        screen.say("the run is being cancelled" if watched.cancelled else how_to_go_on(given, server))
        server.keep = not watched.cancelled
        return CANCELLED if watched.cancelled else 0
    server.keep = False
    for line in summary(given, watched.last):
        screen.say(line)
    if watched.last.type == "COMPLETED":
        return 0
    return CANCELLED if watched.cancelled else FAILED


def under_way(given: GivenRun, server: Server) -> str | None:
    """The flow run that has this run's name and store and has not ended. Raises InputError if it has other settings."""
    from flows.cli.connection import runs_under_way

    wanted = given.parameters
    for found in runs_under_way(server.ask):
        theirs = found["parameters"] or {}
        if (theirs.get("run_name") or found["name"], theirs.get("store", "runs")) != (
            wanted["run_name"],
            wanted["store"],
        ):
            continue
        if differ := _differences(given, {**theirs, "run_name": wanted["run_name"]}):
            raise InputError(
                f"the run {wanted['run_name']!r} is under way with other settings ({', '.join(differ)}), as {server.ui}/runs/"
                f"flow-run/{found['id']}: wait for its end, cancel it there, or give this one another --name"
            )
        return str(found["id"])
    return None


def _differences(given: GivenRun, theirs: Mapping[str, Any]) -> list[str]:
    """The sections in which a flow run's parameters differ from this run's. How changes are treated makes no difference."""
    from flows.config.parameters import FLOWS
    from flows.config.recipes import ConfigError, with_overrides

    values = {name: value for name, value in theirs.items() if name != "overrides"}
    try:
        settings = with_overrides(values, theirs.get("overrides") or {}, FLOWS[given.flow]).model_dump(mode="json")
    except ConfigError:  # of another flow, or of another version
        return ["all"]
    return [name for name, value in given.parameters.items() if name != "on_change" and settings[name] != value]


def start(given: GivenRun, act: Actions, say: Say) -> str:
    """Starts the flow run; a recipe of the user's is registered first. Returns its id."""
    from flows.config.recipes import own

    deployment = act.deploy(given.flow, given.path, say) if own(given.path) else given.deployment
    return str(act.start(deployment, dict(given.parameters), _SHORT if given.parameters.get("dry_run") else None))


def how_to_go_on(given: GivenRun, server: Server) -> str:
    """What is said of a run that goes on by itself."""
    name = given.config.run_name
    lines = [
        f"the run goes on: `gram-r2 status {name}` shows how far it is, as does {server.ui}. Repeat this command to follow it",
        *(["`gram-r2 down` stops the server and the workers, and the run with them"] if server.local else []),
    ]
    return "\n".join(lines)


def summary(given: GivenRun, last: Look) -> list[str]:
    """The last lines: how the run ended, where its results are, what to do next."""
    from data.paths import PathError
    from tasks.page.rendering import duration
    from tasks.run.changes import REDO

    config = given.config
    store, said = config.store, f": {last.message}" if last.message else ""
    with contextlib.suppress(PathError):  # of a variable that only the machine of the run knows
        store = config.store_here
    folder = f"{store}/{config.run_name}"
    ended = f"{config.run_name}: {last.state} after {duration(last.seconds)}{said}"
    if last.type == "COMPLETED" and given.parameters.get("dry_run"):
        return [ended, f"plan: {folder}/plan.json"]
    if last.type == "COMPLETED":
        return [ended, *_results(folder)]
    if REDO in last.message:
        return [
            ended,
            "nothing was replaced: --on-change redo replaces these stages, another --name makes a run beside this one",
        ]
    again = "what is done is kept; once the cause is removed, the same command goes on from there"
    return [ended, f"{again}. Logs of its stages: {folder}/logs"]


def _results(folder: str) -> Sequence[str]:
    """What a finished run has left in its folder, if that is on this machine."""
    here = Path(folder)
    page = next((page for page in (here / "report.html", here / "comparison.html") if page.is_file()), None)
    there = {"judge": here / "final"} if (here / "final").exists() else {}
    there |= {"report": page} if page else {}
    if not there:
        return [f"results: {folder}"]
    lines = [f"{what + ':':<8} {path}" for what, path in there.items()]
    if "report" in there:
        lines.append(f"next:    gram-r2 open {_typed(here)}")
    if "judge" in there:
        lines.append(f"         gram-r2 rank best-of-n IN.jsonl OUT.jsonl --judge {_typed(there['judge'])}")
    return lines


def _typed(path: Path) -> str:
    """A path as an argument in the shell: relative to the current folder if it is inside."""
    from flows.config.recipe_text import shown

    return shlex.quote(shown(path.resolve()))
