"""Public data sets → records. A `Source` says where the rows are and in which format; `read_source` reads them.

A minimal source is a path, or the name of a set in `data.sources.catalog`; a minimal row in a path's default format is one
of `data.records`::

    Source(path="seed.jsonl")
    Source(dataset="helpsteer3")
    {"prompt": "Why is the sky blue?", "response_a": "Rayleigh scattering.", "response_b": "The sea.", "label": "A"}

Every pair of every row that is read is yielded once: as a record, or as a `Dropped` with its reason. A row that does not
match the format raises `SourceError`, unless the source allows some such rows (`max_malformed`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, NamedTuple, TypeVar, overload

from data.records import (
    Label,
    PreferencePair,
    RationalePair,
    Record,
    RecordError,
    ResponsePair,
    flip,
    text_id,
)
from data.sources.adapters import Candidate, DropReason, Format, Kind, Unusable, adapt
from data.sources.columns import ColumnMap
from data.sources.fields import NotShowable, got, reach, same
from data.sources.formats.rationales import name_by_label, names_positions
from data.sources.reading import (
    Published,
    as_published,
    name_of,
    read_rows,
    row_blocks,
    source_files,
    source_fingerprint,
    unread_files,
)
from data.sources.rows import BrokenRow, RawRow, RowBlock, SourceError
from data.sources.source import Source

__all__ = [
    "ColumnMap",
    "DropReason",
    "Dropped",
    "Format",
    "Kind",
    "Malformed",
    "Published",
    "Reading",
    "Source",
    "SourceError",
    "as_published",
    "assign_order",
    "blocks_as",
    "candidates_in",
    "check_kind",
    "identity_of",
    "name_of",
    "placed_rationale",
    "problem_of",
    "read_rows",
    "read_source",
    "row_blocks",
    "source_files",
    "source_fingerprint",
    "unread_files",
    "unusable_as",
    "within_allowance",
]


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that was read but is not used. `where` is ``file:row``."""

    where: str
    id: str | None
    reason: DropReason
    detail: str


class Malformed(NamedTuple):
    """A row that does not match its format. Whether it may be dropped depends on how many there are."""

    file: str
    number: int
    problem: str


Truth = tuple[ResponsePair, Label | None]
_Item = Record | Truth | Dropped
_T = TypeVar("_T")


@overload
def read_source(source: Source, kind: Literal["pair"], seed: int) -> Iterator[ResponsePair | Dropped]: ...
@overload
def read_source(source: Source, kind: Literal["pair_with_truth"], seed: int) -> Iterator[Truth | Dropped]: ...
@overload
def read_source(source: Source, kind: Literal["preference"], seed: int) -> Iterator[PreferencePair | Dropped]: ...
@overload
def read_source(source: Source, kind: Literal["rationale"], seed: int) -> Iterator[RationalePair | Dropped]: ...
def read_source(source: Source, kind: Kind, seed: int) -> Iterator[Any]:
    """The pairs of a source's rows as records of one kind, or as `Dropped`, in file order.

    ``pair`` ignores labels altogether, so ties are kept; ``pair_with_truth`` yields (pair, label), where the label
    is None for a tie and for a row without one. `seed` decides the order of responses that have no positions.
    Raises SourceError at once if the source cannot provide this kind, and at the first malformed row beyond `max_malformed`.
    """
    reading = Reading(source, kind, name_of(source), seed)
    blocks = blocks_as(source, kind)
    return within_allowance(chain.from_iterable(reading.items_in(first, block) for first, block in blocks), source)


def blocks_as(source: Source, kind: Kind) -> Iterator[tuple[int, RowBlock]]:
    """The rows of a source for `Reading`: blocks, each with the number of its first row among all that are read, from 0.

    Raises SourceError at once if the source cannot provide this kind, or has no rows.
    """
    check_kind(source, kind)
    return _numbered(row_blocks(source))


def _numbered(blocks: Iterator[RowBlock]) -> Iterator[tuple[int, RowBlock]]:
    first = 0
    for block in blocks:
        yield first, block
        first += len(block)


def assign_order(row_index: int, seed: int) -> Label:
    """The position of the chosen (or first) response of row `row_index` (from 0). Only this function decides it.

    Exactly balanced: rows 2k and 2k+1 get opposite positions, and a seeded coin decides which of them comes first. One
    coin per row would leave a random surplus of one label, which a small training set learns as a position bias.
    """
    coin = hashlib.sha256(f"assign_order/{seed}/{row_index // 2}".encode()).digest()[0] & 1
    first: Label = "A" if coin else "B"
    return first if row_index % 2 == 0 else flip(first)


def check_kind(source: Source, kind: Kind) -> None:
    """Raises SourceError if a source cannot provide this kind, by its format or its column map."""
    if kind in ("preference", "rationale") and not source.has_labels:
        fix = "add label, or chosen and rejected, to the column map" if source.columns else "read it as unlabeled pairs"
        raise SourceError(
            f"{source.path}: labeled rows were requested, but this source (format {source.format!r}) has none; {fix}"
        )
    if kind == "rationale" and not source.has_rationales:
        fix = "add rationale to the column map" if source.columns else "read it as preference pairs"
        raise SourceError(
            f"{source.path}: rationales were requested, but this source (format {source.format!r}) has none; {fix}"
        )


