"""``python -m tasks.describe NAME|PATH``: what is in a data set, before a run reads it.

Columns, rows, labels, lengths, what a run would drop and why, duplicates, and the first pairs as the judge sees them.
NAME is a known data set; PATH is a file, a folder, a glob or hub:owner/name.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from data.benchmarks import catalog
from data.sources.catalog import DATASETS, DatasetName
from data.sources.fields import Row
from data.sources.rows import SourceError
from data.sources.sources import Format, Source, read_rows
from data.sources.unread import COLUMN_ROWS
from prompts.catalog import JUDGE_PROMPTS
from tasks.describe import guess
from tasks.describe.columns import Columns
from tasks.describe.layout import heading, named, paragraph
from tasks.describe.survey import Tokens, survey
from tasks.describe.text import about, benchmark_summary, columns_of, files_of, stops, summary
from tasks.machine.terminal import printing
from tasks.model.chat import load_tokenizer
from tasks.model.folder import ModelError
from tasks.model.location import model_folder
from tasks.settings.wording import in_one_line

BAD_INPUT = 2
HUB_ROWS = 10_000
"""Rows read from a hub data set by default: some have tens of gigabytes."""
_MAP = """\
  --columns '{"prompt": "question", "response_a": "first", "response_b": "second",
              "label": "winner", "label_a": [1], "label_b": [2]}'"""


