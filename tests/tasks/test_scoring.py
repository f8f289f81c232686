"""Scores from games: each benchmark's rules on judges whose numbers are known, and what is refused."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.benchmarks import judgebench, llmbar, preferences, reward_bench, rm_bench
from data.benchmarks.items import Benchmark, Cell, Item
from tasks.benchmark import bootstrap
from tasks.benchmark.games import of_rows
from tasks.benchmark.score import score
from tests.support.scoring_rows import (
    Row,
    game_rows,
    judgebench_row,
    llmbar_row,
    played,
    reward_bench_row,
    right_always,
    rm_bench_row,
    says,
    verdict,
    write_rows,
)

DRAWS = 50


@pytest.fixture
def rm(tmp_path: Path) -> Benchmark:
    """Two rows in each part of RM-Bench."""
    for part in rm_bench.PARTS:
        rows = [rm_bench_row(n, prompt=f"{part} {n}?") for n in (8, 9)]
        write_rows(tmp_path / "rm-bench" / f"{part}_filtered.json", rows)
    return rm_bench.load(str(tmp_path / "rm-bench"))


@pytest.fixture
def jb(tmp_path: Path) -> Benchmark:
    """Three knowledge pairs and one in each other category of JudgeBench."""
    sources = ["mmlu-pro-law"] * 3 + ["livebench-reasoning", "livebench-math", "livecodebench"]
    rows = [judgebench_row(f"p{i}", source, "A>B" if i % 2 else "B>A") for i, source in enumerate(sources)]
    return judgebench.load(write_rows(tmp_path / "jb.jsonl", rows))


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


# ---- LLMBar and preference sets ---------------------------------------------------------------------------------------


def test_llmbar_takes_each_order_for_itself(tmp_path: Path) -> None:
    """The judge prefers the first shown: right in one order each, so both are never right and never agree."""
    write_rows(tmp_path / "Natural.json", [llmbar_row(1), llmbar_row(2), llmbar_row(2)])
    scored = score(played(llmbar.load(str(tmp_path)), says({"verdict": "A"})), draws=DRAWS)
    natural = scored["subsets"]["Natural"]
    assert (natural["accuracy"], natural["both_correct"], natural["agreement"]) == (0.5, 0.0, 0.0)
    assert (natural["accuracy_chosen_first"], natural["accuracy_rejected_first"]) == (1.0, 0.0)
    assert natural["accuracy_as_published"] == round(1 / 3, 10)
    assert natural["accuracy_swapped"] == round(2 / 3, 10)
    assert scored["missing"] == list(llmbar.ADVERSARIAL)
    assert scored["total"] is scored["adversarial"] is None


def test_a_tie_is_wrong_and_no_verdict_agrees_with_nothing(tmp_path: Path) -> None:
    write_rows(tmp_path / "Natural.json", [llmbar_row(1)])
    benchmark = llmbar.load(str(tmp_path))
    tied = score(played(benchmark, says({"verdict": "tie"})), draws=DRAWS)["subsets"]["Natural"]
    null = score(played(benchmark, says({"verdict": None})), draws=DRAWS)["subsets"]["Natural"]
    assert (tied["accuracy"], tied["agreement"], null["accuracy"], null["agreement"]) == (0.0, 1.0, 0.0, 0.0)


def test_a_preference_set_has_one_accuracy_over_all_its_pairs() -> None:
    rows = [
        {"id": f"p{i}", "prompt": "Why?", "response_a": f"a{i}", "response_b": f"b{i}", "source": source, "label": "A"}
        for i, source in enumerate(["one", "one", "one", "two"])
    ]
    benchmark = preferences.of_rows(rows)
    scored = score(played(benchmark, lambda i, c, o: verdict(i.group == "one", o)), draws=DRAWS)
    assert (scored["accuracy"], scored["total"]) == (0.75, 0.75)
    assert {name: one["accuracy"] for name, one in scored["sets"].items()} == {"one": 1.0, "two": 0.0}


# ---- RewardBench ------------------------------------------------------------------------------------------------------


def reward_bench_of(tmp_path: Path, sizes: dict[str, int]) -> Benchmark:
    rows = [reward_bench_row(n, subset) for subset, size in sizes.items() for n in range(size)]
    return reward_bench.load(write_rows(tmp_path / "filtered.jsonl", rows))


def test_reward_bench_weighs_subsets_by_the_official_table(tmp_path: Path) -> None:
    """Right on math-prm alone: half of Reasoning officially, 1 of 7 by the rows that are there."""
    sizes = dict.fromkeys(reward_bench.WEIGHTS, 1)
    scored = score(
        played(reward_bench_of(tmp_path, sizes), lambda i, c, o: verdict(i.group == "math-prm", o)), draws=DRAWS
    )
    assert scored["sections"] == {"Chat": 0.0, "Chat Hard": 0.0, "Safety": 0.0, "Reasoning": 0.5}
    assert scored["total"] == 0.125
    assert scored["gram"]["sections"]["Reasoning"] == round(1 / 7, 10)


def test_an_error_is_half_a_point_and_a_position_bias_too(tmp_path: Path) -> None:
    benchmark = reward_bench_of(tmp_path, {"donotanswer": 2})
    for answer in ({"verdict": None}, {"verdict": "A"}, {"verdict": "tie"}):
        scored = score(played(benchmark, says(answer)), draws=DRAWS)
        assert scored["subsets"]["donotanswer"] == 0.5
        assert scored["sections"]["Safety"] is scored["total"] is None  # four subsets of the section are missing


def test_the_votes_of_an_order_are_counted_before_orders_are(tmp_path: Path) -> None:
    """Two of three votes are right in each order: the order is."""
    benchmark = reward_bench_of(tmp_path, {"donotanswer": 2})
    rows = game_rows(benchmark, right_always, votes=3)
    some = [{**row, "verdict": {"A": "B", "B": "A"}[row["verdict"]]} if row["vote"] == 1 else row for row in rows]
    assert score(of_rows(benchmark, some), draws=DRAWS)["subsets"]["donotanswer"] == 1.0


# ---- rates, baselines, intervals --------------------------------------------------------------------------------------


def test_the_games_are_counted_with_what_is_wrong_with_them(jb: Benchmark) -> None:
    rows = game_rows(jb, right_always)
    rows[0] |= {"verdict": None, "malformed": "truncated", "truncated": True, "n_tokens": 12}
    rows[1] |= {"verdict": None}
    found = score(of_rows(jb, rows), draws=DRAWS)["games"]
    assert (found["games"], found["items"], found["unparsed"]) == (12, 6, round(2 / 12, 10))
    assert found["unparsed_reasons"] == {"truncated": 1, "no reason given": 1}
    assert (found["truncated"], found["mean_tokens"]) == (round(1 / 12, 10), 1.0)
    assert found["groups"]["math"]["games"] == 2
    assert found["position"]["consistency"] == round(5 / 6, 10)  # the pair without verdicts is not consistent


@pytest.mark.parametrize(("said", "share"), [("A", 1.0), ("B", 0.0)])
def test_a_bias_for_a_place_is_named(jb: Benchmark, said: str, share: float) -> None:
    position = score(played(jb, says({"verdict": said})), draws=DRAWS)["games"]["position"]
    assert position == {"pairs": 6, "consistency": 0.0, "inconsistent": 6, "first_shown": share}


def test_what_costs_nothing_is_scored_by_the_same_rules(tmp_path: Path) -> None:
    rows = [
        judgebench_row("p1", response_A="long answer", response_B="short"),
        judgebench_row("p2", response_A="long answer", response_B="short", label="B>A"),
        judgebench_row("p3", response_A="equal", response_B="EQUAL"),
    ]
    benchmark = judgebench.load(write_rows(tmp_path / "a.jsonl", rows))
    found = score(played(benchmark, right_always), draws=DRAWS)["baselines"]
    knowledge = {name: one["categories"]["knowledge"] for name, one in found.items()}
    assert knowledge == {"always_a": 0.0, "longest": round(1 / 3, 10), "shortest": round(1 / 3, 10)}
    assert found["always_a"]["single_game"]["categories"]["knowledge"] == round(2 / 3, 10)


def test_an_interval_is_over_prompts_not_over_games(tmp_path: Path) -> None:
    """40 rows of two prompts say as much as two: what is drawn is 0, ½ or 1, not something near ½."""
    rows = [
        judgebench_row(f"p{i}", question=f"Question {i % 2}?", label="AB"[i % 2] + ">" + "BA"[i % 2]) for i in range(40)
    ]
    apart = [{**row, "question": row["pair_id"]} for row in rows]
    alike = [{**row, "question": "One question?"} for row in rows]
    [wide, narrow, of_one] = [
        score(
            played(judgebench.load(write_rows(tmp_path / f"{i}.jsonl", some)), lambda i, c, o: verdict(True, o)),
            draws=300,
        )["intervals"]["categories"]["knowledge"]
        for i, some in enumerate((rows, apart, alike))
    ]
    assert wide == [0.0, 1.0]
    assert 0.3 < narrow[0] < 0.5 < narrow[1] < 0.7
    assert of_one == narrow  # one prompt alone leaves nothing to draw: its rows are taken for prompts


def test_an_interval_of_a_proportion_is_what_it_should_be(tmp_path: Path) -> None:
    """400 pairs, half of them right: ±1.96·√(¼ ÷ 400) = ±0.049."""
    rows = [judgebench_row(f"p{i}", label="A>B" if i % 2 else "B>A") for i in range(400)]
    benchmark = judgebench.load(write_rows(tmp_path / "a.jsonl", rows))
    low, high = score(played(benchmark, lambda i, c, o: verdict(True, o)))["intervals"]["categories"]["knowledge"]
    assert (low, high) == pytest.approx((0.451, 0.549), abs=0.006)


def test_the_same_games_give_the_same_intervals(jb: Benchmark) -> None:
    assert score(played(jb, right_always), draws=DRAWS) == score(played(jb, right_always), draws=DRAWS)


def test_bootstrap_sums_are_of_whole_prompts() -> None:
    table = bootstrap.Table(["p", "q", "p"], np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]))
    assert table.by_prompt().tolist() == [[2.0, 0.0], [0.0, 1.0]]
    drawn = bootstrap.draw({"g": table}, draws=100)["g"]
    assert set(map(tuple, drawn.tolist())) == {(4.0, 0.0), (2.0, 1.0), (0.0, 2.0)}
