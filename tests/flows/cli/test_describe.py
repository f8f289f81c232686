"""``gram-r2 describe``: what it says of files written here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from data.sources.catalog import DATASETS
from tests.support.data_sets import ROWS
from tests.support.describing import MIXED, describe, own, write


def test_lengths_are_said_in_quantiles(tmp_path: Path) -> None:
    text = describe(write(tmp_path / "rows.jsonl", [own(0, prompt="x" * n) for n in range(101, 0, -1)]))
    assert re.search(r"prompt +1 +11 +51 +91 +100 +101\n", text)


def test_a_file_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    text = describe(write(tmp_path / "rows.jsonl", MIXED))
    assert "Format detected: only records reads 9 of the first 11 rows." in text
    for line in (
        "11 rows\n",
        "5 usable as unlabeled pairs (labels ignored)",
        "4 usable as labeled pairs\n",
        "2 usable as labeled pairs with a rationale",
        "2 duplicates of an earlier pair; first: rows.jsonl:3",
        "1 contradicting an earlier pair (opposite label); first: rows.jsonl:5",
        "2 malformed; first: rows.jsonl:8: field 'label': must be",
        "with max_malformed = 2 it drops and counts them",
        "1 empty_response; first: rows.jsonl:7: the second response is empty",
        "4   50.0%  first is better (A)",
        "1   12.5%  no label",
        "A run keeps the positions.",
        "5 without a rationale; first: rows.jsonl:1: no text argues for the label",
        "1 not in the format that the prompt gram-r2 requires; first: rows.jsonl:11: missing_headings",
        "│ Question 0?",
        "Correct answer:\n│ A",
    ):
        assert line in text, line
    assert "max_malformed = 2" in text
    assert text.count("[The Start of Assistant A's Response]") == 2


def test_the_examples_are_what_the_judge_sees(tmp_path: Path) -> None:
    text = describe(
        write(tmp_path / "rows.jsonl", [own(1, rationale="Good is said. So A is better.")]), "--prompt", "compact"
    )
    example = text.split("rows.jsonl:1:\n")[-1]
    shown, target = example.split("Correct answer:\n")
    lines = [line.removeprefix("│").removeprefix(" ") for line in shown.splitlines()]
    assert lines == ["Question 1?", "A: good 1", "B: bad 1", "Better?"]
    assert target.strip() == "│ <think> Good is said. So A is better. </think><answer>A</answer>"


def test_sets_that_name_the_better_response_have_no_balance(tmp_path: Path) -> None:
    text = describe(write(tmp_path / "rows.jsonl", ROWS["hh-rlhf"] * 4))
    assert "no positions and no label balance" in " ".join(text.split())
    assert "first is better (A)" not in text
    assert "3 duplicates" in text


def test_sets_with_places_of_no_meaning(tmp_path: Path) -> None:
    text = describe(write(tmp_path / "rows.jsonl", ROWS["code-ultrafeedback"]))
    assert "3 rows, 8 pairs (a row can hold several)" in text
    assert "1 few_responses" in text
    assert re.search(r"\b1 +14\.3% +tie", text)
    assert "A run draws positions with its seed." in text


@pytest.mark.parametrize("name", [name for name in ROWS if DATASETS[name].format != "records"])
def test_the_format_of_every_known_set_is_found(tmp_path: Path, name: str) -> None:
    text = describe(write(tmp_path / "rows.jsonl", ROWS[name]))  # type: ignore[index]
    assert f"only {DATASETS[name].format} reads" in text  # type: ignore[index]


def test_control_characters_of_the_data_reach_no_terminal(tmp_path: Path) -> None:
    changes = {"prompt": "\x1b[2J\x07Hello\r\nthere?", "\x1b[31mred\n": {"\x07": 1}}
    text = describe(write(tmp_path / "rows.jsonl", [own(1, **changes), own(2, "\x1b")]))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[2J" in text


def test_every_line_fits_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "72")
    text = describe(write(tmp_path / "rows.jsonl", [*ROWS["helpsteer3"], {"a long column of no use": "word " * 300}]))
    assert max(len(line) for line in text.splitlines() if str(tmp_path) not in line) <= 72


def test_a_preference_set_as_a_benchmark_says_which_columns_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [{**own(i), "votes": 3} for i in range(3)])
    assert "Not read: votes. All other columns are read." in describe(path, "--benchmark", "preferences")
