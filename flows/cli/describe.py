"""``gram-r2 describe``: what is in a data set, before a run reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, get_args

import typer
from pydantic import ValidationError

from data.benchmarks.catalog import NAMES, BenchmarkName
from data.sources.adapters import Format
from data.sources.catalog import DATASETS
from data.sources.source import Source
from flows.cli.errors import BAD_INPUT, InputError, command
from prompts.catalog import JUDGE_PROMPTS, JudgePromptName
from tasks.settings.wording import in_one_line


def _known_sets() -> list[tuple[str, str]]:
    return [(name, known.title) for name, known in DATASETS.items()]


@command
def describe(
    data: Annotated[
        str,
        typer.Argument(
            metavar="NAME|PATH",
            autocompletion=_known_sets,
            help=f"A file, folder, glob or hub:OWNER/NAME, or a known data set: {', '.join(DATASETS)}.",
        ),
    ],
    format: Annotated[
        Format | None,
        typer.Option(
            metavar="FORMAT",
            help=f"Format of the rows: {', '.join(get_args(Format))}. Default: detected from the first rows.",
        ),
    ] = None,
    columns: Annotated[str | None, typer.Option(metavar="JSON", help="A column map, as in a recipe.")] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Maximum number of rows to read. Default: all, or 10,000 of a hub data set."),
    ] = None,
    subset: Annotated[str | None, typer.Option(help="Subset of a hub data set.")] = None,
    split: Annotated[
        str | None, typer.Option(help="Split of a hub data set; with --benchmark judgebench: gpt or claude.")
    ] = None,
    prompt: Annotated[
        JudgePromptName,
        typer.Option(metavar="NAME", help=f"Prompt in which pairs are shown: {', '.join(JUDGE_PROMPTS)}."),
    ] = "gram-r2",
    tokenizer: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Also count tokens, with this model's tokenizer.")
    ] = None,
    benchmark: Annotated[
        BenchmarkName | None,
        typer.Option(metavar="NAME", help=f"Describe the items of a benchmark: {', '.join(NAMES)}."),
    ] = None,
) -> None:
    """Describe a data set: columns, labels, lengths, duplicates, and what a run would drop and why.

    Shows the first pairs as the judge sees them. Where the format cannot be
    detected, says what each format lacks, and how a column map is given.
    Needs the data, or for a hub data set the network. Exits with 2 if a run
    could not use the data.

    Examples:
      gram-r2 describe helpsteer3
      gram-r2 describe rows.jsonl
      gram-r2 describe rows.jsonl --columns '{"prompt": "q", "response_a": "x",
        "response_b": "y", "label": "z", "label_a": [1], "label_b": [2]}'
      gram-r2 describe ~/data/rm-bench --benchmark rm-bench
    """
    from tasks.describe.show import show, show_benchmark
    from tasks.describe.text import about

    given = {"format": format, "columns": columns, "limit": limit, "subset": subset, "split": split}
    if benchmark is not None:
        from tasks.benchmark.sets import chosen  # which loads what runs need

        show_benchmark(chosen({**given, "benchmark": benchmark, "data": data}))
        return
    known = next((known for name, known in DATASETS.items() if name == data), None)
    if known is not None:
        print("\n".join(about(data, known)))
    source = _source(data, known is not None, given)
    detect = known is None and format is None and columns is None
    try:
        usable = show(source, JUDGE_PROMPTS[prompt], tokenizer, detect)
    except BrokenPipeError:
        raise
    except OSError as error:
        if known is None:
            raise
        local = f"To describe a local copy, pass its path and --format {known.format}"
        raise InputError(f"{error}. {local}") from error
    if not usable:
        raise typer.Exit(BAD_INPUT)


def _source(data: str, known: bool, given: Mapping[str, object]) -> Source:
    """The source of these options. Raises InputError if they cannot be used."""
    values = {"dataset" if known else "path": data, **given}
    if given["columns"] is not None:
        values |= {"columns": _json(str(given["columns"])), "format": "columns"}
    try:
        return Source.model_validate({name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        raise InputError(in_one_line(Source, error)) from error


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(f"--columns: is not JSON ({error})") from error
