"""Some rows of every source, and its number of usable rows: the basis for a plan's lengths and numbers.

Taken from the configured sources if a run is planned before it starts; from the files of its stage "data" if it has
started, when its rows are known exactly.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from data.benchmarks.catalog import load
from data.benchmarks.items import Item
from data.files import json_line, read_jsonl
from data.records import (
    parse_pair,
    parse_preference,
    parse_rationale,
)
from data.sources.mixture import takes
from data.sources.rows import SourceError, count_rows, declared_rows, expand_path
from data.sources.sources import Source, source_files
from data.sources.unread import named_unread_files, unread_columns
from tasks.benchmark.sets import load_set
from tasks.plan.assumptions import PlanAssumptions, PlanError
from tasks.plan.first_rows import PARTS, First, Part, Row, check_ids, check_usable, first_rows, is_drawn, unreadable
from tasks.settings import BenchmarkSet, DataSettings

_PARSERS: Mapping[Part, Callable[[Mapping[str, Any]], Row]] = {
    "rationale": parse_rationale,
    "labeled": parse_preference,
    "unlabeled": parse_pair,
    "pretraining": parse_pair,
    "calibration": parse_preference,
}
_SPLIT_OFF: tuple[Part, ...] = ("heldout", "calibration")
"""What shares of the labeled pairs are split off for, in the order in which a run draws them."""


@dataclass(frozen=True)
class Sample:
    """Pairs of one source. `read` is the number of pairs in all its rows, `usable` how many of them a run is expected to use."""

    rows: Sequence[Row]
    read: float
    usable: float


@dataclass(frozen=True)
class SetSample:
    """Items spread evenly over one benchmark, which has `total` items.

    Over all of these, an item has `cells` comparisons and `scored` responses that play, in the mean. `candidates` is the
    number of responses in a knockout, else None.
    """

    label: str
    items: Sequence[Item]
    total: float
    cells: float
    scored: float
    candidates: int | None = None


@dataclass(frozen=True)
class DataSample:
    """What was sampled. Without a part "heldout", the held-out pairs are among the `sets`.

    `read` is the number of all rows that were read, if known. `notes` are for the reader.
    """

    parts: Mapping[Part, Sequence[Sample]]
    sets: Sequence[SetSample] = ()
    read: int | None = None
    stand_ins: Sequence[str] = ()
    notes: Sequence[str] = ()

    def usable(self, part: Part) -> float:
        return sum(sample.usable for sample in self.parts.get(part, ()))

    def weighted(self, part: Part) -> list[tuple[float, Row]]:
        """Each sampled row, with the number of rows it represents."""
        return [
            (sample.usable / len(sample.rows), row)
            for sample in self.parts.get(part, ())
            if sample.usable
            for row in sample.rows
        ]


def mean_bytes(rows: Sequence[tuple[float, Row]]) -> float:
    """Mean bytes of a row as the run writes it."""
    weight = sum(w for w, _ in rows)
    return sum(w * len(json_line(row.to_json()).encode()) for w, row in rows) / weight if weight else 0.0


# ---- from the sources ---------------------------------------------------------------------------------------------------


def sample_sources(
    data: DataSettings,
    sets: Sequence[BenchmarkSet],
    stand_ins: Mapping[str, str],
    assumed: PlanAssumptions,
    n: int,
) -> DataSample:
    """The first `n` rows of every source. `stand_ins` maps a part, or the label of a set, to a file that replaces it.

    Raises PlanError if a source cannot be read, or its number of rows is unknown.
    """
    unknown = stand_ins.keys() - {*PARTS, *(chosen.label for chosen in sets)}
    if unknown:
        known = ", ".join([*PARTS, *(chosen.label for chosen in sets)])
        raise PlanError(f"no data is called {', '.join(sorted(unknown))}: a stand-in can replace one of {known}")
    notes: list[str] = []
    parts: dict[Part, list[Sample]] = {}
    for part in PARTS:
        sources, samples = _sample_part(part, getattr(data, part), stand_ins.get(part), assumed, n, notes)
        # Pairs are split off before caps and weights apply; where rationales come with the labeled pairs, from these too.
        if part == "labeled" or (part == "rationale" and data.rationale == data.labeled):
            samples, split_off = _split_off(samples, data.split_off_shares)
            parts |= split_off if part == "labeled" else {}
        if samples:
            parts[part] = list(_mixed(part, sources, samples, notes))
    played = [_sample_set(chosen, stand_ins.get(chosen.label), n, notes) for chosen in sets]
    replaced = [f"data.{name}" if name in PARTS else name for name in stand_ins]
    return DataSample(parts, played, stand_ins=replaced, notes=notes)


def _sample_part(
    part: Part,
    sources: Sequence[Source],
    stand_in: str | None,
    assumed: PlanAssumptions,
    n: int,
    notes: list[str],
) -> tuple[Sequence[Source], list[Sample]]:
    """The sources of a part, or what stands in for them, and a sample of each, before caps and weights."""
    given: int | None = getattr(assumed, f"rows_{part}")
    if not sources:
        return (), []
    if stand_in is not None:
        sources = [Source(path=stand_in)]
        number = "" if given is not None else " and the number of rows"
        notes.append(f"data.{part}: {stand_in} stands in for the sources; lengths{number} come from it")
    found = [(source, *_rows_in(source, part)) for source in sources]
    known = sum(count or 0 for _, count, _ in found)
    if given is not None:
        notes.append(f"data.{part}: {given:,} rows, as given" + (f"; the sources have {known:,}" if known else ""))
    samples: list[Sample] = []
    firsts: list[tuple[Source, First]] = []
    seen: set[str] = set()
    for source, count, how in found:
        if given is not None:
            # A number given for several sources is split by their known numbers of rows, else evenly.
            count = round(given * (count / known if known and count else 1 / len(found)))
        elif count is None:
            raise PlanError(
                f"data.{part}: the number of rows in {source.path} is unknown ({how}): pass --assume rows_{part}=N"
            )
        elif how:
            notes.append(f"data.{part}: {count:,} rows in {source.path} ({how})")
        first = first_rows(source, part, n, seen)
        firsts.append((source, first))
        unread = unread_columns(source.model_copy(update={"limit": min(n, source.limit or n)}))
        if unread:
            notes.append(f"data.{part}: nothing reads the columns {', '.join(unread)} of {source.path}")
        if files := named_unread_files(source):
            notes.append(f"data.{part}: nothing reads the files {files} of {source.path}")
        some = "" if is_drawn(source) else "the first "
        if first.dropped and first.pairs:
            notes.append(f"data.{part}: of {some}{first.losses}; these are not used, in {source.path}")
        if source.sample is not None and not is_drawn(source):
            notes.append(
                f"data.{part}: lengths come from the first {first.n_rows} rows of {source.path}, but the run draws its rows from "
                "all of them, which may differ if they are in some order; a local copy in path is drawn from here, too"
            )
        samples.append(Sample(first.pairs, count * first.n_pairs / first.n_rows, count * len(first.pairs) / first.n_rows)
                       if first.n_rows else Sample([], 0.0, 0.0))  # fmt: skip
    check_usable(part, firsts, n)
    check_ids(part, firsts)
    return sources, samples


def _split_off(samples: Sequence[Sample], shares: Mapping[str, float]) -> tuple[list[Sample], dict[Part, list[Sample]]]:
    """What is left when these shares of the labeled pairs are split off one after another, and what is split off."""
    left, split_off = list(samples), dict[Part, list[Sample]]()
    for kind in _SPLIT_OFF:
        if share := shares.get(kind):
            split_off[kind] = [replace(one, read=0.0, usable=share * one.usable) for one in left]
            left = [replace(one, usable=(1 - share) * one.usable) for one in left]
    return left, split_off


def _mixed(part: Part, sources: Sequence[Source], samples: Sequence[Sample], notes: list[str]) -> Iterator[Sample]:
    """The samples with as many usable pairs of each source as its cap and weight leave."""
    taken = takes([round(sample.usable) for sample in samples], sources)
    for source, sample, take in zip(sources, samples, taken, strict=True):
        if take.kept < take.found:
            notes.append(
                f"data.{part}: {take.kept:,} of about {take.found:,} usable pairs of {source.path} are used (cap, weight)"
            )
            sample = replace(sample, usable=take.kept)
        yield sample


def _rows_in(source: Source, part: Part) -> tuple[int | None, str]:
    """How many rows of a source will be read, or None; and where that number comes from if they are not counted."""
    how = ""
    try:
        if source.hub_name is None:
            count: int | None = sum(count_rows(file) for file in source_files(source))
        else:
            name = expand_path(source.hub_name)
            count = declared_rows(name, source.subset, source.split, source.revision)
            how = "as declared on its hub page" if count is not None else "its hub page does not state it"
    except (SourceError, OSError) as error:
        raise unreadable(part, error) from error
    most = min((number for number in (source.limit, source.sample) if number is not None), default=None)
    if most is not None and (count is None or count > most):
        which = "limit" if most == source.limit else "sample"
        return most, f"its {which}, assumed to be reached" if count is None else ""
    return count, how


def _sample_set(chosen: BenchmarkSet, stand_in: str | None, n: int, notes: list[str]) -> SetSample:
    if stand_in is not None:
        notes.append(f"benchmarks.sets: {stand_in} stands in for {chosen.label}, including its number of pairs")
        items = load("preferences", stand_in).items
        return _spread_set(chosen.label, items, len(items), n)
    try:
        items = load_set(chosen).items
    except (SourceError, OSError) as error:
        raise unreadable(chosen.label, error) from error
    return _spread_set(chosen.label, items, len(items), n, _candidates(chosen.benchmark, items))


def _candidates(benchmark: str, items: Iterable[Item]) -> int | None:
    return min((len(item.responses) for item in items), default=None) if benchmark == "ppe" else None


def _spread_set(label: str, items: Iterable[Item], total: int, n: int, candidates: int | None = None) -> SetSample:
    """About `n` items; their files are often in the order of subsets, which differ in cells and lengths."""
    some: list[Item] = []
    read = cells = scored = 0
    for item in items:
        if read % max(1, total // n) == 0:
            some.append(item)
        read, cells, scored = read + 1, cells + len(item.cells), scored + len(playing(item))
    return SetSample(label, some, total, cells / max(read, 1), scored / max(read, 1), candidates)


def playing(item: Item) -> list[int]:
    """The responses that are in any of an item's cells."""
    return sorted({response for cell in item.cells for response in (cell.first, cell.second)})


# ---- from a run that has started ------------------------------------------------------------------------------------------


def sample_run(
    files: Mapping[Part, str], sizes: Mapping[Part, int], sets: Sequence[Mapping[str, Any]], n: int
) -> DataSample:
    """Rows spread evenly over the files of a run's stage "data"; `sizes` gives their numbers of rows.

    `sets` lists the benchmarks to play, including the held-out pairs: label, items (a file), total, and candidates.
    """
    parts = {}
    for part, file in files.items():
        rows = [_PARSERS[part](row) for row in _spread(Path(file), n)]
        parts[part] = [Sample(rows, sizes[part], sizes[part])]
    played = []
    for one in sets:
        items = map(Item.from_json, read_jsonl(Path(one["items"])))
        played.append(_spread_set(one["label"], items, one["total"], n, one["candidates"]))
    return DataSample(parts, played)


def _spread(file: Path, n: int) -> Iterator[dict[str, Any]]:
    """About `n` rows, evenly spread; the others are not parsed."""
    total = count_rows(str(file))
    with file.open("rb") as stream:
        for line in islice(stream, 0, None, max(1, total // n)):
            yield json.loads(line)
