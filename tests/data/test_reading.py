"""Which rows of a source are read: its first ones, or some drawn from the whole of it; and that blocks of them can be sent."""

from __future__ import annotations

import gzip
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from data.files import BLOCK_ROWS
from data.sources import rows
from data.sources.rows import RowBlock
from data.sources.sources import Dropped, PreferencePair, Source, SourceError, read_rows, read_source, row_blocks
from data.sources.unread import unread_columns
from tests.support.sources import simple_rows, write

N = 2 * BLOCK_ROWS + 100


@pytest.fixture
def path(tmp_path: Path) -> str:
    return write(tmp_path / "rows.jsonl", simple_rows(N))


def numbers(path: str, **settings: Any) -> list[int]:
    return [raw.number for raw in read_rows(Source(path=path, **settings))]


# ---- sample ----------------------------------------------------------------------------------------------------------


def test_a_sample_is_drawn_from_the_whole_file_and_stays_in_its_order(path: str) -> None:
    drawn = numbers(path, sample=100)
    assert len(drawn) == len(set(drawn)) == 100
    assert drawn == sorted(drawn)
    assert drawn[0] < 40
    assert drawn[-1] > N - 40
    [first] = [raw for raw in read_rows(Source(path=path, sample=100)) if raw.number == drawn[0]]
    assert first.value == simple_rows(N)[drawn[0] - 1]
    assert first.where == f"{path}:{drawn[0]}"


def test_the_seed_of_the_source_decides_which_rows_and_nothing_else_does(path: str, tmp_path: Path) -> None:
    copy = write(tmp_path / "copy.jsonl", simple_rows(N))
    assert numbers(path, sample=50) == numbers(copy, sample=50)
    assert numbers(path, sample=50) != numbers(path, sample=50, seed=1)
    runs = [read_source(Source(path=path, sample=50, format="chosen-rejected"), "preference", seed) for seed in (0, 1)]
    prompts = [[item.pair.prompt for item in items if isinstance(item, PreferencePair)] for items in runs]
    assert prompts[0] == prompts[1]


def test_every_row_is_drawn_equally_often(tmp_path: Path) -> None:
    path = write(tmp_path / "few.jsonl", simple_rows(10))
    times = Counter(number for seed in range(2000) for number in numbers(path, sample=3, seed=seed))
    assert sorted(times) == list(range(1, 11))
    # 600 each; the standard deviation is √(2000 · 0.3 · 0.7) ≈ 20
    assert all(abs(n - 600) < 90 for n in times.values())


def test_a_sample_of_more_rows_than_there_are_is_all_of_them(path: str) -> None:
    assert numbers(path, sample=N) == numbers(path, sample=10 * N) == numbers(path)


def test_a_limit_comes_before_the_sample(path: str) -> None:
    assert max(numbers(path, sample=20, limit=40)) <= 40
    assert numbers(path, sample=20, limit=10) == list(range(1, 11))


def test_several_files_of_any_kind_are_one_source(tmp_path: Path) -> None:
    folder = tmp_path / "several"
    folder.mkdir()
    write(folder / "a.jsonl", simple_rows(300))
    pq.write_table(pa.Table.from_pylist(simple_rows(300)), folder / "b.parquet", row_group_size=70)
    drawn = [(Path(raw.file).name, raw.number, raw.value) for raw in read_rows(Source(path=str(folder), sample=200))]
    assert len(drawn) == 200
    assert 70 < sum(name == "a.jsonl" for name, _, _ in drawn) < 130
    assert all(value == simple_rows(number)[-1] for _, number, value in drawn)


def test_a_hub_data_set_is_drawn_from_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    write(tmp_path / "train.jsonl", simple_rows(N))
    drawn = numbers(f"hub:{tmp_path}", sample=30)
    assert drawn == numbers(str(tmp_path / "train.jsonl"), sample=30)


