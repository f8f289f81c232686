"""``gram-r2 benchmark``: stored games are scored, or two judges compared on them; no model is needed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, get_args

import typer

from data.benchmarks.catalog import NAMES, BenchmarkName
from data.sources.adapters import Format
from flows.cli.errors import InputError, command

app = typer.Typer(no_args_is_help=True)
DRAWS = 2000

_GAMES = "one game per row (.jsonl, .json, .parquet), or a run as JudgeBench's or LLMBar's authors store it."
Name = Annotated[
    BenchmarkName,
    typer.Option("--benchmark", metavar="NAME", help=f"The benchmark that was played: {', '.join(NAMES)}."),
]
Data = Annotated[str, typer.Option(help="The authors' file or folder, or hub:OWNER/NAME.")]
Split = Annotated[
    str | None,
    typer.Option(help="JudgeBench: gpt (default for a folder) or claude. A preference set on the hub: its split."),
]
Subset = Annotated[str | None, typer.Option(help="Subset of a preference set on the hub.")]
RowFormat = Annotated[
    Format, typer.Option(metavar="FORMAT", help=f"Row format of a preference set: {', '.join(get_args(Format))}.")
]
Columns = Annotated[str | None, typer.Option(metavar="JSON", help="Column map of a preference set.")]
Limit = Annotated[
    int | None, typer.Option(min=1, help="Only this many items, drawn as benchmarks.sets.limit draws them.")
]
Seed = Annotated[int, typer.Option(help="Seed of that draw.")]
Partial = Annotated[bool, typer.Option("--partial", help="Score incomplete games, and report how many there are.")]
Draws = Annotated[int, typer.Option(min=1, help="Bootstrap samples of the intervals.")]


@app.callback()
def benchmark() -> None:
    """Score stored games of a benchmark, or compare two judges on them. No model and no GPU are needed.

    Runs keep the games that they play in games.jsonl of each stage "benchmark";
    those of any other judge can be scored as well. To have a judge play a
    benchmark, run a recipe of the flow benchmark.

    Examples:
      gram-r2 benchmark score games.jsonl --benchmark llmbar --data ~/llmbar
      gram-r2 benchmark score --help
    """


@app.command()
@command
def score(
    games: Annotated[list[Path], typer.Argument(metavar="GAMES", help=f"Files with {_GAMES}")],
    benchmark: Name,
    data: Data,
    split: Split = None,
    subset: Subset = None,
    format: RowFormat = "records",
    columns: Columns = None,
    limit: Limit = None,
    seed: Seed = 0,
    partial: Partial = False,
    draws: Draws = DRAWS,
) -> None:
    """Print all numbers of one judge as JSON: accuracies by category, intervals, and what is missing or doubtful.

    Needs the games and the benchmark's own data. Games that are missing, come
    twice or belong to other data are refused, and named.

    Examples:
      gram-r2 benchmark score games.jsonl --benchmark judgebench \\
        --data ~/data/judgebench
    """
    from tasks.benchmark.games import read_games
    from tasks.benchmark.score import score as scored_games
    from tasks.benchmark.sets import chosen, load_set

    options = {"split": split, "subset": subset, "format": format, "columns": columns, "limit": limit, "seed": seed}
    loaded = load_set(chosen({"benchmark": benchmark, "data": data, **options}))
    scored = scored_games(read_games(loaded, *games, partial=partial), partial, draws)
    print(json.dumps(scored, indent=1))
    for doubt in scored.get("doubts", ()):
        print(f"warning: {doubt}", file=sys.stderr)


@app.command()
@command
def compare(
    first: Annotated[Path, typer.Argument(help=f"The first judge's games: {_GAMES}")],
    second: Annotated[Path, typer.Argument(help="The second judge's, of the same benchmark.")],
    benchmark: Name,
    data: Data,
    split: Split = None,
    subset: Subset = None,
    format: RowFormat = "records",
    columns: Columns = None,
    limit: Limit = None,
    seed: Seed = 0,
    partial: Partial = False,
    draws: Draws = DRAWS,
    names: Annotated[tuple[str, str], typer.Option(help="Names of the two judges.")] = ("first", "second"),
    chart: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the differences to this .svg file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Compare two judges on the same games: differences with intervals, and an exact test.

    Needs both judges' games and the benchmark's own data.

    Examples:
      gram-r2 benchmark compare one.jsonl other.jsonl --benchmark judgebench \\
        --data ~/data/judgebench --names mine theirs --chart difference.svg
    """
    from tasks.benchmark.compare import compare as compared_games
    from tasks.benchmark.compare import comparison_chart, comparison_table
    from tasks.benchmark.games import read_games
    from tasks.benchmark.sets import chosen, load_set

    if chart and chart.suffix.lower() != ".svg":
        raise InputError(f"--chart {chart}: the image is an SVG, so its name must end in .svg")
    options = {"split": split, "subset": subset, "format": format, "columns": columns, "limit": limit, "seed": seed}
    loaded = load_set(chosen({"benchmark": benchmark, "data": data, **options}))
    one, other = (read_games(loaded, path, partial=partial) for path in (first, second))
    compared = compared_games(one, other, partial, draws)
    if chart:
        chart.write_text(comparison_chart(compared, names), encoding="utf-8")
    print(json.dumps(compared, indent=1) if as_json else comparison_table(compared, names))
