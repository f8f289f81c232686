"""Rows of data sets on the hub, streamed through `datasets`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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

    file, number = f"hub:{name}", 0
    with _opening(file, f"subset={subset!r}, split={split!r}, revision={revision!r}"):
        rows = load_dataset(name, subset, split=split, revision=revision, streaming=True)
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

    with _opening(f"hub:{name}", f"subset={subset!r}, revision={revision!r}"):
        splits = load_dataset_builder(name, subset, revision=revision).info.splits
    return int(splits[split].num_examples) or None if splits and split in splits else None


@contextmanager
def _opening(file: str, given: str) -> Iterator[None]:
    """Around the opening of a data set: raises SourceError if it does not exist, or if its rows are made by a script."""
    from datasets.exceptions import DatasetNotFoundError

    try:
        yield
    except (DatasetNotFoundError, ValueError) as error:
        raise SourceError(
            f"{file}: cannot be opened with {given} ({error}); see the data set's page for its subsets and splits"
        ) from error
    except RuntimeError as error:
        if "scripts are no longer supported" not in str(error):
            raise
        raise SourceError(
            f"{file}: its rows are made by a script, which `datasets` no longer runs ({error}); in a recipe, set revision = "
            '"refs/convert/parquet", where the hub keeps most such sets as files, or give the path of a copy of save_to_disk'
        ) from error
