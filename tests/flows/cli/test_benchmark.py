"""``gram-r2 benchmark``: what it prints of stored games, and what it refuses; the numbers are tested in tests/tasks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data.benchmarks import judgebench
from tests.support.commands import Ended, gram_r2
from tests.support.scoring_rows import Row, game_rows, judgebench_row, right_always, write_rows


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    """Every game of four pairs of JudgeBench, one in each category, whose file is jb.jsonl."""
    sources = ("mmlu-pro-law", "livebench-reasoning", "livebench-math", "livecodebench")
    made = [judgebench_row(f"p{i}", source) for i, source in enumerate(sources)]
    return game_rows(judgebench.load(write_rows(tmp_path / "jb.jsonl", made)), right_always)


def benchmark(command: str, folder: Path, *arguments: str) -> Ended:
    return gram_r2("benchmark", command, "--benchmark", "judgebench", "--data", str(folder / "jb.jsonl"), *arguments)


def test_games_are_scored_as_json(rows: list[Row], tmp_path: Path) -> None:
    files = [write_rows(tmp_path / f"{i}.jsonl", some) for i, some in enumerate((rows[:3], rows[3:]))]
    done = benchmark("score", tmp_path, *files, "--draws", "50")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["micro"] == 1.0


def test_a_judge_that_goes_by_position_is_a_warning(rows: list[Row], tmp_path: Path) -> None:
    games = write_rows(tmp_path / "games.jsonl", [{**row, "verdict": "A"} for row in rows])
    done = benchmark("score", tmp_path, games)
    assert done.code == 0
    assert done.err.startswith("warning: A in 8 of 8 verdicts")
    assert json.loads(done.out)["doubts"][0].startswith("A in 8 of 8 verdicts")


def test_two_judges_are_compared(rows: list[Row], tmp_path: Path) -> None:
    games, chart = write_rows(tmp_path / "games.jsonl", rows), tmp_path / "chart.svg"
    done = benchmark("compare", tmp_path, games, games, "--names", "mine", "theirs", "--chart", str(chart))
    assert (done.code, done.err) == (0, "")
    assert "| macro | 100.0% | 100.0% | +0.0 |" in done.out
    assert "mine" in done.out
    assert "<svg" in chart.read_text()
    assert isinstance(json.loads(benchmark("compare", tmp_path, games, games, "--json").out), dict)


def test_games_that_are_missing_are_refused_or_left_out(rows: list[Row], tmp_path: Path) -> None:
    games = write_rows(tmp_path / "games.jsonl", rows[1:])
    done = benchmark("score", tmp_path, games)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "1 game is missing" in done.err
    assert benchmark("score", tmp_path, games, "--partial").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "test"], "split: judgebench has gpt and claude, got 'test'"),
        (["--format", "columns"], "format, columns and subset are only for preferences"),
        (["--columns", "{"], "--columns: is not JSON"),
        (["--limit", "2"], "a limit of 2 leaves some of its parts without an item; at least 4 are needed"),
        (["--data", "none.jsonl"], "'none.jsonl': there is no such file"),
    ],
)
def test_bad_input_is_one_line(rows: list[Row], tmp_path: Path, arguments: list[str], message: str) -> None:
    done = benchmark("score", tmp_path, write_rows(tmp_path / "games.jsonl", rows), *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err


def test_a_file_of_games_that_is_not_there_is_named(rows: list[Row], tmp_path: Path) -> None:
    done = benchmark("score", tmp_path, str(tmp_path / "none.jsonl"))
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "none.jsonl" in done.err
