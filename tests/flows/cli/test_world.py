"""``gram-r2 world``: the files are tested in tests/data/test_world.py."""

from __future__ import annotations

from pathlib import Path

from data.english import splits as english
from data.world.splits import SIZES
from tests.support.commands import gram_r2


def test_each_file_has_as_many_pairs_as_are_asked_for(tmp_path: Path) -> None:
    done = gram_r2("world", "--out", str(tmp_path), "--seed", "3", "--unlabeled", "6", "--heldout", "0")
    assert done.code == 0
    rows = {file.stem: len(file.read_text().splitlines()) for file in tmp_path.iterdir()}
    assert rows == {**SIZES, "unlabeled": 6, "heldout": 0}
    assert f"{tmp_path}/unlabeled.jsonl: 6 pairs, 3 labeled A\n" in done.out


def test_other_files_are_not_written_over(tmp_path: Path) -> None:
    assert gram_r2("world", "--out", str(tmp_path), "--seed", "0").code == 0
    assert gram_r2("world", "--out", str(tmp_path), "--seed", "1", "--english").code == 0, "they can be drawn again"
    mine = '{"prompt": "Why?", "chosen": "yes", "rejected": "no"}\n'
    (tmp_path / "labeled.jsonl").write_text(mine)
    done = gram_r2("world", "--out", str(tmp_path), "--seed", "0")
    assert (done.code, done.err) == (
        2, f"{tmp_path}/labeled.jsonl is there already, with other data: give another folder with --out\n",
    )  # fmt: skip
    assert (tmp_path / "labeled.jsonl").read_text() == mine


def test_a_negative_size_is_refused(tmp_path: Path) -> None:
    done = gram_r2("world", "--out", str(tmp_path), "--seed", "0", "--labeled", "-1")
    assert (done.code, done.out) == (2, "")
    assert "--labeled" in done.err
    assert not list(tmp_path.iterdir())


def test_the_world_in_english_has_its_own_sizes(tmp_path: Path) -> None:
    done = gram_r2("world", "--english", "--words-apart", "--out", str(tmp_path), "--seed", "3", "--unlabeled", "6")
    assert done.code == 0
    rows = {file.stem: len(file.read_text().splitlines()) for file in tmp_path.iterdir()}
    assert rows == {**english.SIZES, "unlabeled": 6}
    assert "Which is nicer?" in (tmp_path / "labeled.jsonl").read_text()


def test_words_are_kept_apart_in_english_only(tmp_path: Path) -> None:
    done = gram_r2("world", "--words-apart", "--out", str(tmp_path), "--seed", "0")
    assert (done.code, done.out) == (2, "")
    assert done.err == "--words-apart is of the world in English: give --english too, or leave it out\n"
