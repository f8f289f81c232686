"""Rows of Parquet, Arrow and CSV files, as objects with the columns' names as keys.

Parquet and Arrow columns have types. The cells of a CSV file are texts, since nothing in it tells the number 7 from the
response "7"::

    {"prompt": "Name a prime", "chosen": "7", "rejected": "9"}
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

from data.files import BLOCK_ROWS
from data.sources.raw import BrokenRow, SourceError, Unreadable

Row = dict[str, Any]
_LONGEST_CELL = 2**31 - 1
"""Characters; the default of the module csv, 131,072, is less than some conversations have."""


class Batch:
    """Rows of a table, as pyarrow holds them (a record batch or a table)."""

    def __init__(self, table: Any) -> None:
        self.table = table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def only(self, places: Sequence[int]) -> Batch:
        import pyarrow as pa

        return Batch(self.table.take(pa.array(places, pa.int64())))

    def __reduce__(self) -> tuple[Any, ...]:
        # pyarrow itself would pickle all of the file's rows that are in memory, not only the batch's.
        import pyarrow as pa

        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.table.schema) as stream:
            stream.write(self.table)
        return _read_batch, (sink.getvalue().to_pybytes(),)


def _read_batch(content: bytes) -> Batch:
    import pyarrow as pa

    with pa.ipc.open_stream(content) as stream:
        return Batch(stream.read_all())


def parquet_batches(file: str) -> Iterator[Batch]:
    """Raises SourceError for columns of the same name, and pyarrow's errors for a file that is not Parquet."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as table:
        _check_names(file, table.schema_arrow.names)
        yield from map(Batch, table.iter_batches(batch_size=BLOCK_ROWS))


def arrow_batches(file: str) -> Iterator[Batch]:
    """Like `parquet_batches`, for both of Arrow's formats: streams, as `datasets` writes them, and IPC files."""
    with _arrow(file) as (schema, batches):
        _check_names(file, schema.names)
        for batch in batches:
            for start in range(0, batch.num_rows, BLOCK_ROWS):
                yield Batch(batch.slice(start, BLOCK_ROWS))


def count_parquet(file: str) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(file).num_rows)


def count_arrow(file: str) -> int:
    with _arrow(file) as (_, batches):
        return sum(batch.num_rows for batch in batches)


@contextmanager
def _arrow(file: str) -> Iterator[tuple[Any, Iterator[Any]]]:
    import pyarrow as pa

    with pa.memory_map(file) as stream:
        if stream.read(6) == b"ARROW1":
            with pa.ipc.open_file(stream) as table:
                yield table.schema, (table.get_batch(i) for i in range(table.num_record_batches))
        else:
            stream.seek(0)
            with pa.ipc.open_stream(stream) as table:
                yield table.schema, iter(table)


def _check_names(file: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SourceError(f"{file}: has several columns named {', '.join(map(repr, twice))}; rename them")


def rows_of(rows_read: Batch) -> list[Row]:
    """The rows of a batch; a value that Python cannot represent is `Unreadable`, the others are kept."""
    batch = rows_read.table
    try:
        rows: list[Row] = batch.to_pylist()
    except _conversion_errors():
        columns = [_values(column) for column in batch.columns]
        rows = [dict(zip(batch.schema.names, values, strict=True)) for values in zip(*columns, strict=True)]
    encoded = {field.name: decode for field in batch.schema if (decode := _json_in(field.type))}
    for row in rows if encoded else []:
        row.update({name: decode(row[name]) for name, decode in encoded.items()})
    return rows


def _values(column: Any) -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
    except _conversion_errors():
        values = [_value(cell) for cell in column]
    return values


def _value(cell: Any) -> Any:
    try:
        return cell.as_py()
    except UnicodeDecodeError as error:
        return Unreadable(f"text that is not UTF-8 (byte 0x{error.object[error.start]:02x} at position {error.start})")
    except _conversion_errors() as error:
        return Unreadable(f"a value of type {cell.type} that Python cannot represent ({error})")


def _json_in(kind: Any) -> Callable[[Any], Any] | None:
    """What decodes the JSON in a value of this Arrow type; None if the type has none.

    `datasets` stores columns of mixed types as JSON, such as prompts of which some are texts and some are messages.
    """
    import pyarrow as pa

    if isinstance(kind, pa.JsonType):
        return _from_json
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        item = _json_in(kind.value_type)
        return item and (lambda values: [item(value) for value in values] if isinstance(values, list) else values)
    if pa.types.is_struct(kind):
        fields = {field.name: decode for field in kind if (decode := _json_in(field.type))}
        if fields:
            return lambda value: (
                value | {name: decode(value[name]) for name, decode in fields.items()}
                if isinstance(value, dict)
                else value
            )
    return None


def _from_json(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError) as error:
        return Unreadable(f"JSON that cannot be read ({error})")


def _conversion_errors() -> tuple[type[Exception], ...]:
    """What pyarrow raises for texts that are not UTF-8, dates after the year 9999, unknown time zones and the like."""
    import pyarrow as pa

    return (ValueError, OverflowError, KeyError, pa.ArrowException)


def csv_rows(file: str, stream: IO[str], delimiter: str) -> Iterator[Row | BrokenRow]:
    """The rows below the header, all cells texts; blank lines are no rows.

    `stream` decodes with ``surrogateescape``: a text with bytes that are not UTF-8 is `Unreadable`. Raises SourceError for a
    header that names no columns, and for quotes that are not closed, since any row could be part of such a text.
    """
    csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader(stream, delimiter=delimiter, strict=True)
    begin = 1
    try:
        header = next(reader, None)
        if header is None:
            return
        _check_header(file, header, delimiter)
        begin = reader.line_num + 1
        for cells in reader:
            begin = reader.line_num + 1
            if len(cells) == len(header):
                yield dict(zip(header, map(_text, cells), strict=True))
            elif cells:
                yield BrokenRow(f"has {len(cells)} cells, but the header has {len(header)} columns")
    except csv.Error as error:
        raise SourceError(
            f"{file}: the row that begins in line {begin} cannot be read ({error}); texts with a quote, a line break or "
            f'the separator {delimiter!r} must be in quotes, and a quote inside one written as ""'
        ) from error


def _check_header(file: str, header: Sequence[str], delimiter: str) -> None:
    """Raises SourceError if this cannot be the header of a table of texts."""
    _check_names(file, header)
    wrong = next((name for name in header if isinstance(_text(name), Unreadable)), None)
    if wrong is not None:
        raise SourceError(f"{file}: the header is not UTF-8 text; save the file as UTF-8")
    other = next((sign for sign in ";\t," if len(header) == 1 and sign in header[0]), None)
    if other is not None:
        raise SourceError(
            f"{file}: the header has only one column, {header[0]!r}: the separator must be {delimiter!r}, not {other!r}; "
            ".csv files are separated by commas, .tsv files by tabs"
        )


def _text(cell: str) -> str | Unreadable:
    try:
        cell.encode()
    except UnicodeEncodeError as error:
        return Unreadable(
            f"text that is not UTF-8 (byte 0x{ord(cell[error.start]) & 0xFF:02x} at character {error.start})"
        )
    return cell
