"""Rows found by id: in a small file by searching it, in a large one by its index."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data.files import sha256_file
from tasks.trust import rows_by_id
from tasks.trust.rows_by_id import RowFile, index_all, index_folder

ROWS = [
    {"id": "a-1", "text": 'it says "id": "a-2" here'},
    {"id": "a-2", "n": 1},
    {"id": None, "reason": "not_needed", "rows": 3},
    {"row": 7, "id": "b"},
    {"id": "a-2", "n": 2},
    {"id": 'quoted "é\n"'},
]


@pytest.fixture(params=["searched", "indexed"])
def file(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RowFile:
    monkeypatch.setattr(rows_by_id, "SMALL", 1 << 20 if request.param == "searched" else 0)
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS), encoding="utf-8")
    return RowFile.of(path, sha256_file(path), tmp_path)


def test_every_row_of_an_id_is_found_with_its_number(file: RowFile) -> None:
    for identity in ("a-1", "a-2", "b", 'quoted "é\n"'):
        assert file.rows(identity) == [(i, row) for i, row in enumerate(ROWS) if row["id"] == identity]
    assert file.rows("a") == file.rows("") == file.rows("c") == file.rows("\ud800") == []


def test_ids_are_found_by_their_beginning_each_once_and_not_in_texts(file: RowFile) -> None:
    assert file.ids_from("a-", 9) == ["a-1", "a-2"]
    assert file.ids_from("a-", 1) == ["a-1"]
    assert file.ids_from('quoted "', 9) == ['quoted "é\n"']
    assert (file.ids_from("c", 9), file.ids_from("%", 9)) == ([], [])


def test_rows_are_found_by_what_their_line_says(file: RowFile) -> None:
    assert file.rows_with("not_need", "ed") == [ROWS[2]]
    assert file.rows_with("a-2", '", "n": 2') == [ROWS[4]]


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    file = RowFile.of(tmp_path / "empty.jsonl", "0", tmp_path)
    assert file.rows("a") == file.rows_with("a", "") == []
    assert file.ids_from("", 1) == []


def test_an_index_is_made_once_for_a_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_by_id, "SMALL", 0)
    paths = [tmp_path / "rows.jsonl", tmp_path / "linked.jsonl"]
    for path in paths:
        path.write_text('{"id": "a"}\n')
    files = [RowFile.of(path, "0123456789abcdef", tmp_path) for path in paths]
    said: list[str] = []
    index_all(files, said.append)
    [index] = tmp_path.glob("*.sqlite")
    made = index.stat().st_mtime_ns
    index_all(files, said.append)
    assert (index.stat().st_mtime_ns, len(said)) == (made, 1)
    assert [file.rows("a") for file in files] == [[(0, {"id": "a"})]] * 2
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]


def test_indexes_lie_in_the_run_or_if_it_cannot_be_written_to_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAM_R2_CACHE", str(tmp_path / "cache"))
    (tmp_path / "run").mkdir()
    assert index_folder(tmp_path / "run") == tmp_path / "run/.index"
    (tmp_path / "file").touch()  # no folder can be made in it, not even by root
    assert index_folder(tmp_path / "file") == tmp_path / "cache/index"
