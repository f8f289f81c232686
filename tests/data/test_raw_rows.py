"""Rows as files and the hub hold them, before anyone asks what they mean."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.records import PreferencePair, RationalePair
from data.sources.rows import count_rows
from data.sources.sources import (
    Dropped,
    Source,
    SourceError,
    assign_order,
    read_rows,
    read_source,
    source_files,
    source_fingerprint,
)
from prompts.judge import GRAM_R2
from tests.support.sources import (
    annotator,
    helpsteer_row,
    reasons,
    simple_rows,
    write,
)

# ---- files -----------------------------------------------------------------------------------------------------------


def prompts_of(path: object) -> list[str]:
    items = read_source(Source(path=str(path), format="chosen-rejected"), "preference", 0)
    return [item.pair.prompt[0].content for item in items if isinstance(item, PreferencePair)]


def test_every_type_of_file_gives_the_same_records(tmp_path: Path) -> None:
    rows = simple_rows(5)
    write(tmp_path / "data.jsonl", rows)
    write(tmp_path / "data.jsonl.gz", rows)
    (tmp_path / "data.json").write_text(json.dumps(rows, indent=1))
    (tmp_path / "data.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data.parquet", row_group_size=2)
    others = tmp_path / "others"
    others.mkdir()
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    with pa.output_stream(others / "data.jsonl.zst", compression="zstd") as stream:
        stream.write(lines.encode())
    for encoding in ("utf-16", "utf-16-le", "utf-32"):
        (others / f"{encoding}.jsonl").write_text(lines, encoding=encoding)
    (tmp_path / "notes.txt").write_text("not rows")
    (tmp_path / ".hidden.jsonl").write_text("not rows")
    files = source_files(Source(path=str(tmp_path)))
    assert [Path(file).name for file in files] == [
        "data.json",
        "data.json.gz",
        "data.jsonl",
        "data.jsonl.gz",
        "data.parquet",
    ]
    read_files = [list(read_source(Source(path=file, format="chosen-rejected"), "preference", 3)) for file in files]
    assert all(items == read_files[0] for items in read_files)
    for file in sorted(others.iterdir()):
        assert prompts_of(file) == prompts_of(files[0])
        assert count_rows(str(file)) == 5
    assert {item.pair.source for item in read_files[0] if isinstance(item, PreferencePair)} == {"data"}


def test_folders_and_globs_are_read_in_sorted_order_and_rows_count_on(tmp_path: Path) -> None:
    folder = tmp_path / "pairs"
    folder.mkdir()
    rows = simple_rows(6)
    write(folder / "b.jsonl", rows[3:])
    write(folder / "a.jsonl", rows[:3])
    questions = [row["prompt"] for row in rows]
    assert prompts_of(folder) == prompts_of(folder / "*.jsonl") == prompts_of(tmp_path / "**" / "*.jsonl") == questions
    items = list(read_source(Source(path=str(folder / "*"), format="chosen-rejected"), "preference", 0))
    assert [item.label for item in items if isinstance(item, PreferencePair)] == [assign_order(i, 0) for i in range(6)]
    assert {item.pair.source for item in items if isinstance(item, PreferencePair)} == {"pairs"}


def test_blank_lines_are_no_rows_and_the_row_is_the_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(simple_rows(1)[0]) + "\n\n  \n{}\n")
    with pytest.raises(
        SourceError, match=r"rows.jsonl, row 4: field 'chosen': is missing: the row has the columns \(none\)"
    ):
        prompts_of(path)


def test_paths_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "rows.jsonl", simple_rows(2))
    monkeypatch.setenv("GRAM_R2_TEST_DATA", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in ("${GRAM_R2_TEST_DATA}/rows.jsonl", "$GRAM_R2_TEST_DATA/*.jsonl", "~/rows.jsonl"):
        assert len(prompts_of(path)) == 2
    monkeypatch.delenv("GRAM_R2_TEST_DATA")
    with pytest.raises(SourceError, match="the environment variable GRAM_R2_TEST_DATA is not set"):
        prompts_of("${GRAM_R2_TEST_DATA}/rows.jsonl")


def test_paths_that_hold_nothing(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not rows")
    for path, message in {
        tmp_path: "the folder contains no data file",
        tmp_path / "*.jsonl": "the pattern matches no data file",
        tmp_path / "rows.jsonl": "there is no such file or folder",
        tmp_path / "notes.txt": r"notes.txt: has an unsupported type; supported are .jsonl,",
        "s3://bucket/rows.jsonl": "is a URL",
    }.items():
        with pytest.raises(SourceError, match=message) as caught:
            prompts_of(path)
        assert str(path) in str(caught.value)


LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 123\n"


def test_files_that_are_not_what_their_name_says(tmp_path: Path) -> None:
    row = json.dumps(simple_rows(1)[0])
    broken: dict[str, tuple[bytes, str]] = {
        "text.jsonl": (b"once upon a time\n", r"text.jsonl, row 1: the line is not JSON"),
        "cut.jsonl": (f'{row}\n{{"prompt": '.encode(), r"cut.jsonl, row 2: the line is not JSON"),
        "latin.jsonl": (row.encode() + b'\n{"prompt": "caf\xe9"}\n', r"latin.jsonl, row 2: the line is not UTF-8 text"),
        "one line.jsonl": (
            f"{row} {row}\n".encode(),
            r"row 1: the line holds more than one JSON value; a JSONL file has",
        ),
        "list.jsonl": (
            f"[{row}]\n".encode(),
            r"row 1: the row must be an object .* one list of rows must be named .json",
        ),
        "long list.jsonl": (f"[\n{row}\n]\n".encode(), r"row 1: the line is not JSON .* must be named .json"),
        "deep.jsonl": (b"[" * 100_000 + b"\n", r"row 1: the line is not JSON \(maximum recursion depth"),
        "number.jsonl": (b'{"prompt": ' + b"7" * 5000 + b"}\n", r"row 1: the line is not JSON \(Exceeds the limit"),
        "half.jsonl": (row.encode("utf-16")[:-1], r"half.jsonl: is not UTF-16-LE text \(truncated data\)"),
        "deep.json": (b"[" * 100_000, r"deep.json: cannot be read as JSON \(maximum recursion depth"),
        "number.json": (
            b'[{"prompt": ' + b"7" * 5000 + b"}]",
            r"number.json: cannot be read as JSON \(Exceeds the limit",
        ),
        "empty.jsonl": (b"", r"empty.jsonl: holds no rows"),
        "blank.jsonl": (b"\n \n", r"blank.jsonl: holds no rows"),
        "empty.json": (b"", r"empty.json: holds no rows"),
        "list.json": (b"[]", r"list.json: holds no rows"),
        "pointer.jsonl": (LFS_POINTER, r"pointer.jsonl: is a Git LFS pointer, not the data; run `git lfs pull`"),
        "pointer.parquet": (LFS_POINTER, r"pointer.parquet: is a Git LFS pointer"),
        "pointer.jsonl.gz": (LFS_POINTER, r"pointer.jsonl.gz: is a Git LFS pointer"),
        "text.json": (b"[\n1,\nonce", r"text.json, line 3: is not JSON"),
        "lines.json": (f"{row}\n{row}\n".encode(), r"lines.json, line 2: .* must be named .jsonl"),
        "latin.json": (b'[\n"caf\xe9"]', r"latin.json, line 2: is not UTF-8"),
        "object.json": (b'{"train": [], "n": 0}', r"must be a list of rows, is an object with the keys 'train', 'n'"),
        "plain.jsonl.gz": (
            b"no gzip",
            r"plain.jsonl.gz: cannot be read .*is the file complete, and what its name says\?",
        ),
        "cut.jsonl.gz": (gzip.compress(row.encode() * 99)[:40], r"cut.jsonl.gz: cannot be read"),
        "plain.jsonl.zst": (b"no zstd", r"plain.jsonl.zst: cannot be read"),
        "packed.jsonl": (
            gzip.compress(row.encode()),
            r"packed.jsonl: is a gzip file \(.gz\), not text; give it the name of",
        ),
        "table.json": (b"PAR1\x15\x04", r"table.json: is a Parquet file, not text"),
        "sheet.csv": (b"PK\x03\x04\x14\x00", r"sheet.csv: is a zip archive, such as an .xlsx file, not text"),
        "cut.jsonl.zst": (
            pa.Codec("zstd").compress(row.encode() * 99, asbytes=True)[:40],
            r"cut.jsonl.zst: cannot be read",
        ),
        "no.parquet": (b"no parquet at all", r"no.parquet: cannot be read .*is the file complete"),
    }
    for name, (content, message) in broken.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SourceError, match=message):
            prompts_of(tmp_path / name)


def test_the_fingerprint_is_the_content_not_the_place(tmp_path: Path) -> None:
    prints = []
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        write(tmp_path / place / "a.jsonl", simple_rows(1))
        write(tmp_path / place / "b.jsonl", simple_rows(2))
        prints.append(source_fingerprint(Source(path=str(tmp_path / place))))
    assert prints[0] == prints[1]
    assert list(prints[0]) == ["a.jsonl", "b.jsonl"]
    assert list(source_fingerprint(Source(path=str(tmp_path / "*" / "a.jsonl")))) == ["one/a.jsonl", "two/a.jsonl"]
    assert list(source_fingerprint(Source(path=str(tmp_path / "one" / "a.jsonl")))) == ["a.jsonl"]
    write(tmp_path / "two" / "b.jsonl", simple_rows(3))
    changed = source_fingerprint(Source(path=str(tmp_path / "two")))
    assert [changed[name] == prints[0][name] for name in changed] == [True, False]


# ---- the hub, offline: a folder stands for a data set ----------------------------------------------------------------


@pytest.fixture
def hub_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "tiny-preferences"
    folder.mkdir()
    write(folder / "train.jsonl", [helpsteer_row(score, annotator(score)) for score in (-2, 0, 3)])
    write(folder / "validation.jsonl", [helpsteer_row(1, annotator(1))])
    return folder


def test_a_hub_data_set_is_streamed_by_split(hub_folder: Path) -> None:
    source = Source(path=f"hub:{hub_folder}", format="helpsteer3")
    items = list(read_source(source, "rationale", 0))
    assert reasons(items) == {"kept": 2, "tie": 1}
    assert isinstance(items[0], RationalePair)
    assert items[0].pair.source == "tiny-preferences"
    assert GRAM_R2.check_rationale(items[0].rationale, items[0].label) is None
    assert isinstance(items[1], Dropped)
    assert items[1].where == f"hub:{hub_folder}:2"
    validation = source.model_copy(update={"split": "validation"})
    assert reasons(read_source(validation, "rationale", 0)) == {"kept": 1}
    assert reasons(read_source(source.model_copy(update={"limit": 1}), "rationale", 0)) == {"kept": 1}
    with pytest.raises(SourceError, match="cannot be opened with subset=None, split='test'"):
        list(read_source(source.model_copy(update={"split": "test"}), "rationale", 0))


MIXED = [
    {"prompt": "One?", "chosen": "a", "rejected": "b", "meta": [{"x": 1}]},
    {
        "prompt": [{"role": "user", "content": "Two?"}],
        "chosen": "a",
        "rejected": "b",
        "meta": [{"x": [2, {"y": None}]}],
    },
]


def test_columns_of_mixed_types_are_the_same_from_a_file_and_by_way_of_datasets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`datasets` keeps them as JSON texts, in its own files and in Parquet."""
    from datasets import load_dataset

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "mixed"
    folder.mkdir()
    write(folder / "train.jsonl", MIXED)
    loaded = load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    loaded.save_to_disk(str(tmp_path / "saved"))
    loaded.to_parquet(str(tmp_path / "saved.parquet"))
    for path in (folder, f"hub:{folder}", tmp_path / "saved", tmp_path / "saved.parquet"):
        assert [raw.value for raw in read_rows(Source(path=str(path)))] == MIXED, path
    assert prompts_of(f"hub:{folder}") == ["One?", "Two?"]


