"""A source's first rows, or some drawn from it, as a run reads them: the usable pairs, and why the others are not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from data.records import PreferencePair, RationalePair, ResponsePair, pair_key
from data.sources.ids import find_clash
from data.sources.rows import SourceError
from data.sources.sources import Dropped, Kind, Source, read_rows, read_source
from tasks.plan.assumptions import PlanError

Part = Literal["rationale", "labeled", "unlabeled", "pretraining", "heldout", "calibration"]
Row = ResponsePair | PreferencePair | RationalePair
READ_AS: Mapping[Part, Kind] = {
    "rationale": "rationale",
    "labeled": "preference",
    "unlabeled": "pair",
    "pretraining": "pair",
    "heldout": "preference",
    "calibration": "preference",
}
"""What the sources of each part of `DataSettings` are read as."""
PARTS: tuple[Part, ...] = tuple(READ_AS)


@dataclass(frozen=True)
class First:
    """The usable pairs in the first rows of a source, of `n_pairs` in `n_rows`; `dropped` counts the others by reason."""

    pairs: list[Row]
    n_pairs: int
    n_rows: int
    dropped: Counter[str]

    @property
    def losses(self) -> str:
        """How many rows there are, and why pairs of them are not used."""
        reasons = ", ".join(f"{number} {reason}" for reason, number in self.dropped.most_common())
        return f"{self.n_rows} rows" + (f": {reasons}" if reasons else "")


def first_rows(source: Source, part: Part, n: int, seen: set[str]) -> First:
    """Reads the first `n` rows, or draws them if the run will. `seen` has the content of the part's pairs so far: a run drops
    further copies.
    """
    some = _some(source, n)
    try:
        items: list[Any] = list(read_source(some, READ_AS[part], seed=0))
        n_rows = sum(1 for _ in read_rows(some))
    except SourceError as error:
        raise PlanError(f"data.{part}: {error}") from error
    except OSError as error:
        raise unreadable(part, error) from error
    pairs: list[Row] = []
    dropped: Counter[str] = Counter()
    for item in items:
        if isinstance(item, Dropped):
            dropped[item.reason] += 1
        elif (key := pair_key(item if isinstance(item, ResponsePair) else item.pair)) in seen:
            dropped["duplicate"] += 1
        else:
            seen.add(key)
            pairs.append(item)
    return First(pairs, len(items), n_rows, dropped)


def is_drawn(source: Source) -> bool:
    """Whether a plan draws its rows from a source as the run does: not from the hub, which is too far away for it."""
    return source.sample is not None and source.hub_name is None


def _some(source: Source, n: int) -> Source:
    if is_drawn(source):
        return source.model_copy(update={"sample": min(n, source.sample or n)})
    return source.model_copy(update={"limit": min(n, source.limit or n), "sample": None})


def check_usable(part: Part, firsts: Sequence[tuple[Source, First]], n: int) -> None:
    """Raises PlanError if a part has no usable pair, or a source with a weight has none: a run would stop."""
    if any(first.pairs for _, first in firsts):
        firsts = [(source, first) for source, first in firsts if source.weight is not None]
    empty = [f"{source.path} ({first.losses})" for source, first in firsts if not first.pairs]
    if empty:
        more = any(first.n_rows == n for _, first in firsts)
        hint = f", unless later rows are usable: sample more than {n} rows with --sample" if more else ""
        raise PlanError(f"data.{part}: no usable pairs in {', '.join(empty)}. A run would stop{hint}")


def check_ids(part: Part, firsts: Sequence[tuple[Source, First]]) -> None:
    """Raises PlanError if two different pairs of a part have the same id: a run would stop."""
    pairs = (
        (source.path, (one if isinstance(one, ResponsePair) else one.pair for one in f.pairs)) for source, f in firsts
    )
    if clash := find_clash(pairs, READ_AS[part]):
        raise PlanError(f"data.{part}: {clash}. A run would stop")


def unreadable(name: str, error: Exception) -> PlanError:
    setting = f"data.{name}" if name in PARTS else f"benchmarks.sets, {name}"
    return PlanError(f"{setting}: {error}. To plan without it: --data-stand-in {name}=FILE (format records)")