@dataclass(frozen=True)
class Reading:
    """What a source's rows are read as: each by itself, wherever and in whatever order."""

    source: Source
    kind: Kind
    name: str
    seed: int

    def items_in(self, first: int, block: RowBlock) -> Iterator[_Item | Malformed]:
        """The pairs in some rows; `first` is the number of the first among all that are read, from 0."""
        return (item for _, item in self.placed_items_in(first, block))

    def placed_items_in(self, first: int, block: RowBlock) -> Iterator[tuple[RawRow, _Item | Malformed]]:
        """As `items_in`, each with the row that it comes from."""
        for index, raw in enumerate(block.rows(), start=first):
            try:
                candidates = candidates_in(raw, self.source, self.kind)
            except RecordError as error:
                yield raw, Malformed(raw.file, raw.number, problem_of(error))
                continue
            for place, candidate in enumerate(candidates):
                if isinstance(candidate, Unusable):
                    yield raw, Dropped(raw.where, candidate.id, candidate.reason, candidate.detail)
                else:
                    yield raw, self._finish(candidate, raw.where, assign_order(index + place, self.seed))

    def _finish(self, candidate: Candidate, where: str, order: Label) -> _Item:
        """The record of a candidate, after the filters. `order` is the position of the first of two unpositioned responses."""
        kind, (first, second) = self.kind, candidate.responses
        identity = identity_of(candidate, self.source)
        unusable = unusable_as(candidate, kind, self.source.max_chars)
        if unusable is not None:
            return Dropped(where, identity, *unusable)
        pair = ResponsePair(identity, candidate.prompt, first, second, source=candidate.source or self.name)
        truth = None if candidate.truth == "tie" else candidate.truth
        if not candidate.positioned and order == "B":
            pair, truth = pair.swapped(), flip(truth) if truth else None
        if kind == "pair":
            return pair
        if kind == "pair_with_truth":
            return pair, truth
        if truth is None:
            raise AssertionError(f"{where}: a row without a label passed the filters for labeled rows")
        if kind == "preference":
            return PreferencePair(pair, truth)
        return RationalePair(pair, truth, placed_rationale(candidate.rationale, candidate, truth) or "")


def within_allowance(items: Iterable[_T | Malformed], source: Source) -> Iterator[_T | Dropped]:
    """The items, with malformed rows as `Dropped`. Raises SourceError at the first beyond the source's `max_malformed`."""
    n_malformed, allowed = 0, source.max_malformed
    for item in items:
        if not isinstance(item, Malformed):
            yield item
            continue
        n_malformed += 1
        if n_malformed > allowed:
            before = f" (the {allowed} malformed rows that max_malformed allows came before it)" if allowed else ""
            raise SourceError(
                f"{item.file}, row {item.number}: {item.problem}{before}. Correct the row, the format or the column map; or "
                "raise max_malformed to drop and count such rows."
            )
        yield Dropped(f"{item.file}:{item.number}", None, "malformed", item.problem)


def candidates_in(raw: RawRow, source: Source, kind: Kind) -> tuple[Candidate | Unusable, ...]:
    """The candidates in a row, before ordering and filtering. Raises RecordError for a malformed row.

    A row that its format reads but no judge can be shown is `Unusable`.
    """
    if isinstance(raw.value, BrokenRow):
        raise RecordError("", raw.value.problem)
    if not isinstance(raw.value, Mapping):
        hint = "; a file that holds one list of rows must be named .json" if isinstance(raw.value, list) else ""
        raise RecordError("", f"the row must be an object with columns, got {type(raw.value).__name__}{hint}")
    for column, wanted in source.where.items():
        value = reach(raw.value, column)
        if not any(same(value, one) for one in wanted):
            return (Unusable(None, "filtered", f"{column} is {got(value)}"),)
    try:
        return adapt(raw.value, source.format, source.columns, kind)
    except NotShowable as refusal:
        return (Unusable(None, refusal.reason, str(refusal)),)


def identity_of(candidate: Candidate, source: Source) -> str:
    """The id of a pair: its row's own, or a hash of its content in the file's order, so that no seed changes it."""
    if candidate.id and source.id_from == "row":
        return candidate.id
    return text_id([m.to_json() for m in candidate.prompt], *candidate.responses)


def placed_rationale(text: str | None, candidate: Candidate, label: Label | None) -> str | None:
    """The text that argues for a candidate, shown with this label: drawn positions take the place of chosen and rejected."""
    return text if candidate.positioned or not text or label is None else name_by_label(text, label)


def problem_of(error: RecordError) -> str:
    return str(error) if error.field else error.problem  # a row that is not an object has no field to name


def unusable_as(candidate: Candidate, kind: Kind, max_chars: int | None) -> tuple[DropReason, str] | None:
    """Why a well-formed row is not used: the first reason that applies, in the order below."""
    first, second = (response.strip() for response in candidate.responses)
    if not candidate.prompt:
        return "empty_prompt", "there is no prompt before the responses"
    if not first or not second:
        return "empty_response", f"the {'first' if not first else 'second'} response is empty"
    if first == second:
        return "equal_responses", "the two responses are equal"
    if kind in ("preference", "rationale") and candidate.truth == "tie":
        return "tie", "neither response is preferred"
    if kind in ("preference", "rationale") and candidate.truth is None:
        return "no_label", "the row does not say which response is better"
    if kind == "rationale" and not (candidate.rationale or "").strip():
        return "no_rationale", "no text argues for the row's label"
    if kind == "rationale" and not candidate.positioned and names_positions(candidate.rationale or ""):
        return (
            "rationale_by_position",
            "the rationale names a response by a position, which chosen and rejected have not",
        )
    n_chars = sum(len(message.content) for message in candidate.prompt) + sum(map(len, candidate.responses))
    if max_chars is not None and n_chars > max_chars:
        return "too_long", f"{n_chars} characters, at most {max_chars} are allowed"
    return None
