"""Scores that are doubtful say so: in the scores, the stage's log and message, and the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data.benchmarks import judgebench, preferences
from data.benchmarks.items import Benchmark
from tasks.benchmark.doubts import doubts
from tasks.benchmark.games import of_rows
from tasks.benchmark.play import benchmark
from tasks.benchmark.score import score
from tasks.benchmark.sets import prepare_set
from tasks.model.chat import ChatEncoder
from tasks.model.engine import Request
from tasks.settings import BenchmarkSet
from tests.conftest import run_with, true_judge
from tests.support.playing import ALWAYS_A, heldout_of, judge_of
from tests.support.scoring import DRAWS
from tests.support.scoring_rows import game_rows, judgebench_row, played, ppe_row, right_always, says, write_rows


def test_a_judge_that_says_one_side_is_doubted(jb: Benchmark) -> None:
    position = "verdicts, each pair in both orders: the judge decides by position"
    assert doubts(played(jb, says({"verdict": "A"}))) == [f"A in 12 of 12 {position}"]
    assert doubts(played(jb, says({"p_first": 0.2}))) == [f"B in 12 of 12 {position}"]
    [tied] = doubts(played(jb, says({"verdict": "tie"})))
    assert tied == "tie in 12 of 12 verdicts, each pair in both orders: the judge decides nothing"
    assert doubts(played(jb, right_always)) == []


@pytest.mark.parametrize(("of_the_other_side", "doubted"), [(4, True), (5, False)])
def test_the_share_of_one_side_is_over_95_percent(of_the_other_side: int, doubted: bool, tmp_path: Path) -> None:
    """100 verdicts: 96 are over 95%, 95 are not."""
    rows = [judgebench_row(f"p{i}") for i in range(50)]
    benchmark = judgebench.load(write_rows(tmp_path / "jb.jsonl", rows))
    games = [
        {**row, "verdict": "B" if i < of_the_other_side else "A"}
        for i, row in enumerate(game_rows(benchmark, right_always))
    ]
    assert bool(doubts(of_rows(benchmark, games))) == doubted


def test_a_single_order_says_nothing_of_sides(jb: Benchmark) -> None:
    """Whoever is right says A each time if the right response is always shown first."""
    rows = [{"prompt": f"{i}?", "response_a": "yes", "response_b": "no", "label": "A", "id": f"p{i}"} for i in range(9)]
    benchmark = preferences.of_rows(rows)
    games = [row for row in game_rows(benchmark, right_always) if row["order"] == "chosen_first"]
    assert {row["verdict"] for row in games} == {"A"}
    assert doubts(of_rows(benchmark, games)) == []


@pytest.mark.parametrize(("silent", "doubted"), [(3, True), (2, False)])
def test_no_verdict_in_over_a_fifth_of_the_games_is_doubted(jb: Benchmark, silent: int, doubted: bool) -> None:
    rows = game_rows(jb, right_always)
    for row in rows[:silent]:
        row |= {"verdict": None, "malformed": "no_answer"}
    games = of_rows(jb, rows)
    assert doubts(games) == ([f"no verdict in {silent} of 12 games (no_answer {silent})"] if doubted else [])
    assert score(games, draws=DRAWS).get("doubts", []) == doubts(games)


def test_a_game_without_verdict_is_no_tie(jb: Benchmark) -> None:
    found = score(played(jb, says({"verdict": None})), draws=DRAWS)["games"]
    assert (found["ties"], found["unparsed"]) == (0.0, 1.0)
    found = score(played(jb, says({"verdict": "tie"})), draws=DRAWS)["games"]
    assert (found["ties"], found["unparsed"]) == (1.0, 0.0)


# ---- in a run ---------------------------------------------------------------------------------------------------------------


def warnings_of(tmp_path: Path, encoder: ChatEncoder, reply: Any, **sections: object) -> Any:
    """What a stage says of a judge that replies so."""
    run = run_with(tmp_path, encoder, reply, **sections)
    return benchmark(run, 0, judge_of(run), heldout_of(run)).manifest.metrics.get("warnings")


def test_a_stage_says_that_its_judge_goes_by_position(tmp_path: Path, encoder: ChatEncoder) -> None:
    [warning] = warnings_of(tmp_path, encoder, lambda request, j: ALWAYS_A)
    assert warning == "A in 12 of 12 verdicts, each pair in both orders: the judge decides by position"


def test_a_stage_with_many_malformed_replies_quotes_the_first(tmp_path: Path, encoder: ChatEncoder) -> None:
    right, n = true_judge(encoder), iter(range(99))

    def reply(request: Request, j: int) -> str:
        return f"I choose\nnumber {i}" if (i := next(n)) % 3 == 0 else right(request, j)

    [warning] = warnings_of(tmp_path, encoder, reply)
    assert warning.startswith("no verdict in 4 of 12 games (")
    assert warning.endswith("; the first malformed reply: 'I choose number 0'")


def test_prompts_that_do_not_fit_have_no_reply_to_quote(tmp_path: Path, encoder: ChatEncoder) -> None:
    models = {"judge_base": "none", "prover_base": "none", "judge_prompt": "compact", "max_tokens": 64 + 22}
    found = warnings_of(tmp_path, encoder, true_judge(encoder), models=models)
    rows, games = found or ("", "")
    assert rows.startswith("over half of the rows are lost to one reason: prompt_too_long, 6 of 6.")
    assert games == "no verdict in 12 of 12 games (prompt_too_long 12)"


def test_a_good_judge_is_not_doubted(tmp_path: Path, encoder: ChatEncoder) -> None:
    assert warnings_of(tmp_path, encoder, true_judge(encoder)) is None


def test_a_knockout_is_doubted_by_the_games_of_all_its_levels(tmp_path: Path, encoder: ChatEncoder) -> None:
    path = write_rows(tmp_path / "set.jsonl", [ppe_row("1", [False, False, True, False])])
    run = run_with(tmp_path, encoder, lambda request, j: "no idea")
    made = benchmark(run, 0, judge_of(run), prepare_set(run, BenchmarkSet(benchmark="ppe", data=path)))
    [warning] = made.manifest.metrics["warnings"]
    assert warning.startswith("no verdict in 6 of 6 games (")
    assert warning.endswith("'no idea'")
