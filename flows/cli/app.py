"""``gram-r2``: all of its sub-commands, put together. Each is a function in a module of its own concern.

No module here imports torch, vLLM, transformers or Prefect before its command runs, so that help and completion are quick.
"""

from __future__ import annotations

import typer

from flows.cli import check, run

_START = "Start here"

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


app.command("check", rich_help_panel=_START)(check.check)
app.command("run", rich_help_panel=_START)(run.run)


def main() -> None:
    """The console script."""
    app(prog_name="gram-r2")


if __name__ == "__main__":
    main()
