"""Games in files: what is refused, by line, and what is left to --partial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data.benchmarks import judgebench
from data.benchmarks.items import Benchmark
from tasks.benchmark.games import GamesError, read_games
from tasks.benchmark.score import score
from tests.support.scoring_rows import (
    Row,
    game_rows,
    judgebench_row,
    right_always,
    write_rows,
)

DRAWS = 50


@pytest.fixture
def jb(tmp_path: Path) -> Benchmark:
    """Three knowledge pairs and one in each other category of JudgeBench."""
    sources = ["mmlu-pro-law"] * 3 + ["livebench-reasoning", "livebench-math", "livecodebench"]
    rows = [judgebench_row(f"p{i}", source, "A>B" if i % 2 else "B>A") for i, source in enumerate(sources)]
    return judgebench.load(write_rows(tmp_path / "jb.jsonl", rows))


# ---- files --------------------------------------------------------------------------------------------


def write_games(tmp_path: Path, rows: list[Row]) -> Path:
    return Path(write_rows(tmp_path / "games.jsonl", rows))


def broken(rows: list[Row], index: int, **changes: Any) -> list[Row]:
    """The rows with one changed; a field set to … is left out."""
    kept = {key: value for key, value in {**rows[index], **changes}.items() if value is not ...}
    return [*rows[:index], kept, *rows[index + 1 :]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": "p77"}, "line 3: id: the data of judgebench has no 'p77'; its ids look like 'p0'"),
        ({"cell": "0-1"}, "line 3: cell: 'p1' has no cell '0-1'"),
        ({"order": "chosen_first"}, "line 3: order: must be one of 'AB', 'BA', got 'chosen_first'"),
        ({"vote": -1}, "line 3: vote: must be an integer of at least 0, got -1"),
        ({"vote": True}, "line 3: vote: must be an integer of at least 0, got True"),
        ({"verdict": "C"}, "line 3: verdict: must be 'A', 'B', 'tie' or null, got 'C'"),
        ({"verdict": ...}, "line 3: a game needs either 'verdict' or 'p_first'"),
        ({"verdict": ..., "p_first": 1.5}, "line 3: p_first: must be from 0 to 1, got 1.5"),
        ({"verdict": ..., "p_first": "0.5"}, "line 3: p_first: must be a probability or null"),
        ({"verdict": "A", "p_first": 0.2}, "line 3: verdict 'A' contradicts p_first = 0.2"),
        ({"id": ...}, "line 3: id: is missing; the row has cell, order, vote, verdict"),
        ({"id": None}, "line 3: id: is missing"),
        ({"vote": 0.5}, "line 3: vote: must be an integer of at least 0, got 0.5"),
        ({"vote": float("nan")}, "line 3: vote: must be an integer of at least 0, got nan"),
        ({"verdict": ..., "p_first": float("nan")}, "line 3: p_first: must be from 0 to 1, got nan"),
        ({"malformed": "no_answer"}, "line 3: malformed: is 'no_answer', but the game has the verdict '[AB]'"),
        (
            {"verdict": None, "p_first": 0.9, "malformed": "no_answer"},
            "line 3: malformed: is 'no_answer', but the game has the verdict 'A'",
        ),
        ({"n_tokens": "many"}, "line 3: n_tokens: must be an integer of at least 0, got 'many'"),
        ({"malformed": {}}, "line 3: malformed: must be a string or null"),
        ({"truncated": "false"}, "line 3: truncated: must be true, false or null"),
        ({"benchmark": "rm-bench"}, "line 3: benchmark: the game is from 'rm-bench', not from 'judgebench'"),
        ({"order": "BA"}, "line 4: the game p1 BA is a duplicate, first seen in .*line 3"),
    ],
)
def test_a_game_that_is_none_is_named(jb: Benchmark, tmp_path: Path, changes: Row, message: str) -> None:
    with pytest.raises(GamesError, match=message):
        read_games(jb, write_games(tmp_path, broken(game_rows(jb, right_always), 2, **changes)))


def test_a_column_that_is_null_counts_as_left_out(jb: Benchmark, tmp_path: Path) -> None:
    """As a table stores rows: every row has every column, and integers beside nulls are floats."""
    rows = game_rows(jb, right_always)
    empty = {"cell": None, "vote": None, "p_first": None, "malformed": None, "truncated": None, "n_tokens": None}
    probable: list[Row] = [{**row, **empty, "verdict": None, "p_first": float(row["verdict"] == "A")} for row in rows]
    as_floats = [{**row, "vote": 0.0, "n_tokens": 12.0} for row in rows]
    for some, tokens in (([{**row, **empty} for row in rows], 0.0), (probable, 0.0), (as_floats, 12.0)):
        scored = score(read_games(jb, write_games(tmp_path, some)), draws=DRAWS)
        assert (scored["micro"], scored["games"]["games"], scored["games"]["unparsed"]) == (1.0, 12, 0.0)
        assert (scored["games"]["votes"], scored["games"]["mean_tokens"]) == (1, tokens)
    silent = [{**row, **empty, "verdict": None} for row in rows]
    assert score(read_games(jb, write_games(tmp_path, silent)), draws=DRAWS)["games"]["unparsed"] == 1.0


def test_games_may_be_in_several_files(jb: Benchmark, tmp_path: Path) -> None:
    rows = game_rows(jb, right_always)
    paths = [Path(write_rows(tmp_path / f"{i}.jsonl", some)) for i, some in enumerate((rows[:5], rows[5:]))]
    assert score(read_games(jb, *paths), draws=DRAWS)["micro"] == 1.0
    with pytest.raises(GamesError, match=r"1\.jsonl, line 1: the game p2 BA is a duplicate, first seen in .*1\.jsonl"):
        read_games(jb, *paths, paths[1])


def test_a_gap_in_a_category_that_is_there_is_refused(jb: Benchmark, tmp_path: Path) -> None:
    path = write_games(tmp_path, game_rows(jb, right_always)[1:])
    with pytest.raises(GamesError, match=r"1 game is missing \(1 in knowledge\), such as p0 AB\. Play it, .*"):
        read_games(jb, path)
    scored = score(read_games(jb, path, partial=True), partial=True, draws=DRAWS)
    assert scored["partial"] == {"knowledge": {"games": 5, "of": 6}}
    assert (scored["complete"], scored["categories"]["knowledge"]) == (False, 1.0)


def test_a_vote_that_is_missing_is_a_gap(jb: Benchmark, tmp_path: Path) -> None:
    path = write_games(tmp_path, game_rows(jb, right_always, votes=2)[:-1])
    with pytest.raises(GamesError, match="such as p5 BA vote 1"):
        read_games(jb, path)


def test_votes_are_numbered_without_gaps(jb: Benchmark, tmp_path: Path) -> None:
    rows = game_rows(jb, right_always)
    path = write_games(tmp_path, broken(rows, 0, vote=3_000_000))
    with pytest.raises(GamesError, match="without gaps; they are 0, 3000000, the last 3000000"):
        read_games(jb, path)


def test_a_category_without_games_is_no_gap(jb: Benchmark, tmp_path: Path) -> None:
    path = write_games(tmp_path, [r for r in game_rows(jb, right_always) if r["id"] != "p5"])
    scored = score(read_games(jb, path), draws=DRAWS)
    assert (scored["missing"], scored["total"], scored["macro"]) == (["coding"], None, None)