def test_rows_that_are_not_drawn_are_not_parsed_and_count_as_little_as_those_behind_a_limit(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [*simple_rows(5), *["no row"] * 5])
    source = Source(path=path, sample=5, max_malformed=5, format="chosen-rejected")
    items = list(read_source(source, "preference", 0))
    assert len(items) == 5
    n = sum(isinstance(item, Dropped) for item in items)
    assert 0 < n < 5
    with pytest.raises(SourceError, match=r"row \d+: the row must be an object .*raise max_malformed"):
        list(read_source(source.model_copy(update={"max_malformed": n - 1}), "preference", 0))


def test_the_rows_are_not_counted_before_they_are_read(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks at the start open a source, and its first rows are looked at for their columns: neither may cost a pass."""

    def count(file: str) -> int:
        pytest.fail("the rows were counted")

    monkeypatch.setattr("data.sources.rows.count_rows", count)
    source = Source(path=path, sample=3, format="chosen-rejected")
    read_source(source, "preference", 0)
    assert unread_columns(source) == []


def test_a_file_that_shrinks_between_counting_and_reading_is_an_error(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.sources.rows.count_rows", lambda file: 2 * N)
    with pytest.raises(SourceError, match=rf"ends {N} rows earlier than when its {2 * N:,} rows were counted"):
        numbers(path, sample=2 * N)


def test_a_sample_is_at_least_one_row_and_no_part_of_the_keys_of_sources_without_one() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        Source(path="x", sample=0)
    assert "sample" not in Source(path="x").model_dump(mode="json")
    assert Source(path="x", sample=7).model_dump(mode="json")["sample"] == 7


# ---- blocks ----------------------------------------------------------------------------------------------------------


def sent(block: RowBlock) -> RowBlock:
    """The block as another process gets it."""
    received: RowBlock = pickle.loads(pickle.dumps(block))
    return received


def test_rows_are_the_same_in_blocks_that_are_sent_elsewhere(tmp_path: Path) -> None:
    wanted = simple_rows(N)
    table = pa.Table.from_pylist(wanted)
    write(tmp_path / "x.jsonl", wanted)
    (tmp_path / "x.json").write_text(
        (tmp_path / "x.jsonl").read_text().replace("\n", ",").join("[]").replace(",]", "]")
    )
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=200)
    with pa.ipc.new_file(tmp_path / "x.arrow", table.schema) as stream:
        stream.write(table)
    for kind in ("jsonl", "json", "parquet", "arrow"):
        blocks = [sent(block) for block in row_blocks(Source(path=str(tmp_path / f"x.{kind}")))]
        assert max(map(len, blocks)) <= BLOCK_ROWS
        found = [(raw.number, raw.value) for block in blocks for raw in block.rows()]
        assert found == list(enumerate(wanted, start=1)), kind


def test_a_block_of_a_table_is_sent_without_the_rest_of_the_table(tmp_path: Path) -> None:
    rows_of_1_kb = [{"a": f"{i:01000d}"} for i in range(4 * BLOCK_ROWS)]
    pq.write_table(pa.Table.from_pylist(rows_of_1_kb), tmp_path / "x.parquet", use_dictionary=False)
    block = next(row_blocks(Source(path=str(tmp_path / "x.parquet"))))
    assert len(pickle.dumps(block)) < 1.2 * BLOCK_ROWS * 1000


def test_an_error_in_a_file_comes_after_the_rows_before_it(tmp_path: Path) -> None:
    path = tmp_path / "cut.jsonl.gz"
    text = "".join(f'{{"n": {i}}}\n' for i in range(20_000))
    whole = gzip.compress(text.encode(), mtime=0)
    path.write_bytes(whole[: len(whole) // 2])
    seen: list[RowBlock] = []
    with pytest.raises(SourceError, match="is the file complete"):
        seen.extend(rows.read_blocks(str(path)))
    assert len(seen) > 1
    assert 0 < len(seen[-1]) < BLOCK_ROWS


def test_a_hub_data_set_whose_rows_a_script_makes_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "scripted"
    folder.mkdir()
    (folder / "scripted.py").write_text("")
    refusal = r'scripted: its rows are made by a script.* set revision = "refs/convert/parquet".* save_to_disk$'
    with pytest.raises(SourceError, match=refusal):
        list(read_rows(Source(path=f"hub:{folder}")))
    with pytest.raises(SourceError, match=refusal):
        rows.declared_rows(str(folder), None, "train", None)
