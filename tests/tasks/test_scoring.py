"""Scores from games: each benchmark's rules on judges whose numbers are known, and what is refused."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.benchmarks import judgebench, rm_bench
from data.benchmarks.items import Benchmark, Cell, Item
from tasks.benchmark.games import of_rows
from tasks.benchmark.score import score
from tests.support.scoring import DRAWS
from tests.support.scoring_rows import (
    Row,
    game_rows,
    played,
    right_always,
    rm_bench_row,
    verdict,
    write_rows,
)


@pytest.fixture
def rm(tmp_path: Path) -> Benchmark:
    """Two rows in each part of RM-Bench."""
    for part in rm_bench.PARTS:
        rows = [rm_bench_row(n, prompt=f"{part} {n}?") for n in (8, 9)]
        write_rows(tmp_path / "rm-bench" / f"{part}_filtered.json", rows)
    return rm_bench.load(str(tmp_path / "rm-bench"))


# ---- RM-Bench ---------------------------------------------------------------------------------------------------------


def test_rm_bench_levels_are_means_of_three_cells(rm: Benchmark) -> None:
    """The judge is right where the chosen style is not plainer than the rejected one: 0-1, 0-2 and 1-2 are lost."""

    def judge(item: Item, cell: Cell, order: int) -> Row:
        return verdict(cell.first >= cell.second - rm_bench.STYLES, order)

    scored = score(played(rm, judge), draws=DRAWS)
    assert scored["domains"]["chat"] == {"hard": 0.0, "normal": 1.0, "easy": 1.0, "score": round(2 / 3, 10)}
    assert (scored["hard"], scored["normal"], scored["easy"]) == (0.0, 1.0, 1.0)
    assert scored["total"] == round(2 / 3, 10)


def test_rm_bench_domains_count_alike_and_prompts_do_not(tmp_path: Path) -> None:
    """Three chat prompts are right and one prompt of each other part is wrong: safety's two parts are one domain."""
    for part in rm_bench.PARTS:
        rows = [rm_bench_row(n) for n in range(3 if part == "chat" else 1)]
        write_rows(tmp_path / f"{part}_filtered.json", rows)
    benchmark = rm_bench.load(str(tmp_path))
    scored = score(played(benchmark, lambda i, c, o: verdict(i.group == "chat", o)), draws=DRAWS)
    assert (scored["total"], scored["hard"]) == (0.25, 0.25)
    assert scored["gram"]["hard"] == round(3 / 7, 10)  # of all prompts, two of which are safety's


@pytest.mark.parametrize(
    ("first", "second", "wins"),
    [
        ({"verdict": "A"}, {"verdict": "B"}, True),
        ({"verdict": "A"}, {"verdict": None}, True),  # ¾: an unparsable game counts ½
        ({"verdict": "A"}, {"verdict": "tie"}, True),
        ({"verdict": "A"}, {"verdict": "A"}, False),  # ½ is not over ½
        ({"verdict": None}, {"verdict": None}, False),
        ({"verdict": "tie"}, {"verdict": "tie"}, False),
        ({"p_first": 0.9}, {"p_first": 0.8}, True),
        ({"p_first": 0.6}, {"p_first": 0.7}, False),
        ({"p_first": 0.5}, {"p_first": 0.5}, False),
        ({"p_first": None}, {"p_first": 0.4}, True),
    ],
)
def test_a_chosen_response_wins_where_its_mean_is_over_one_half(
    rm: Benchmark, first: Row, second: Row, wins: bool
) -> None:
    games = played(rm, lambda item, cell, order: second if order else first)
    assert score(games, draws=DRAWS)["total"] == float(wins)


def official_rm_bench(matrix: np.ndarray) -> tuple[float, float, float]:
    """From the matrix of win rates, as ``compute_accuracy`` takes them: above, on and below its diagonal."""
    upper = matrix[np.triu_indices(3, 1)].mean()
    return float(upper), float(matrix.diagonal().mean()), float(matrix[np.tril_indices(3, -1)].mean())


