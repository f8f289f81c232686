"""The simulation behind the choice of a strategy: its judges are as accurate as they say, and its order of the rules holds."""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks.group_rules import JUDGES, accuracy_of, alike, correlation, measure, ranks, simulated


@pytest.mark.parametrize("judge", JUDGES)
@pytest.mark.parametrize("accuracy", [1.0, 0.85, 0.75])
def test_a_simulated_judge_is_as_accurate_as_it_says(judge: str, accuracy: float) -> None:
    groups = simulated(judge, accuracy, groups=300)
    verdicts = [
        (share > 0.5) == (group.quality[a] > group.quality[b])
        for group in groups
        for (a, b), share in group.shares.items()
        if share is not None and share != 0.5
    ]
    expected = accuracy**2 / (accuracy**2 + (1 - accuracy) ** 2) if judge == "a verdict in each order" else accuracy
    assert np.mean(verdicts) == pytest.approx(expected, abs=0.015)
    if judge != "probability":
        assert accuracy_of(groups) == pytest.approx(accuracy, abs=0.01)


def test_one_hard_verdict_against_a_reference_often_leaves_no_variance() -> None:
    """With a perfect judge, wherever the reference is the best or the worst of nine: 2 in 9."""
    assert measure("reference", simulated("one verdict", 1.0, groups=600)).mean("flat") == pytest.approx(
        2 / 9, abs=0.05
    )
    assert measure("reference", simulated("probability", 0.85, groups=100)).mean("flat") == 0.0


def test_more_matches_follow_the_true_quality_better() -> None:
    groups = simulated("a verdict in each order", 0.85, groups=150)
    found = [measure(name, groups) for name in ("reference", "circular", "circular-twice", "all-pairs")]
    assert [of.mean("matches") for of in found] == [8, 8, 16, 28]
    agreement = [of.mean("pearson") for of in found]
    assert agreement == sorted(agreement)
    assert agreement[3] - agreement[0] > 0.3


def test_a_missing_verdict_costs_a_circle_less_than_a_reference() -> None:
    groups = simulated("a verdict in each order", 0.85, missing=0.1, groups=150)
    assert measure("reference", groups).mean("without") == pytest.approx(0.1, abs=0.03)
    assert measure("circular", groups).mean("without") == pytest.approx(0.01, abs=0.01)
    assert measure("circular-twice", groups).mean("without") < 0.002


def test_more_matches_do_not_help_against_a_taste_of_the_judges_own() -> None:
    """As accurate on pairs, one errs about each pair anew, the other about each response."""
    groups = simulated("one verdict", 0.75, groups=150)
    others = alike(groups, 0.75)
    assert accuracy_of(others["own taste"]) == pytest.approx(0.75, abs=0.02)
    gain = {
        name: measure("all-pairs", some).mean("pearson") - measure("circular-twice", some).mean("pearson")
        for name, some in others.items()
    }
    assert gain["own taste"] < 0.07 < gain["one verdict"]


def test_ranks_and_correlations() -> None:
    assert list(ranks(np.array([0.5, 0.1, 0.5, 0.9]))) == [2.5, 1.0, 2.5, 4.0]
    assert correlation(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0])) == pytest.approx(1.0)
    assert correlation(np.array([1.0, 1.0]), np.array([0.0, 1.0])) == 0.0, "no variance: nothing to learn"
