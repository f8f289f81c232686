"""The best of several responses: RewardBench 2 with Ties, PPE's curve, and the knockouts behind it."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.benchmarks import ppe, reward_bench, rm_bench
from data.benchmarks.items import Benchmark, Item
from tasks.benchmark.best_of import knockout
from tasks.benchmark.compare import compare
from tasks.benchmark.games import Game, GamesError, of_rows
from tasks.benchmark.rules import mean_win
from tasks.benchmark.score import score
from tests.support.scoring_rows import (
    by_score,
    game_rows,
    played,
    ppe_row,
    reward_bench_2_row,
    right_always,
    says,
    write_rows,
)

DRAWS = 50


def reward_bench_2_of(tmp_path: Path) -> Benchmark:
    rows = [reward_bench_2_row("1", subset) for subset in reward_bench.SUBSETS_2 if subset != "Ties"]
    rows += [reward_bench_2_row("ref:3", "Ties", 1, 3), reward_bench_2_row("tied:3", "Ties", 3, 2)]
    return reward_bench.load_2(write_rows(tmp_path / "test.jsonl", rows))


def test_reward_bench_2_gives_all_to_a_judge_that_is_always_right(tmp_path: Path) -> None:
    """Correct responses tie among themselves: no spread, so the last margin is infinite and Ties is 1.01."""
    scored = score(played(reward_bench_2_of(tmp_path), by_score(lambda item, i: float(item.right[i]))), draws=DRAWS)
    assert scored["subsets"] == {**dict.fromkeys(reward_bench.SUBSETS_2, 1.0), "Ties": 1.01}
    assert scored["total"] == round((5 + 1.01) / 6, 10)


@pytest.mark.parametrize(
    ("tied", "ref", "expected"),
    [
        # By hand, with a judge whose order is strict. 2 correct of 4: shares 1, ⅔ | ⅓, 0: margin ⅓ = spread, tanh(0) = 0.
        ((2, 2), (1, 3), 0.30 + 0.30),  # reference 1 | ⅔ …: margin ⅓, no more than the spread
        ((2, 2), (1, 2), 0.30 + 0.30),  # reference 1 | ½, 0: the least margin is still ⅓
        # 2 correct of 6: shares 1, ⅘ | ⅗ …: margin ⅕ = spread.
        ((2, 4), (1, 3), 0.30 + 0.30),
    ],
)
def test_margins_that_are_equal_in_fractions_are_equal(
    tmp_path: Path, tied: tuple[int, int], ref: tuple[int, int], expected: float
) -> None:
    rows = [reward_bench_2_row("ref:3", "Ties", *ref), reward_bench_2_row("tied:3", "Ties", *tied)]
    benchmark = reward_bench.load_2(write_rows(tmp_path / "test.jsonl", rows))
    scored = score(played(benchmark, by_score(lambda item, i: -float(i))), draws=DRAWS)
    assert scored["subsets"]["Ties"] == pytest.approx(expected, abs=1e-9)


def test_maxima_share_the_credit(tmp_path: Path) -> None:
    """The judge holds the correct response and one other for equally best: half a point."""
    scored = score(played(reward_bench_2_of(tmp_path), by_score(lambda item, i: float(i < 2))), draws=DRAWS)
    assert scored["subsets"]["Math"] == 0.5


def test_the_margins_of_ties(tmp_path: Path) -> None:
    """By hand: the tied prompt's shares of wins are 1, ¾, ½ (correct) and ¼, 0; margin ¼, spread ½; the reference's
    are 1, ⅔, ⅓, 0; margin ⅓. Both are accurate; neither margin is over the spread; tanh(¼ ÷ ½ − 1) = −0.4621…
    """
    scored = score(played(reward_bench_2_of(tmp_path), by_score(lambda item, i: -float(i))), draws=DRAWS)
    assert scored["subsets"]["Ties"] == pytest.approx(0.30 + 0.30 + 0.01 * math.tanh(-0.5))


# ---- PPE --------------------------------------------------------------------------------------------------------------


def test_ppe_is_a_curve_of_what_is_picked_among_the_first_n(tmp_path: Path) -> None:
    """The judge likes later candidates: it picks the last of the first n."""
    path = write_rows(tmp_path / "set.jsonl", [ppe_row("1", [False, True, False, False]), ppe_row("2", [True] * 4)])
    scored = score(played(ppe.load(path), by_score(lambda item, i: float(i))), draws=DRAWS)
    assert scored["sets"]["set"]["curve"] == {"1": 0.5, "2": 1.0, "4": 0.5}
    assert scored["sets"]["set"]["best"] == {"1": 0.5, "2": 1.0, "4": 1.0}
    assert scored["sets"]["set"]["random"] == {"1": 0.5, "2": 0.75, "4": 0.625}
    assert scored["total"] == 0.5


def test_only_the_matches_of_the_knockout_are_needed(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "set.jsonl", [ppe_row("1", [False, True, False, False])])
    benchmark = ppe.load(path)
    judge = by_score(lambda item, i: float(i))
    rows = [row for row in game_rows(benchmark, judge) if row["cell"] in ("0-1", "2-3", "1-3")]
    assert score(of_rows(benchmark, rows), draws=DRAWS)["total"] == 0.0
    with pytest.raises(GamesError, match="lacks one of its games"):
        score(of_rows(benchmark, [row for row in rows if row["cell"] != "1-3"]), draws=DRAWS)


@given(p=st.floats(0, 1))
def test_a_probability_and_its_opposite_are_a_tie(p: float) -> None:
    assert mean_win([Game(0, p_first=p), Game(1, p_first=p)]) == 0.5


def test_a_knockout_that_is_not_over_is_said_to_be_partial(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "set.jsonl", [ppe_row("1", [False, True] * 2), ppe_row("2", [True] * 4)])
    benchmark = ppe.load(path)
    judge = by_score(lambda item, i: float(i))
    rows = [row for row in game_rows(benchmark, judge) if row["id"] == "set/1" or row["cell"] in ("0-1", "2-3")]
    scored = score(of_rows(benchmark, rows), partial=True, draws=DRAWS)
    assert (scored["complete"], scored["partial"]) == (False, {"set": {"knockouts": 1, "of": 2}})
    with pytest.raises(GamesError, match="lacks one of its games"):
        compare(of_rows(benchmark, rows), played(benchmark, judge), draws=DRAWS)
    null = score(played(benchmark, says({"verdict": None})), draws=DRAWS)
    assert null["games"]["undecided_matches"] == 12  # nothing was decided: the first candidate of each match went on


def test_judges_of_other_sets_are_not_compared(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_rows(tmp_path / f"{name}.jsonl", [ppe_row("1", [False, True])])
    benchmark = ppe.load(str(tmp_path))
    both = played(benchmark, right_always)
    one = of_rows(benchmark, [row for row in game_rows(benchmark, right_always) if row["id"] == "one/1"])
    for first, second in ((both, one), (one, both)):
        with pytest.raises(GamesError, match="the first judge has played"):
            compare(first, second, draws=DRAWS)


@given(seed=st.integers(0, 1000))
def test_the_order_of_the_lines_does_not_matter(seed: int) -> None:
    rng = random.Random(seed)
    items = tuple(
        Item(f"chat/{i}", "chat", (), ("x",) * 6, (True,) * 3 + (False,) * 3, rm_bench.CELLS) for i in range(2)
    )
    benchmark = Benchmark("rm-bench", ("chosen_first", "rejected_first"), rm_bench.DOMAINS, items)
    rows = [
        {**row, "p_first": rng.choice([0.1, 0.3, 0.31, 0.5, 0.69, 0.7, 0.9, 0.92, 0.95])}
        for row in game_rows(benchmark, lambda i, c, o: {}, votes=3)
    ]
    shuffled = rng.sample(rows, len(rows))
    plain = [{k: v for k, v in score(of_rows(benchmark, some), draws=2).items()} for some in (rows, shuffled)]
    assert plain[0] == plain[1]


@given(n=st.integers(1, 40), seed=st.integers(0, 1000))
def test_the_knockout_of_the_first_8_is_part_of_every_larger_one(n: int, seed: int) -> None:
    strength = random.Random(seed).sample(range(100), 64)
    met: list[tuple[int, int]] = []

    def better(a: int, b: int) -> int:
        met.append((a, b))
        return max(a, b, key=strength.__getitem__)

    assert knockout(n, better) == max(range(n), key=strength.__getitem__)
    assert len(met) == n - 1
    larger = set(met)
    if n >= 8:
        met.clear()
        knockout(8, better)
        assert set(met) <= larger
