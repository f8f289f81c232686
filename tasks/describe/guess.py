"""Which formats can read the first rows of a file of unknown format. Nothing is chosen silently."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import get_args

from data.benchmarks import catalog, preferences
from data.records import RecordError
from data.sources.adapters import REFUSED, Candidate, Format
from data.sources.rows import RawRow
from data.sources.sources import Source, candidates_in, problem_of, read_rows

FIRST_ROWS = 20
FORMATS: tuple[Format, ...] = tuple(name for name in get_args(Format) if name != "columns")


@dataclass(frozen=True)
class Tried:
    """How a format did on the first rows: how many it reads, and its error for the first one that it cannot read."""

    format: Format
    readable: int
    problem: str


def try_formats(source: Source) -> tuple[int, list[Tried]]:
    """The number of rows tried, and how each format that needs no column map did on them."""
    first = list(islice(read_rows(source), FIRST_ROWS))
    return len(first), [_try(first, source.model_copy(update={"format": name})) for name in FORMATS]


def can_read(tried: Tried, rows: int) -> bool:
    """Whether a format reads at least half of the rows: any file may have some malformed ones."""
    return tried.readable * 2 >= rows


def _try(first: list[RawRow], source: Source) -> Tried:
    readable, problem = 0, ""
    for raw in first:
        try:
            candidates = candidates_in(raw, source, "pair_with_truth")
            readable += any(isinstance(each, Candidate) or each.reason in REFUSED for each in candidates)
        except RecordError as error:
            problem = problem or problem_of(error)
    return Tried(source.format, readable, problem)


def benchmarks_in(path: str) -> list[str]:
    """The benchmarks that can be loaded from a path."""
    found = []
    for name in get_args(catalog.BenchmarkName):
        if name == preferences.NAME:
            continue
        try:
            catalog.load(name, path)
        except ValueError:
            continue
        found.append(name)
    return found