@printing
def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the description. Returns 2, with a message, if the data cannot be read or used, or needs more options."""
    options = _parser().parse_args(arguments)
    try:
        return _describe(options) if options.benchmark is None else _describe_benchmark(options)
    except BrokenPipeError:
        raise
    except ValidationError as error:
        print(in_one_line(Source, error), file=sys.stderr)
    except (SourceError, ModelError) as error:
        print(error, file=sys.stderr)
    except OSError as error:
        local = (
            f". To describe a local copy, pass its path and --format {DATASETS[options.data].format}"
            if options.data in DATASETS
            else ""
        )
        print(f"{error}{local}", file=sys.stderr)
    return BAD_INPUT


def _describe(options: argparse.Namespace) -> int:
    name = options.data if options.data in DATASETS else None
    if name is not None:
        print("\n".join(about(name, DATASETS[name])))
    source = _source(options, name)
    if name is None and options.format is None and options.columns is None:
        decided = _decide(source)
        if decided is None:
            return BAD_INPUT
        source = decided
    print("\n".join([heading(f"{source.path}, format {source.format}"), *files_of(source)]))
    if source.limit is not None:
        text = "" if options.limit else " (default for hub data sets; see --limit)"
        print(f"  at most {source.limit:,} rows are read{text}")
    prompt = JUDGE_PROMPTS[options.prompt]
    found = survey(source, prompt, _counter(options.tokenizer))
    stopping = stops(found)
    print("\n".join([*stopping, *summary(found, source, prompt)]))
    return BAD_INPUT if stopping else 0


def _source(options: argparse.Namespace, name: DatasetName | None) -> Source:
    given = {"limit": options.limit, "subset": options.subset, "split": options.split, "format": options.format}
    if name is not None:
        given["dataset"] = name
    else:
        given["path"] = options.data
    if options.columns is not None:
        given |= {"columns": _json(options.columns), "format": "columns"}
    source = Source.model_validate({key: value for key, value in given.items() if value is not None})
    if source.hub_name is not None and source.limit is None:
        source = source.model_copy(update={"limit": HUB_ROWS})
    return source


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise SourceError(f"--columns: is not JSON ({error})") from error


def _decide(source: Source) -> Source | None:
    """The source with the only format that reads its first rows; None, after printing why, if none or several do."""
    try:
        rows, tried = guess.try_formats(source)
    except SourceError as error:
        raise SourceError(f"{error}{_meant(source.path)}") from error
    can = [each for each in tried if guess.can_read(each, rows)]
    if len(can) == 1:
        some = "" if can[0].readable == rows else f"{can[0].readable} of "
        print(f"Format detected: only {can[0].format} reads {some}the first {rows} rows.")
        return source.model_copy(update={"format": can[0].format})
    columns = Columns()
    for raw in read_rows(source.model_copy(update={"limit": COLUMN_ROWS})):
        columns.add(raw.value)
    print("\n".join([heading(source.path), *files_of(source), *columns_of(columns)]))
    if can:
        formats = ", ".join(each.format for each in can)
        print(heading(f"Several formats read the first {rows} rows: {formats}"))
        print(paragraph("Choose one with --format."))
        return None
    print(heading(f"No known format reads the first {rows} rows"))
    problems = {each.problem for each in tried}
    if len(problems) == 1:  # of a row that is not even an object
        print(paragraph(f"{problems.pop()}.", "  "))
        return None
    for each in tried:
        print(named(each.format, each.problem.split(": the row has the columns")[0], 26))
    print(_what_else(source))
    return None


def _what_else(source: Source) -> str:
    """Suggestions for rows that no format reads."""
    loaded = [] if source.hub_name is not None else guess.benchmarks_in(source.path)
    lines = [""]
    if loaded:
        lines.append(paragraph(f"This is benchmark data: describe it with --benchmark {' or '.join(loaded)}."))
    lines.append(
        paragraph("If each row holds two responses, pass a column map with --columns, as in a recipe; for example:")
    )
    lines.append(_MAP)
    lines.append(paragraph("Rows with a single response, or with several in a list, must be converted to pairs first."))
    return "\n".join(lines)


def _meant(path: str) -> str:
    """Suggestions for a name that is neither a data set nor a file."""
    if "/" in path or "." in path.replace("v0.2", "") or Path(path).exists():
        return ""
    close = difflib.get_close_matches(path, DATASETS, n=3)
    return f". Did you mean {' or '.join(close)}?" if close else f". The known data sets are {', '.join(DATASETS)}"


def _counter(tokenizer: str | None) -> Tokens | None:
    if tokenizer is None:
        return None
    loaded = load_tokenizer(model_folder(tokenizer, weights=False))
    return lambda texts: [len(ids) for ids in loaded(texts, add_special_tokens=False, verbose=False)["input_ids"]]


def _describe_benchmark(options: argparse.Namespace) -> int:
    from tasks.benchmark.sets import chosen, load_set  # which load what runs need

    columns = Columns()

    def notice(row: Row, read: Collection[str]) -> None:
        if columns.rows < COLUMN_ROWS:
            columns.add(row, read)

    benchmark = load_set(chosen(vars(options)), notice)
    print("\n".join([*columns_of(columns), *benchmark_summary(benchmark)]))
    return 0


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tasks.describe",
        description="Describes a data set before a run reads it.",
        epilog=f"Known data sets: {', '.join(DATASETS)}",
    )
    parser.add_argument("data", metavar="NAME|PATH", help="a known data set, or a file, folder, glob or hub:owner/name")
    parser.add_argument(
        "--format", choices=get_args(Format), help="the format of the rows; default: detected from the first rows"
    )
    parser.add_argument("--columns", metavar="JSON", help="a column map, as in a recipe")
    parser.add_argument("--subset", help="subset of a hub data set")
    parser.add_argument("--split", help="split of a hub data set; for JudgeBench: gpt or claude")
    parser.add_argument(
        "--limit",
        type=_positive,
        help=f"maximum number of rows to read; default: all, or {HUB_ROWS:,} for a hub data set",
    )
    parser.add_argument(
        "--prompt", choices=JUDGE_PROMPTS, default="gram-r2", help="prompt of the judge; default: gram-r2"
    )
    parser.add_argument("--tokenizer", metavar="DIR", help="also count tokens with this tokenizer")
    parser.add_argument(
        "--benchmark",
        choices=get_args(catalog.BenchmarkName),
        help="read the data as this benchmark and describe its items",
    )
    return parser
