"""``python -m tasks.benchmark``: scores stored games, or compares two judges on the same games; no model is needed."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import get_args

from data.benchmarks import judgebench
from data.benchmarks.catalog import NAMES, load
from data.sources.adapters import Format
from data.sources.rows import SourceError
from tasks.benchmark.bootstrap import DRAWS
from tasks.benchmark.compare import compare, comparison_chart, comparison_table
from tasks.benchmark.games import GamesError, read_games
from tasks.benchmark.score import score
from tasks.machine.terminal import print_anything

BAD_INPUT = 2


def main() -> int:
    """Prints JSON or a table. Returns 2, with a message, for data or games that cannot be scored."""
    print_anything()
    arguments = _parser().parse_args()
    try:
        benchmark = load(arguments.benchmark, arguments.data, arguments.split, arguments.format)
        games = [read_games(benchmark, path, arguments.partial) for path in arguments.games]
        if arguments.command == "score":
            print(json.dumps(score(games[0], arguments.partial, arguments.draws), indent=1))
            return 0
        compared = compare(games[0], games[1], arguments.partial, arguments.draws)
        if arguments.chart:
            arguments.chart.write_text(comparison_chart(compared, arguments.names), encoding="utf-8")
    except (SourceError, GamesError, OSError) as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    print(json.dumps(compared, indent=1) if arguments.json else comparison_table(compared, arguments.names))
    return 0


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tasks.benchmark", description=__doc__)
    formats = [name for name in get_args(Format) if name != "columns"]  # it needs a column map
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("score", "all numbers of one judge, as JSON"),
        ("compare", "two judges on the same games: differences with intervals, and McNemar's test"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--benchmark", required=True, choices=NAMES)
        command.add_argument("--data", required=True, help="the authors' file or folder, or hub:OWNER/NAME")
        command.add_argument("--split", choices=judgebench.SPLITS, help="JudgeBench only; default for a folder: gpt")
        command.add_argument(
            "--format", default="records", choices=formats, help="row format of a preference set; default: records"
        )
        command.add_argument(
            "--partial", action="store_true", help="score an incomplete set of games, and report how many there are"
        )
        command.add_argument("--draws", type=_positive, default=DRAWS, help=f"bootstrap samples; default: {DRAWS:,}")
        n_files = 1 if name == "score" else 2
        command.add_argument(
            "--games",
            required=True,
            type=Path,
            nargs=n_files,
            metavar="FILE",
            help="one game per line (.jsonl, .jsonl.gz)",
        )
        if name == "compare":
            command.add_argument("--names", nargs=2, default=["first", "second"], help="names of the two judges")
            command.add_argument("--json", action="store_true", help="print JSON instead of a table")
            command.add_argument("--chart", type=Path, metavar="FILE", help="write the differences as an SVG image")
    return parser


if __name__ == "__main__":
    sys.exit(main())
