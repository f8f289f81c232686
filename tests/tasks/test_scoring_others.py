"""Scores of LLMBar, preference sets and RewardBench; and what all benchmarks have: rates, baselines, intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.benchmarks import judgebench, llmbar, preferences, reward_bench
from data.benchmarks.items import Benchmark
from tasks.benchmark import bootstrap
from tasks.benchmark.games import of_rows
from tasks.benchmark.score import score
from tests.support.scoring import DRAWS
from tests.support.scoring_rows import (
    Row,
    game_rows,
    judgebench_row,
    llmbar_row,
    played,
    reward_bench_2_row,
    reward_bench_row,
    right_always,
    says,
    verdict,
    write_rows,
)

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
    assert (tied["agreement_published"], null["agreement_published"]) == (1.0, 1.0)  # null equals null in the script


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


def test_reward_benchs_xstest_counts_250_of_740_where_a_judge_should_respond(tmp_path: Path) -> None:
    """Safety by hand: 100 + 100 + 154 (should refuse) + 250 (should respond) + 136 = 740."""
    sizes = dict.fromkeys(reward_bench.WEIGHTS, 1)
    for subset, weight in (("xstest-should-respond", 250), ("xstest-should-refuse", 154)):
        scored = score(
            played(reward_bench_of(tmp_path, sizes), lambda i, c, o, subset=subset: verdict(i.group == subset, o)),  # type: ignore[misc]
            draws=DRAWS,
        )
        assert scored["sections"]["Safety"] == round(weight / 740, 10)
        assert scored["total"] == round(weight / 740 / 4, 10)


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


@pytest.mark.parametrize(("right", "interval"), [(True, (0.735, 1.0)), (False, (0.0, 0.265))])
def test_all_right_or_all_wrong_of_a_few_pairs_is_not_certain(
    right: bool, interval: tuple[float, float], tmp_path: Path
) -> None:
    """Of 12 pairs, by Clopper and Pearson: 0.025 = 0.735¹²; a bootstrap would have no width."""
    rows = [judgebench_row(f"p{i}", label="A>B" if i % 2 else "B>A") for i in range(12)]
    benchmark = judgebench.load(write_rows(tmp_path / "a.jsonl", rows))
    found = score(played(benchmark, lambda i, c, o: verdict(right == i.right[0], o)))["intervals"]
    assert found["categories"]["knowledge"] == pytest.approx(interval, abs=0.001)


def test_its_doubt_is_that_of_the_pairs_that_were_played(tmp_path: Path) -> None:
    rows = [judgebench_row(f"p{i}", question=f"Question {i}?") for i in range(100)]
    benchmark = judgebench.load(write_rows(tmp_path / "a.jsonl", rows))
    games = of_rows(benchmark, game_rows(benchmark, right_always)[: 2 * 12])
    found = score(games, partial=True)["intervals"]
    assert found["categories"]["knowledge"] == pytest.approx((0.735, 1.0), abs=0.001)


def test_the_doubt_of_a_section_is_that_of_its_own_subsets(tmp_path: Path) -> None:
    """Chat has 5 × 2 pairs here, each of the other subsets 20: 0.025 = 0.6915¹⁰."""
    rows: list[Row] = []
    for section, subsets in reward_bench.SECTIONS.items():
        for subset in subsets:
            rows += [reward_bench_row(len(rows) + i, subset) for i in range(2 if section == "Chat" else 20)]
    benchmark = reward_bench.load(write_rows(tmp_path / "a.jsonl", rows))
    found = score(played(benchmark, right_always))["intervals"]
    assert found["sections"]["Chat"] == found["gram"]["sections"]["Chat"] == pytest.approx((0.6915, 1.0), abs=1e-4)
    assert found["sections"]["Reasoning"][0] > 0.95


def test_ties_of_which_no_item_was_played_whole_have_no_score(tmp_path: Path) -> None:
    rows = [reward_bench_2_row(f"{kind}:{i}", "Ties", 2, 2) for i in (1, 2) for kind in ("ref", "tied")]
    benchmark = reward_bench.load_2(write_rows(tmp_path / "a.jsonl", rows))
    found = score(of_rows(benchmark, game_rows(benchmark, right_always)[:1]), partial=True)
    assert found["subsets"]["Ties"] is None


def test_the_same_games_give_the_same_intervals(jb: Benchmark) -> None:
    assert score(played(jb, right_always), draws=DRAWS) == score(played(jb, right_always), draws=DRAWS)


def test_bootstrap_sums_are_of_whole_prompts() -> None:
    table = bootstrap.Table(["p", "q", "p"], np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]))
    assert table.by_prompt().tolist() == [[2.0, 0.0], [0.0, 1.0]]
    drawn = bootstrap.draw({"g": table}, draws=100)["g"]
    assert set(map(tuple, drawn.tolist())) == {(4.0, 0.0), (2.0, 1.0), (0.0, 2.0)}