@given(seed=st.integers(0, 10**6))
def test_rm_bench_equals_the_official_matrix(seed: int) -> None:
    rng = random.Random(seed)
    cells = rm_bench.CELLS
    items = [
        Item(f"{part}/{n}", domain, (), ("x",) * 6, (True,) * 3 + (False,) * 3, cells)
        for part, domain in rm_bench.PARTS.items()
        for n in range(rng.randrange(1, 4))
    ]
    benchmark = Benchmark("rm-bench", ("chosen_first", "rejected_first"), rm_bench.DOMAINS, tuple(items))
    won = {(item.id, cell.name): rng.random() < 0.6 for item in items for cell in cells}
    scored = score(played(benchmark, lambda i, c, o: verdict(won[i.id, c.name], o)), draws=2)
    domains = []
    for domain in rm_bench.DOMAINS:
        rows = [item for item in items if item.group == domain]
        matrix = np.array([[np.mean([won[r.id, f"{i}-{j}"] for r in rows]) for j in range(3)] for i in range(3)])
        domains.append(official_rm_bench(matrix))
        found = scored["domains"][domain]
        assert (found["hard"], found["normal"], found["easy"]) == pytest.approx(domains[-1])
    assert scored["total"] == pytest.approx(np.mean(domains))


def test_a_domain_without_games_is_missing_and_leaves_no_total(rm: Benchmark) -> None:
    rows = [row for row in game_rows(rm, right_always) if not row["id"].startswith("math/")]
    scored = score(of_rows(rm, rows), draws=DRAWS)
    assert (scored["missing"], scored["complete"]) == (["math"], False)
    assert scored["total"] is scored["hard"] is scored["gram"]["hard"] is None
    assert list(scored["domains"]) == ["chat", "code", "safety"]
    assert scored["intervals"]["total"] is None


def test_a_domain_of_which_the_data_has_only_a_part_leaves_no_total(rm: Benchmark, tmp_path: Path) -> None:
    (tmp_path / "rm-bench" / "safety-refuse_filtered.json").unlink()
    scored = score(played(rm_bench.load(str(tmp_path / "rm-bench")), right_always), draws=DRAWS)
    assert (scored["missing"], scored["total"]) == (["safety-refuse"], None)


# ---- JudgeBench -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "right", "single"),
    [
        (1, 1, 1, 1), (1, 0, 1, 1), (1, None, 1, 1), (0, 1, 1, 0), (None, 1, 1, 0),
        (1, -1, 0, 1), (-1, 1, 0, 0), (0, 0, 0, 0), (None, None, 0, 0), (-1, -1, 0, 0), (-1, 0, 0, 0),
    ],
)  # fmt: skip
def test_a_pair_is_right_where_its_two_games_sum_above_zero(
    jb: Benchmark, first: int | None, second: int | None, right: int, single: int
) -> None:
    """+1 is the label's side, −1 the other's, 0 a tie, None an unparsable game."""

    def judge(item: Item, cell: Cell, order: int) -> Row:
        said = (first, second)[order]
        if not said:
            return {"verdict": None if said is None else "tie"}
        return verdict(item.right[0] == (said > 0), order)

    scored = score(played(jb, judge), draws=DRAWS)
    assert (scored["micro"], scored["macro"], scored["total"]) == (right, right, right)
    assert scored["single_game"]["micro"] == single
    assert scored["categories"] == dict.fromkeys(judgebench.CATEGORIES.values(), float(right))


def test_micro_counts_pairs_and_macro_counts_categories(jb: Benchmark) -> None:
    scored = score(played(jb, lambda i, c, o: verdict((i.group == "knowledge") == i.right[0], o)), draws=DRAWS)
    assert (scored["micro"], scored["macro"]) == (0.5, 0.25)


def test_probabilities_decide_a_game_as_verdicts_do_and_their_mean_is_a_variant(jb: Benchmark) -> None:
    """Right at 0.9 and wrong at 0.55: {right, wrong} by the official rule, right by the mean over both orders."""

    def judge(item: Item, cell: Cell, order: int) -> Row:
        sure = 0.9 if order == 0 else 0.45
        wins = sure if item.right[0] else 1 - sure
        return {"p_first": wins if order == 0 else 1 - wins}

    scored = score(played(jb, judge), draws=DRAWS)
    assert (scored["micro"], scored["mean_probability"]["micro"]) == (0.0, 1.0)


def test_votes_add_up(jb: Benchmark) -> None:
    rows = game_rows(jb, right_always, votes=3)
    flipped = [{**row, "verdict": {"A": "B", "B": "A"}[row["verdict"]]} if row["vote"] == 0 else row for row in rows]
    scored = score(of_rows(jb, flipped), draws=DRAWS)
    assert (scored["micro"], scored["games"]["votes"], scored["games"]["games"]) == (1.0, 3, 36)
