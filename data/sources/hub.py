"""Raw rows of data sets on the hub, streamed through `datasets`."""

from __future__ import annotations

from collections.abc import Iterator

from data.sources.raw import RawRow, SourceError
from data.sources.tables import rows_of

_BATCH = 256


def read_hub(name: str, *, subset: str | None, split: str, revision: str | None) -> Iterator[RawRow]:
    """The rows of a hub data set, streamed in order; `number` counts them from 1.

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
        for table in rows.with_format("arrow").iter(batch_size=_BATCH):
            for value in rows_of(table):
                number += 1
                yield RawRow(file, number, value)
    except (ValueError, TypeError, NotImplementedError) as error:  # of pyarrow, and of types that differ between files
        raise SourceError(f"{file}: cannot be read after row {number} ({error})") from error


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
