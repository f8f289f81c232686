"""``python -m tasks.benchmark``: scores stored games, or compares two judges on the same games; no model is needed."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, get_args

from data.benchmarks.catalog import NAMES
from data.sources.adapters import Format
from data.sources.rows import SourceError
from tasks.benchmark.bootstrap import DRAWS
from tasks.benchmark.compare import compare, comparison_chart, comparison_table
from tasks.benchmark.games import Games, GamesError, read_games
from tasks.benchmark.score import score
from tasks.benchmark.sets import chosen, load_set
from tasks.machine.terminal import printing

BAD_INPUT = 2


@printing
def main() -> int:
    """Prints JSON or a table. Returns 2, with a message, for data or games that cannot be scored."""
    arguments = _parser().parse_args()
    try:
        benchmark = load_set(chosen(vars(arguments)))
        if arguments.command == "score":
            return _score(read_games(benchmark, *arguments.games, partial=arguments.partial), arguments)
        games = [read_games(benchmark, path, partial=arguments.partial) for path in arguments.games]
        compared = compare(games[0], games[1], arguments.partial, arguments.draws)
        if arguments.chart:
            arguments.chart.write_text(comparison_chart(compared, arguments.names), encoding="utf-8")
    except BrokenPipeError:
        raise
    except (SourceError, GamesError, OSError) as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    print(json.dumps(compared, indent=1) if arguments.json else comparison_table(compared, arguments.names))
    return 0


def _score(games: Games, arguments: argparse.Namespace) -> int:
    scored = score(games, arguments.partial, arguments.draws)
    print(json.dumps(scored, indent=1))
    for doubt in scored.get("doubts", ()):
        print(f"warning: {doubt}", file=sys.stderr)
    return 0


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tasks.benchmark", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("score", "all numbers of one judge, as JSON"),
        ("compare", "two judges on the same games: differences with intervals, and McNemar's test"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--benchmark", required=True, choices=NAMES)
        command.add_argument("--data", required=True, help="the authors' file or folder, or hub:OWNER/NAME")
        command.add_argument(
            "--split", help="JudgeBench: gpt (default for a folder) or claude; a preference set on the hub: its split"
        )
        command.add_argument("--subset", help="subset of a preference set on the hub")
        command.add_argument(
            "--format",
            default="records",
            choices=get_args(Format),
            help="row format of a preference set; default: records",
        )
        command.add_argument("--columns", metavar="JSON", help="column map of a preference set, for the format columns")
        command.add_argument(
            "--limit", type=_positive, help="only this many items, drawn as benchmarks.sets.limit draws them"
        )
        command.add_argument("--seed", type=int, default=0, help="seed of that draw; default: 0")
        command.add_argument(
            "--partial", action="store_true", help="score an incomplete set of games, and report how many there are"
        )
        command.add_argument("--draws", type=_positive, default=DRAWS, help=f"bootstrap samples; default: {DRAWS:,}")
        files: dict[str, Any] = {"nargs": "+" if name == "score" else 2}
        command.add_argument(
            "--games",
            required=True,
            type=Path,
            metavar="FILE",
            help="one game per row (.jsonl, .json, .parquet); or a run as JudgeBench's or LLMBar's authors store it",
            **files,
        )
        if name == "compare":
            command.add_argument("--names", nargs=2, default=["first", "second"], help="names of the two judges")
            command.add_argument("--json", action="store_true", help="print JSON instead of a table")
            command.add_argument("--chart", type=Path, metavar="FILE", help="write the differences as an SVG image")
    return parser


if __name__ == "__main__":
    sys.exit(main())
