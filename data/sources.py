"""Public data sets → records. A `Source` says where the rows are and in which format; `read_source` reads them.

The smallest source is a path, and the smallest row of its default format is one of `data.records`::

    Source(path="seed.jsonl")
    {"prompt": "Why is the sky blue?", "response_a": "Rayleigh scattering.", "response_b": "The sea.", "label": "A"}

Every row that is read comes out once: as a record, or as a `Dropped` with its reason. A row that is not what the format
says raises `SourceError`, unless the source allows for some of them (`max_malformed`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, overload

from pydantic import BaseModel, ConfigDict, Field, model_validator

from data import rows
from data.adapters import Candidate, DropReason, Format, Kind, Unusable, adapt
from data.columns import ColumnMap
from data.records import (
    Label,
    PreferencePair,
    RationalePair,
    Record,
    RecordError,
    ResponsePair,
    content_id,
    flip,
)
from data.rows import BrokenRow, RawRow, SourceError

__all__ = [
    "ColumnMap",
    "DropReason",
    "Dropped",
    "Format",
    "Kind",
    "Source",
    "SourceError",
    "assign_order",
    "read_source",
    "source_files",
    "source_fingerprint",
]

HUB = "hub:"


class Source(BaseModel):
    """Where rows come from and how they are read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(
        title="Path",
        description="A file (.jsonl, .json, also .gz, or .parquet), a folder of such files, a glob, or hub:owner/name "
        "for a data set of the hub. ~ and ${VARIABLES} are expanded.",
        min_length=1,
    )
    format: Format = Field(
        default="records", title="Format", description="What a row looks like; 'columns' takes a column map."
    )
    columns: ColumnMap | None = Field(
        default=None, title="Column map", description="Which column holds what; for the format 'columns' only."
    )
    split: str = Field(default="train", title="Split", description="Split of a hub data set.")
    subset: str | None = Field(default=None, title="Subset", description="Subset (configuration) of a hub data set.")
    revision: str | None = Field(
        default=None,
        title="Revision",
        description="Commit, tag or branch of a hub data set. Pin a commit: without one, a data set that changes on "
        "the hub goes unnoticed by finished stages.",
    )
    limit: int | None = Field(
        default=None,
        title="Limit",
        description="At most this many rows are read, in file order, dropped ones included.",
        ge=1,
    )
    max_chars: int | None = Field(
        default=None,
        title="Longest row",
        description="Rows whose prompt and responses together have more characters are dropped as too_long.",
        ge=1,
    )
    max_malformed: int = Field(
        default=0,
        title="Malformed rows allowed",
        description="So many malformed rows are dropped and counted; one more raises an error that names it.",
        ge=0,
    )

    @model_validator(mode="after")
    def _fields_that_belong_together(self) -> Source:
        if (self.format == "columns") != (self.columns is not None):
            raise ValueError(
                "format 'columns' needs a column map, since only the map says what the columns mean"
                if self.columns is None
                else f"a column map is for format 'columns' only, the format is {self.format!r}; leave one of them out"
            )
        if self.hub_name is None and (self.subset, self.revision, self.split) != (None, None, "train"):
            raise ValueError("split, subset and revision are of hub data sets; name the local file itself in path")
        if self.hub_name == "":
            raise ValueError("hub: must be followed by the data set's name, such as hub:nvidia/HelpSteer3")
        return self

    @property
    def hub_name(self) -> str | None:
        """The name after ``hub:``, not expanded; None for local files."""
        return self.path.removeprefix(HUB) if self.path.startswith(HUB) else None


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that was read and is not used. `where` is ``file:row``."""

    where: str
    id: str | None
    reason: DropReason
    detail: str


Truth = tuple[ResponsePair, Label | None]
_Item = Record | Truth | Dropped


@overload
def read_source(source: Source, kind: Literal["pair"], seed: int) -> Iterator[ResponsePair | Dropped]: ...
@overload
def read_source(source: Source, kind: Literal["pair_with_truth"], seed: int) -> Iterator[Truth | Dropped]: ...
@overload
def read_source(source: Source, kind: Literal["preference"], seed: int) -> Iterator[PreferencePair | Dropped]: ...
@overload
def read_source(source: Source, kind: Literal["rationale"], seed: int) -> Iterator[RationalePair | Dropped]: ...
def read_source(source: Source, kind: Kind, seed: int) -> Iterator[Any]:
    """The rows of a source as records of one kind, or as `Dropped`, in file order.

    ``pair`` does not look at labels at all, so ties are kept; ``pair_with_truth`` yields (pair, label), where the label
    is None for a tie and for a row without one. `seed` decides the order of chosen and rejected, and nothing else.
    Raises SourceError at once where the source cannot give this kind, and on the row that is malformed once too often.
    """
    _check_kind(source, kind)
    if source.hub_name is not None:
        name = rows.expand_path(source.hub_name)
        raw = rows.read_hub(name, subset=source.subset, split=source.split, revision=source.revision)
        name = Path(name).name if Path(name).is_dir() else name
    else:
        files = source_files(source)
        raw = (row for file in files for row in rows.read_file(file))
        name = rows.data_set_name(rows.expand_path(source.path))
    return _records(source, kind, seed, name, islice(raw, source.limit))


def source_files(source: Source) -> list[str]:
    """The local files of a source, sorted; none for a hub data set. Raises SourceError where the path holds none."""
    return [] if source.hub_name is not None else rows.local_files(rows.expand_path(source.path))


def source_fingerprint(source: Source) -> dict[str, Any]:
    """What the rows of a source depend on, for a stage's key: sha256 by file name, or the hub's coordinates."""
    if source.hub_name is None:
        return dict(rows.sha256_by_file(rows.expand_path(source.path)))
    return {"hub": source.hub_name, "subset": source.subset, "split": source.split, "revision": source.revision}


def assign_order(row_index: int, seed: int) -> Label:
    """The position that the chosen response of row `row_index` (from 0) is shown in: the one place where it gets one.

    Exactly balanced: rows 2k and 2k+1 get opposite positions, and a seeded coin decides which of them comes first. A
    coin a row would leave a random surplus of one label, which a small training set learns as a position bias.
    """
    coin = hashlib.sha256(f"assign_order/{seed}/{row_index // 2}".encode()).digest()[0] & 1
    first: Label = "A" if coin else "B"
    return first if row_index % 2 == 0 else flip(first)


def _check_kind(source: Source, kind: Kind) -> None:
    columns = source.columns
    no_label = source.format == "gram-pre-training" or (columns is not None and not columns.has_label)
    if kind in ("preference", "rationale") and no_label:
        fix = "give label, or chosen and rejected, in the column map" if columns else "read it as unlabeled pairs"
        raise SourceError(
            f"{source.path}: labeled rows were asked for, but format {source.format!r} has none here; {fix}"
        )
    no_rationale = columns.rationale is None if columns else source.format not in ("records", "helpsteer3")
    if kind == "rationale" and no_rationale:
        fix = "give rationale in the column map" if columns else "read it as preference pairs"
        raise SourceError(
            f"{source.path}: rationales were asked for, but format {source.format!r} has none here; {fix}"
        )


def _records(source: Source, kind: Kind, seed: int, name: str, raw_rows: Iterator[RawRow]) -> Iterator[_Item]:
    n_malformed = 0
    for index, raw in enumerate(raw_rows):
        try:
            candidate = adapt(_mapping(raw.value), source.format, source.columns, kind)
        except RecordError as error:
            n_malformed += 1
            if n_malformed > source.max_malformed:
                raise _too_many_malformed(raw, error, source.max_malformed) from error
            yield Dropped(raw.where, None, "malformed", _problem(error))
            continue
        if isinstance(candidate, Unusable):
            yield Dropped(raw.where, candidate.id, candidate.reason, candidate.detail)
        else:
            yield _finish(candidate, raw.where, kind, source.max_chars, name, assign_order(index, seed))


def _mapping(value: object) -> Mapping[str, Any]:
    if isinstance(value, BrokenRow):
        raise RecordError("", value.problem)
    if not isinstance(value, Mapping):
        raise RecordError("", f"the row must be an object with columns, got {type(value).__name__}")
    return value


def _problem(error: RecordError) -> str:
    return str(error) if error.field else error.problem  # a row that is no object has no field to blame


def _too_many_malformed(raw: RawRow, error: RecordError, allowed: int) -> SourceError:
    before = f" (the {allowed} malformed rows that max_malformed allows came before it)" if allowed else ""
    return SourceError(
        f"{raw.file}, row {raw.number}: {_problem(error)}{before}. Correct the row, the format or the column map; or "
        "raise max_malformed, which drops and counts such rows."
    )


def _finish(
    candidate: Candidate, where: str, kind: Kind, max_chars: int | None, name: str, order: Label
) -> Record | Truth | Dropped:
    """The record of a candidate, after the filters. `order` is where a chosen response without a place goes."""
    first, second = candidate.responses
    # Over the file's own order, so that an id does not depend on the seed.
    identity = candidate.id or content_id([m.to_json() for m in candidate.prompt], first, second)
    unusable = _unusable(candidate, kind, max_chars)
    if unusable is not None:
        return Dropped(where, identity, *unusable)
    pair = ResponsePair(identity, candidate.prompt, first, second, source=candidate.source or name)
    truth = None if candidate.truth == "tie" else candidate.truth
    if not candidate.positioned and order == "B":
        pair, truth = pair.swapped(), "B"
    if kind == "pair":
        return pair
    if kind == "pair_with_truth":
        return pair, truth
    if truth is None:
        raise AssertionError(f"{where}: a labeled row without a label came through the filters")
    if kind == "preference":
        return PreferencePair(pair, truth)
    return RationalePair(pair, truth, candidate.rationale or "")


def _unusable(candidate: Candidate, kind: Kind, max_chars: int | None) -> tuple[DropReason, str] | None:
    """Why a well-formed row is not used: the first reason that holds, in the order below."""
    first, second = (response.strip() for response in candidate.responses)
    if not candidate.prompt:
        return "empty_prompt", "nothing stands before the responses"
    if not first or not second:
        return "empty_response", f"the {'first' if not first else 'second'} response is empty"
    if first == second:
        return "equal_responses", "there is nothing to prefer between two equal responses"
    if kind in ("preference", "rationale") and candidate.truth == "tie":
        return "tie", "neither response is preferred"
    if kind == "rationale" and not (candidate.rationale or "").strip():
        return "no_rationale", "no text argues for the row's label"
    n_chars = sum(len(message.content) for message in candidate.prompt) + sum(map(len, candidate.responses))
    if max_chars is not None and n_chars > max_chars:
        return "too_long", f"{n_chars} characters, at most {max_chars} are allowed"
    return None
