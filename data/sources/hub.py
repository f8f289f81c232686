"""Rows of data sets on the hub, streamed through `datasets`."""

from __future__ import annotations

from collections.abc import Iterator

from data.files import BLOCK_ROWS
from data.sources.raw import RawRow, RowBlock, SourceError
from data.sources.tables import Batch, rows_of


def read_hub(name: str, *, subset: str | None, split: str, revision: str | None) -> Iterator[RawRow]:
    """The rows of a hub data set, streamed in order. Raises SourceError as `hub_blocks` does."""
    for block in hub_blocks(name, subset=subset, split=split, revision=revision):
        yield from block.rows()


def hub_blocks(name: str, *, subset: str | None, split: str, revision: str | None) -> Iterator[RowBlock]:
    """The rows of a hub data set, streamed in order, not parsed yet; their numbers count from 1.

    Raises SourceError if the data set, subset or split does not exist, or if its files cannot be read. A connection error is
    raised unchanged, because a retry may succeed.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError

    file = f"hub:{name}"
    try:
        rows = load_dataset(name, subset, split=split, revision=revision, streaming=True)
    except (DatasetNotFoundError, ValueError) as error:
        raise SourceError(
            f"{file}: cannot be opened with subset={subset!r}, split={split!r}, revision={revision!r} ({error}); "
            "see the data set's page for its subsets and splits"
        ) from error
    number = 0
    try:
        # As Arrow tables, since `datasets` itself fails at the first value that Python cannot represent.
        for table in rows.with_format("arrow").iter(batch_size=BLOCK_ROWS):
            numbers = range(number + 1, number + 1 + table.num_rows)
            yield RowBlock(file, numbers, Batch(table), rows_of)
            number += table.num_rows
    except (ValueError, TypeError, NotImplementedError) as error:  # of pyarrow, and of types that differ between files
        raise SourceError(f"{file}: cannot be read after row {number} ({error})") from error


def count_hub(name: str, *, subset: str | None, split: str, revision: str | None) -> int:
    """How many rows `read_hub` yields, by streaming them: a page can be silent about it, or wrong."""
    return sum(map(len, hub_blocks(name, subset=subset, split=split, revision=revision)))


def declared_rows(name: str, subset: str | None, split: str, revision: str | None) -> int | None:
    """How many rows a split has according to the hub data set's page; None if it does not state that."""
    from datasets import load_dataset_builder
    from datasets.exceptions import DatasetNotFoundError

    try:
        splits = load_dataset_builder(name, subset, revision=revision).info.splits
    except (DatasetNotFoundError, ValueError) as error:
        raise SourceError(
            f"hub:{name}: cannot be opened with subset={subset!r}, revision={revision!r} ({error})"
        ) from error
    return int(splits[split].num_examples) or None if splits and split in splits else None
