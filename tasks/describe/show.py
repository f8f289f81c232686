"""Prints what is in a data set, before a run reads it.

Columns, rows, labels, lengths, what a run would drop and why, duplicates, and the first pairs as the judge sees them.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from pathlib import Path

from data.sources.catalog import DATASETS
from data.sources.fields import Row
from data.sources.rows import SourceError
from data.sources.sources import Source, read_rows
from data.sources.unread import COLUMN_ROWS
from prompts.judge import JudgePrompt
from tasks.describe import guess
from tasks.describe.columns import Columns
from tasks.describe.layout import heading, named, paragraph
from tasks.describe.survey import Tokens, survey
from tasks.describe.text import benchmark_summary, columns_of, files_of, stops, summary
from tasks.model.chat import load_tokenizer
from tasks.model.location import model_folder
from tasks.settings import BenchmarkSet

HUB_ROWS = 10_000
"""Rows read from a hub data set by default: some have tens of gigabytes."""
_MAP = """\
  --columns '{"prompt": "question", "response_a": "first", "response_b": "second",
              "label": "winner", "label_a": [1], "label_b": [2]}'"""


def show(source: Source, prompt: JudgePrompt, tokenizer: str | None = None, detect: bool = False) -> bool:
    """Prints what a source holds; returns False if a run would stop at it.

    With `detect`, the format is the only one that reads the first rows; if none or several do, prints why, and returns False.
    A `tokenizer` also counts tokens. Raises SourceError, ModelError or OSError for what cannot be read.
    """
    by_default = source.hub_name is not None and source.limit is None
    if by_default:
        source = source.model_copy(update={"limit": HUB_ROWS})
    if detect:
        decided = _decide(source)
        if decided is None:
            return False
        source = decided
    print("\n".join([heading(f"{source.path}, format {source.format}"), *files_of(source)]))
    if source.limit is not None:
        text = " (default for hub data sets; see --limit)" if by_default else ""
        print(f"  at most {source.limit:,} rows are read{text}")
    found = survey(source, prompt, _counter(tokenizer))
    stopping = stops(found)
    print("\n".join([*stopping, *summary(found, source, prompt)]))
    return not stopping


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


def show_benchmark(chosen: BenchmarkSet) -> None:
    """Prints the columns and the items of a benchmark. Raises SourceError if the data is not what its authors publish."""
    from tasks.benchmark.sets import load_set  # which loads what runs need

    columns = Columns()

    def notice(row: Row, read: Collection[str]) -> None:
        if columns.rows < COLUMN_ROWS:
            columns.add(row, read)

    benchmark = load_set(chosen, notice)
    print("\n".join([*columns_of(columns), *benchmark_summary(benchmark)]))
