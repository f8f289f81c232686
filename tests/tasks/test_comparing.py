"""Two judges on the same games: differences with intervals over the same prompts, and the exact test."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.benchmarks import judgebench, preferences
from data.benchmarks.items import Benchmark
from tasks.benchmark.compare import compare, comparison_chart, comparison_table
from tasks.benchmark.games import GamesError, of_rows
from tests.support.scoring_rows import (
    game_rows,
    judgebench_row,
    played,
    right_always,
    verdict,
    write_rows,
)

DRAWS = 50


@pytest.fixture
def jb(tmp_path: Path) -> Benchmark:
    """Three knowledge pairs and one in each other category of JudgeBench."""
    sources = ["mmlu-pro-law"] * 3 + ["livebench-reasoning", "livebench-math", "livecodebench"]
    rows = [judgebench_row(f"p{i}", source, "A>B" if i % 2 else "B>A") for i, source in enumerate(sources)]
    return judgebench.load(write_rows(tmp_path / "jb.jsonl", rows))


# ---- two judges -------------------------------------------------------------------------------------------------------


def test_two_judges_are_compared_pair_by_pair(jb: Benchmark) -> None:
    better = played(jb, right_always)
    worse = played(jb, lambda i, c, o: verdict((i.group == "knowledge") == i.right[0], o))
    found = compare(worse, better, draws=DRAWS)
    assert found["difference"]["micro"] == 0.5
    assert found["difference"]["categories"] == {"knowledge": 0.0, "reasoning": 1.0, "math": 1.0, "coding": 1.0}
    assert found["intervals"]["categories"]["math"] == pytest.approx([0.025, 1.0])  # of one prompt
    assert found["sign_flip"] == {
        "outcomes": 6, "only_first": 0, "only_second": 3, "prompts": 6, "p_value": pytest.approx(0.25),
    }  # fmt: skip
    table = comparison_table(found, ["old", "new"])
    assert "| micro | 50.0% | 100.0% | +50.0 | " in table
    assert "Of 6 outcomes, 0 are correct for old only, 3 for new only; p = 0.25 (exact" in table
    assert comparison_chart(found, ["old", "new"]).count("<svg") == 1


def test_a_judge_differs_from_itself_by_nothing_as_far_as_so_many_prompts_can_tell(jb: Benchmark) -> None:
    """Of six prompts, or of three: 0.025 = 0.5407⁶ = 0.2924³."""
    found = compare(played(jb, right_always), played(jb, right_always), draws=DRAWS)
    assert found["difference"]["total"] == 0.0
    assert found["intervals"]["micro"] == pytest.approx([-0.4593, 0.4593], abs=1e-4)
    assert found["intervals"]["categories"]["knowledge"] == pytest.approx([-0.7076, 0.7076], abs=1e-4)
    assert found["sign_flip"]["p_value"] == 1.0


def test_pairing_makes_the_interval_narrower(tmp_path: Path) -> None:
    """Both judges fail on the same half; the second also on one pair more."""
    rows = [judgebench_row(f"p{i}") for i in range(100)]
    benchmark = judgebench.load(write_rows(tmp_path / "a.jsonl", rows))
    judges = [played(benchmark, lambda i, c, o, n=n: verdict(int(i.id[1:]) < n, o)) for n in (50, 49)]  # type: ignore[misc]
    low, high = compare(*judges)["intervals"]["categories"]["knowledge"]
    assert -0.05 < low < high <= 0.0


@pytest.mark.parametrize(
    ("a", "b", "p"), [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 0.0625), (8, 2, 0.109375), (2, 8, 0.109375)]
)
def test_with_one_outcome_a_prompt_it_is_mcnemars_exact_test(tmp_path: Path, a: int, b: int, p: float) -> None:
    benchmark = judgebench.load(write_rows(tmp_path / "a.jsonl", [judgebench_row(f"p{i}") for i in range(a + b + 7)]))
    one = played(benchmark, lambda i, c, o: verdict(not a <= int(i.id[1:]) < a + b, o))
    other = played(benchmark, lambda i, c, o: verdict(int(i.id[1:]) >= a, o))
    found = compare(one, other, draws=DRAWS)["sign_flip"]
    assert (found["outcomes"], found["only_first"], found["only_second"]) == (a + b + 7, a, b)
    assert found["prompts"] == a + b + 7
    assert found["p_value"] == pytest.approx(p)


def test_both_orders_of_a_pair_and_the_pairs_of_a_prompt_are_no_independent_outcomes(tmp_path: Path) -> None:
    """Four pairs more are right in both orders: p = 2 ÷ 2⁴, not 2 ÷ 2⁸; if two share a prompt, 2 ÷ 2³."""
    for shared, n, p in ((0, 12, 0.125), (1, 11, 0.25)):
        rows = [
            {
                "id": f"p{i}",
                "prompt": f"Question {max(i, shared)}",
                "response_a": f"yes {i}",
                "response_b": "no",
                "label": "A",
            }
            for i in range(12)
        ]
        benchmark = preferences.of_rows(rows)
        found = compare(
            played(benchmark, lambda i, c, o: verdict(int(i.id[1:]) >= 4, o)),
            played(benchmark, right_always),
            draws=DRAWS,
        )["sign_flip"]
        assert (found["outcomes"], found["only_first"], found["only_second"]) == (24, 0, 8)
        assert (found["prompts"], found["p_value"]) == (n, pytest.approx(p))


def test_judges_on_other_games_are_not_compared(jb: Benchmark) -> None:
    some = of_rows(jb, game_rows(jb, right_always)[:-1])
    with pytest.raises(GamesError, match="0 were played only by the first and 1 only by the second"):
        compare(some, played(jb, right_always))
