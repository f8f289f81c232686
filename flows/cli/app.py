"""``gram-r2``: all of its sub-commands, put together. Each is a function in a module of its own concern.

No module here imports torch, vLLM, transformers or Prefect before its command runs, so that help and completion are quick.
"""

from __future__ import annotations

import os

import typer

from flows.cli import (
    benchmark,
    check,
    describe,
    init,
    listing,
    plan,
    push,
    rank,
    review,
    run,
    serve,
    server,
    status,
    tracing,
    world,
)
from tasks.machine.terminal import print_anything

_START, _RUNS, _MODELS, _SERVER = "Start here", "Runs", "Models and data", "Server"

app = typer.Typer(
    name="gram-r2",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def gram_r2() -> None:
    """Self-training of generative reward models that reason: GRAM-R² and GRAM, as resumable runs.

    Try it: `gram-r2 run demo`. With your own data: `gram-r2 init my-run/`,
    `gram-r2 check my-run/`, `gram-r2 run my-run/`.
    """


app.command("init", rich_help_panel=_START)(init.init)
app.command("recipes", rich_help_panel=_START)(server.recipes)
app.command("check", rich_help_panel=_START)(check.check)
app.command("plan", rich_help_panel=_START)(plan.plan)
app.command("run", rich_help_panel=_START)(run.run)

app.command("status", rich_help_panel=_RUNS)(status.status)
app.command("list", rich_help_panel=_RUNS)(listing.list_runs)
app.command("open", rich_help_panel=_RUNS)(listing.open_report)
app.add_typer(review.app, name="review", rich_help_panel=_RUNS)
app.command("trace", rich_help_panel=_RUNS)(tracing.trace)
app.command("push", rich_help_panel=_RUNS)(push.push)

app.command("describe", rich_help_panel=_MODELS)(describe.describe)
app.command("rank", rich_help_panel=_MODELS)(rank.rank)
app.command("serve", rich_help_panel=_MODELS)(serve.serve)
app.add_typer(benchmark.app, name="benchmark", rich_help_panel=_MODELS)
app.command("world", rich_help_panel=_MODELS)(world.world)

app.command("ui", rich_help_panel=_SERVER)(server.ui)
app.command("up", rich_help_panel=_SERVER)(server.up)
app.command("down", rich_help_panel=_SERVER)(server.down)
app.command("deploy", rich_help_panel=_SERVER)(server.deploy)
app.command("undeploy", rich_help_panel=_SERVER)(server.undeploy)


def main() -> None:
    """The console script."""
    print_anything()
    os.environ.setdefault("DO_NOT_TRACK", "1")  # Prefect's client sends usage data otherwise
    app(prog_name="gram-r2")


if __name__ == "__main__":
    main()
