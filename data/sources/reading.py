"""The rows of a source that are read: all of them, its first ones, or some drawn at random over the whole of it.

Of 10 rows, with ``limit = 6`` and ``sample = 3``, three of the first six, in the order of the file::

    [RawRow("pairs.jsonl", 2, {…}), RawRow("pairs.jsonl", 3, {…}), RawRow("pairs.jsonl", 6, {…})]
"""

from __future__ import annotations

import glob
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from data.files import sha256_file
from data.records import content_id
from data.seeds import derive_seed
from data.sources import rows
from data.sources.folders import all_data_in, all_in, may_be_missed
from data.sources.rows import RawRow, RowBlock, SourceError
from data.sources.source import Source


def read_rows(source: Source) -> Iterator[RawRow]:
    """The raw rows of a source in file order, up to its limit or as drawn. Raises SourceError if it has none."""
    return chain.from_iterable(block.rows() for block in row_blocks(source))


def row_blocks(source: Source) -> Iterator[RowBlock]:
    """As `read_rows`, not parsed yet."""
    blocks = _all_blocks(source)
    first = next(blocks, None)
    if first is None:
        raise SourceError(f"{source.path}: holds no rows")
    read = _up_to(source.limit, chain([first], blocks))
    return read if source.sample is None else _drawn(source, source.sample, read)


def _all_blocks(source: Source) -> Iterator[RowBlock]:
    if source.hub_name is None:
        return (block for file in source_files(source) for block in rows.read_blocks(file))
    name = rows.expand_path(source.hub_name)
    return rows.hub_blocks(name, subset=source.subset, split=source.split, revision=source.revision)


def _up_to(limit: int | None, blocks: Iterator[RowBlock]) -> Iterator[RowBlock]:
    left = limit
    for block in blocks:
        if left is not None and len(block) >= left:
            yield block.only(range(left))
            return
        yield block
        left = None if left is None else left - len(block)


def _drawn(source: Source, n: int, blocks: Iterator[RowBlock]) -> Iterator[RowBlock]:
    """`n` of the rows in these blocks, each set of so many equally likely; no more is in memory than one block.

    Each row is drawn with the probability (rows still wanted) ÷ (rows still to come): Knuth, TAOCP 3.4.2, algorithm S.
    """
    total = count_source(source)
    left = total if source.limit is None else min(total, source.limit)
    wanted = min(n, left)
    # By the source's own seed alone: a plan and every run draw the same rows, from a copy of the files as well.
    draw = random.Random(derive_seed(source.seed, "sample")).random
    for block in blocks:
        places = []
        for place in range(len(block)):
            if draw() * left < wanted:
                places.append(place)
                wanted -= 1
            left -= 1
        if places:
            yield block.only(places)
        if not wanted:
            return
    raise SourceError(
        f"{source.path}: ends {left:,} rows earlier than when its {total:,} rows were counted; start again"
    )


def count_source(source: Source) -> int:
    """All rows of a source, whatever its limit or sample. Raises SourceError as reading them does."""
    if source.hub_name is None:
        return sum(map(rows.count_rows, source_files(source)))
    name = rows.expand_path(source.hub_name)
    return rows.count_hub(name, subset=source.subset, split=source.split, revision=source.revision)


def source_files(source: Source) -> list[str]:
    """The local files of a source, sorted; none for a hub data set. Raises SourceError if the path has none."""
    return [] if source.hub_name is not None else rows.local_files(rows.expand_path(source.path))


def unread_files(source: Source) -> list[str]:
    """The files in a source's folder, or that its glob matches, that are not read, whatever their type; none for a file."""
    path = "" if source.hub_name is not None else rows.expand_path(source.path)
    if not path or Path(path).is_file():
        return []
    found = all_in(Path(path)) if Path(path).is_dir() else map(Path, glob.glob(path, recursive=True))  # noqa: PTH207
    return sorted({str(file) for file in found if may_be_missed(file)} - {*source_files(source)})


# ---- what a source is called, and what a key says of it ---------------------------------------------------------------


def name_of(source: Source) -> str:
    """The source name for the records of a source, if they do not have their own."""
    if source.dataset is not None:
        return source.dataset
    if source.hub_name is None:
        return rows.data_set_name(rows.expand_path(source.path))
    name = rows.expand_path(source.hub_name)
    return Path(name).name if Path(name).is_dir() else name


@dataclass(frozen=True)
class Published:
    """A source as an input of a stage: what to read, and the hash of its current content."""

    source: Source
    content: str


def as_published(source: Source) -> Published:
    """A source with the hash of its current content. Raises SourceError as `source_fingerprint` does."""
    return Published(source, content_id(source_fingerprint(source)))


def source_fingerprint(source: Source) -> dict[str, Any]:
    """What the rows of a source depend on, for a stage's key: sha256 by file name, or the hub's coordinates.

    `datasets` takes a name that is a local folder for that folder: then both.
    """
    if source.hub_name is None:
        return dict(rows.sha256_by_file(rows.expand_path(source.path)))
    where = {"hub": source.hub_name, "subset": source.subset, "split": source.split, "revision": source.revision}
    folder = Path(rows.expand_path(source.hub_name))
    if not folder.is_dir():
        return where
    return {**where, "files": {str(file.relative_to(folder)): sha256_file(file) for file in all_data_in(folder)}}
