"""``gram-r2 init FOLDER``: writes a recipe for one's own data and models, from options and a short dialogue."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.cli.errors import command


@command
def init(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder for the recipe; its name is the run's name.")
    ],
    labeled: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Labeled pairs: a file, folder, glob, known data set or hub:owner/name. May be repeated.",
        ),
    ] = None,
    unlabeled: Annotated[
        str | None, typer.Option(metavar="FILE", help="Unlabeled pairs, which the judge labels itself.")
    ] = None,
    rationale: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Pairs with a label and a rationale. Default: the labeled pairs that have a column of rationales.",
        ),
    ] = None,
    heldout: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Labeled pairs only for measuring. Default: a share of the labeled ones."),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Folder or hub name of the judge's base model; for adapt and benchmark, the judge."
        ),
    ] = None,
    prover: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Base model of the prover. Default: the judge's. For adapt: a trained prover."
        ),
    ] = None,
    gpus: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="GPUs of the machine that will run it. Default: those here.")
    ] = None,
    flow: Annotated[
        Literal["self-train", "gram", "adapt", "benchmark"], typer.Option(help="What the recipe is for.")
    ] = "self-train",
    columns: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=COLUMN",
            help="What a column holds, where it is not guessed: prompt=question, label=winner, label_a=0 (the value that means "
            "that the first response is better), label_b=1. May be repeated; used for each file that has the column.",
        ),
    ] = None,
    format: Annotated[
        str | None, typer.Option(metavar="NAME", help="The files' format, where several can read them.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing recipe.")] = False,
) -> None:
    """Write a recipe for your own data and models.

    Looks at the files, guesses how to read them, shows one row of each as it
    was read, and chooses values that suit the data, the models and the GPUs,
    each with its reason in a comment. What is not given is asked for at a
    terminal. Exits with 2 if a file or model cannot be used, or if it is not
    clear which response a label means.

    Examples:
      gram-r2 init my-run/
      gram-r2 init my-run/ --labeled pairs.jsonl --judge Qwen/Qwen3-4B
      gram-r2 init my-run/ --labeled pairs.csv --gpus 8 --flow gram
    """
    # Imported here, so that help and completion are quick.
    from flows.cli.asking import AtTerminal
    from flows.starting.collect import Options
    from flows.starting.writing import write

    options = Options(
        flow, tuple(labeled or ()), unlabeled, rationale, heldout, judge, prover, gpus, tuple(columns or ()), format
    )
    write(folder, options, AtTerminal(sys.stdin.isatty()), force)