def test_values_of_a_hub_data_set_that_cannot_be_represented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    bad = pa.array([b"a", b"caf\xe9"], pa.binary())
    far = pa.array([0, 3_000_000_000_000], pa.int64()).cast(pa.timestamp("s"))
    table = {"prompt": ["One?", "Two?"], "rejected": ["x", "y"], "created": far}
    pq.write_table(pa.table({**table, "chosen": bad.view(pa.string())}), tmp_path / "train.parquet")
    items = list(
        read_source(Source(path=f"hub:{tmp_path}", format="chosen-rejected", max_malformed=1), "preference", 0)
    )
    assert reasons(items) == {"kept": 1, "malformed": 1}
    (tmp_path / "train.parquet").unlink()
    (tmp_path / "train.jsonl").write_text('{"prompt": "One?"}\n{"prompt": \n')
    with pytest.raises(SourceError, match=r"hub:.*: cannot be read after row \d+ \("):
        prompts_of(f"hub:{tmp_path}")


def test_the_fingerprint_of_a_hub_data_set_is_its_coordinates() -> None:
    source = Source(path="hub:owner/name", subset="preference", split="validation", revision="abc")
    assert source_fingerprint(source) == {
        "hub": "owner/name",
        "subset": "preference",
        "split": "validation",
        "revision": "abc",
    }
    assert source_files(source) == []


def test_the_fingerprint_of_a_folder_in_place_of_a_hub_data_set_is_its_content_too(hub_folder: Path) -> None:
    source = Source(path=f"hub:{hub_folder}")
    before = source_fingerprint(source)
    assert list(before["files"]) == ["train.jsonl", "validation.jsonl"]
    write(hub_folder / "train.jsonl", simple_rows(1))
    assert source_fingerprint(source) != before
