"""Rows of Parquet, Arrow and CSV files, and values in them that Python cannot represent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.records import PreferencePair
from data.sources.rows import SourceError, count_rows, read_file
from data.sources.sources import Dropped, Source, read_source
from tests.support.sources import LABELED, by_map, reasons, simple_rows

BAD = b"caf\xe9"


def values_of(path: Path) -> list[Any]:
    rows = [raw.value for raw in read_file(str(path))]
    assert count_rows(str(path)) == len(rows)
    return rows


def preferences(path: Path, **config: Any) -> list[Any]:
    return list(read_source(Source(path=str(path), **{"format": "chosen-rejected", **config}), "preference", 0))


# ---- Parquet and Arrow -----------------------------------------------------------------------------------------------


def texts(*values: str | bytes) -> pa.Array:
    """A column of type string, whose bytes nobody has checked."""
    raw = pa.array([value.encode() if isinstance(value, str) else value for value in values], pa.binary())
    return pa.Array.from_buffers(pa.string(), len(values), raw.buffers())


def table(**columns: pa.Array) -> pa.Table:
    given = {
        "prompt": texts("One?", "Two?", "Three?"),
        "chosen": texts("a", "b", "c"),
        "rejected": texts("x", "y", "z"),
    }
    return pa.table({**given, **columns})


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_a_text_that_is_not_utf_8_makes_its_row_malformed(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows.{suffix}"
    write_table(path, table(chosen=texts("a", BAD, "c")))
    with pytest.raises(
        SourceError,
        match=r"row 2: field 'chosen': must be a string.*, got text that is not UTF-8 \(byte 0xe9 at position 3\)",
    ):
        preferences(path)
    items = preferences(path, max_malformed=1)
    assert reasons(items) == {"kept": 2, "malformed": 1}
    assert isinstance(items[1], Dropped)
    assert items[1].where == f"{path}:2"


def test_values_in_columns_that_nobody_reads_do_no_harm(tmp_path: Path) -> None:
    far = pa.array([0, 3_000_000_000_000, 1], pa.int64())
    harmless = {
        "note": texts(BAD, "b", "c"),
        "created": far.cast(pa.timestamp("s")),
        "day": pa.array([1, 2_000_000_000, 3], pa.int32()).cast(pa.date32()),
        "precise": pa.array([1, 2, 3], pa.int64()).cast(pa.timestamp("ns")),
        "zone": far.cast(pa.timestamp("s", tz="Nowhere/At_All")),
        "turns": pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), texts("a", BAD, "c")),
    }
    for name, column in harmless.items():
        write_table(tmp_path / f"{name}.parquet", table(**{name: column}))
        assert reasons(preferences(tmp_path / f"{name}.parquet")) == {"kept": 3}, name


def test_the_file_is_named_if_it_cannot_be_a_table_of_rows(tmp_path: Path) -> None:
    twice = pa.table([texts("a"), texts("b")], names=["chosen", "chosen"])
    for name in ("twice.parquet", "twice.arrow"):
        write_table(tmp_path / name, twice)
        with pytest.raises(SourceError, match=rf"{name}: has several columns named 'chosen'"):
            values_of(tmp_path / name)
    for name in ("no.parquet", "no.arrow", "empty.arrow"):
        (tmp_path / name).write_bytes(b"" if "empty" in name else b"no table at all")
        for read in (lambda file: list(read_file(file)), count_rows):
            with pytest.raises(SourceError, match=rf"{name}: cannot be read"):
                read(str(tmp_path / name))


def test_arrow_files_are_read_in_both_of_their_formats(tmp_path: Path) -> None:
    rows = simple_rows(2500)
    found = pa.Table.from_pylist(rows)
    write_table(tmp_path / "stream.arrow", found)
    with pa.ipc.new_file(str(tmp_path / "file.arrow"), found.schema) as out:
        out.write_table(found)
    assert values_of(tmp_path / "stream.arrow") == values_of(tmp_path / "file.arrow") == rows


def write_table(path: Path, rows: pa.Table) -> None:
    if path.suffix == ".parquet":
        pq.write_table(rows, path)
    else:
        with pa.ipc.new_stream(str(path), rows.schema) as out:
            out.write_table(rows)


# ---- CSV and TSV -------------------------------------------------------------------------------------------------------


def test_cells_are_texts_whatever_they_look_like(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(
        b'\xef\xbb\xbfprompt,chosen,rejected\r\n"3 + 4, or\r\n""7""?",7,None\r\n\r\nWhich?,,007\r\nNA,1e5,true\r\n'
    )
    assert values_of(path) == [
        {"prompt": '3 + 4, or\r\n"7"?', "chosen": "7", "rejected": "None"},
        {"prompt": "Which?", "chosen": "", "rejected": "007"},
        {"prompt": "NA", "chosen": "1e5", "rejected": "true"},
    ]
    assert reasons(preferences(path)) == {"kept": 2, "empty_response": 1}


def test_labels_and_scores_in_a_csv_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text("q\tone\ttwo\twinner\nWhy?\ta\tb\t1\nHow?\tc\td\t2\n")
    mapped = by_map({**LABELED, "label_a": ["1"], "label_b": ["2"], "label_tie": []})
    assert [item.label for item in preferences(path, **mapped) if isinstance(item, PreferencePair)] == ["A", "B"]


def test_a_row_of_another_length_or_not_utf_8_is_malformed(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"prompt,chosen,rejected,note\nOne?,a,b,caf\xe9\nTwo?,a\nThree?,caf\xe9,b,\nFour?,a,b,\n")
    items = preferences(path, max_malformed=2)
    assert reasons(items) == {"kept": 2, "malformed": 2}
    short, broken = (item.detail for item in items if isinstance(item, Dropped))
    assert short == "has 2 cells, but the header has 4 columns"
    assert broken.startswith("field 'chosen': must be a string")
    assert broken.endswith("got text that is not UTF-8 (byte 0xe9 at character 3)")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"prompt;chosen;rejected\nOne?;a;b\n", r"the separator must be ',', not ';'"),
        (b"prompt\tchosen\nOne?\ta\n", r"the separator must be ',', not '\\t'"),
        (b"prompt,chosen,chosen\nOne?,a,b\n", r"has several columns named 'chosen'"),
        (b"prompt,caf\xe9\nOne?,a\n", r"the header is not UTF-8"),
        (b'prompt,chosen,rejected\nOne?,a,b\n"Two?,b,c\nThree?,c,d\n', r"the row that begins in line 3 cannot be read"),
        (b'prompt,chosen\n"One?" or,b\n', r"the row that begins in line 2 cannot be read"),
        (b"", r"holds no rows"),
        (b"prompt,chosen,rejected\n", r"holds no rows"),
    ],
)
def test_a_csv_file_that_is_no_table(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "rows.csv").write_bytes(content)
    with pytest.raises(SourceError, match=message) as caught:
        preferences(tmp_path / "rows.csv")
    assert str(tmp_path / "rows.csv") in str(caught.value)


def test_a_long_text_in_a_csv_file(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(f"prompt,chosen,rejected\nWhy?,{'x' * 200_000},b\n")
    assert [len(row["chosen"]) for row in values_of(tmp_path / "rows.csv")] == [200_000]
