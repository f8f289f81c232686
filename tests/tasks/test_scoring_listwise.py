"""IF-RewardBench's scores: ratings made of all pairs, held against the graph of preferences."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from data.benchmarks import if_reward_bench
from data.benchmarks.items import Benchmark, Cell, Item
from data.seeds import derive_seed
from tasks.benchmark.games import of_rows
from tasks.benchmark.listwise import agreement, elo
from tasks.benchmark.score import parts, score
from tests.support.scoring import DRAWS
from tests.support.scoring_rows import (
    Judge,
    Row,
    by_score,
    game_rows,
    if_reward_bench_row,
    played,
    says,
    verdict,
    write_rows,
)

EDGES = [(0, 1), (0, 3), (1, 3), (2, 3)]
BY_NUMBER = by_score(lambda item, i: -float(i))
"""A judge that ranks the responses as they are listed."""


def bench_of(tmp_path: Path, **sizes: int) -> Benchmark:
    """One instruction of each type, or as many as are given."""
    rows = [
        if_reward_bench_row(100 * k + i, EDGES, kind=kind)
        for k, kind in enumerate(if_reward_bench.TYPES)
        for i in range(sizes.get(kind, 1))
    ]
    return if_reward_bench.load(write_rows(tmp_path / "any.json", rows))


# ---- the parts ----------------------------------------------------------------------------------------------------------


def test_the_ratings_are_those_of_the_authors_code() -> None:
    """What compute_elo_with_indices of analysis_overall_assessment.py at c192fe96 gives for these matches after
    random.seed(7): the first and the third are almost equal, for 0 > 1 > 2 > 0 is a cycle. A single match needs no seed.
    """
    matches = [(0, 1), (2, 0), (0, 3), (1, 2), (1, 3), (3, 2)]
    assert elo(4, matches, 7) == pytest.approx(
        [1295.4850239503844, 1295.3569906305509, 1104.7222854795032, 1104.4356999395613], abs=1e-9
    )
    assert elo(2, [(0, 1)], 3) == pytest.approx([1463.0406821505637, 936.9593178494359], abs=1e-9)


def test_ratings_are_in_the_order_of_a_judge_without_cycles_whatever_the_seed() -> None:
    matches = [(i, j) for i in range(8) for j in range(i + 1, 8)]
    for seed in range(5):
        ratings = elo(8, matches, seed)
        assert ratings == sorted(ratings, reverse=True)
    assert elo(8, matches, 1) == elo(8, matches, 1) != elo(8, matches, 2)
    assert elo(3, [], 0) == [1200.0] * 3


@pytest.mark.parametrize(
    ("ratings", "right", "kendall"),
    [
        ([4, 3, 2, 1], [True] * 4, 1.0),
        ([1, 2, 3, 4], [False] * 4, -1.0),
        ([2, 2, 2, 2], [False] * 4, 0.0),  # four ties: 0 ÷ max(1, 0)
        ([4, 4, 2, 1], [False, True, True, True], 3 / math.sqrt(3 * 4)),
        ([1, 4, 3, 1], [False, False, True, True], (2 - 1) / math.sqrt(3 * 4)),
    ],
)
def test_accuracy_and_kendall_by_hand(ratings: list[int], right: list[bool], kendall: float) -> None:
    assert agreement(ratings, EDGES) == (right, pytest.approx(kendall))
    assert agreement([2, 1], [(0, 1)]) == ([True], 1.0)


# ---- the scores ---------------------------------------------------------------------------------------------------------


def test_types_count_alike_and_instructions_within_them(tmp_path: Path) -> None:
    """Right on one of four instructions, which is half of its type: one sixth of the three types' mean."""
    benchmark = bench_of(tmp_path, Single_Turn=2)
    judge: Judge = lambda item, cell, order: verdict((item.id == "0") == (cell.first < cell.second), order)  # noqa: E731
    scored = score(played(benchmark, judge), draws=DRAWS)
    assert scored["types"]["Single_Turn"]["accuracy"] == 0.5
    assert (scored["total"], scored["accuracy"]) == (round(1 / 6, 10), round(1 / 6, 10))
    assert scored["kendall"] == round((0 - 1 - 1) / 3, 10)
    assert parts(scored) == {"Single_Turn": 0.5, "Multi_Turn": 0.0, "System_Prompt": 0.0}
    assert score(played(benchmark, BY_NUMBER), draws=DRAWS)["total"] == 1.0


@pytest.mark.parametrize("answer", [{"verdict": None}, {"verdict": "tie"}, {"verdict": "A"}])
def test_without_a_winner_over_both_orders_nothing_is_ranked(tmp_path: Path, answer: Row) -> None:
    scored = score(played(bench_of(tmp_path), says(answer)), draws=DRAWS)
    assert (scored["total"], scored["kendall"]) == (0.0, 0.0)


def test_single_game_takes_one_drawn_order_of_each_pair(tmp_path: Path) -> None:
    """The judge is right in the drawn order and says the opposite in the other: both orders cancel, one game is right."""
    benchmark = bench_of(tmp_path)

    def judge(item: Item, cell: Cell, order: int) -> Row:
        return verdict(order == derive_seed(0, item.id, cell.name) % 2, order)

    drawn = {derive_seed(0, item.id, cell.name) % 2 for item in benchmark.items for cell in item.cells}
    assert drawn == {0, 1}
    scored = score(played(benchmark, judge), draws=DRAWS)
    assert (scored["total"], scored["single_game_accuracy"], scored["single_game_kendall"]) == (0.0, 1.0, 1.0)
    assert "one order of each" in scored["note"]


def test_an_instruction_without_all_its_games_does_not_count(tmp_path: Path) -> None:
    benchmark = bench_of(tmp_path, Single_Turn=2)
    rows = [
        row for row in game_rows(benchmark, BY_NUMBER) if (row["id"], row["cell"], row["order"]) != ("1", "2-3", "BA")
    ]
    rows = [{**row, "verdict": None} if row["id"] == "1" else row for row in rows]
    scored = score(of_rows(benchmark, rows), partial=True, draws=DRAWS)
    assert (scored["types"]["Single_Turn"]["accuracy"], scored["total"]) == (1.0, 1.0)
    assert scored["partial"] == {"Single_Turn": {"games": 23, "of": 24}}


def test_a_missing_type_leaves_no_total(tmp_path: Path) -> None:
    benchmark = if_reward_bench.load(write_rows(tmp_path / "a.json", [if_reward_bench_row(1, EDGES)]))
    scored = score(played(benchmark, BY_NUMBER), draws=DRAWS)
    assert (scored["total"], scored["kendall"], scored["missing"]) == (None, None, ["Multi_Turn", "System_Prompt"])
