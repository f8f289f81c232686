"""Shares and AUCs with their intervals: by hand, against plain counting, and how often the interval holds the truth."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tasks.trust.separation import auc, share

ONE_EACH = ["p1", "p2", "p3", "p4"]


def test_an_auc_by_hand() -> None:
    """Right 3, 1, 2 against wrong 0, 2: 2 of 2, 1 of 2, and one above and one tie."""
    found = auc(["p", "q", "r"], [[3.0, 1.0], [2.0], []], [[0.0], [], [2.0]])
    assert found["value"] == pytest.approx((2 + 1 + 1.5) / 6)
    assert (found["right"], found["wrong"]) == (3, 2)


@pytest.mark.parametrize(("right", "wrong", "value"), [([1.0], [0.0], 1.0), ([0.0], [1.0], 0.0), ([1.0], [1.0], 0.5)])
def test_an_auc_at_its_ends(right: list[float], wrong: list[float], value: float) -> None:
    assert auc(ONE_EACH, [right] * 4, [wrong] * 4)["value"] == value


def test_four_pairs_prove_little_even_where_they_agree() -> None:
    """Clopper and Pearson's 95% interval of 4 in 4 begins at 0.025 ** ¼."""
    assert auc(ONE_EACH, [[1.0]] * 4, [[0.0]] * 4)["interval"] == [pytest.approx(0.025**0.25, abs=1e-4), 1.0]
    assert share(ONE_EACH, [1] * 4, [1] * 4)["interval"] == [pytest.approx(0.025**0.25, abs=1e-4), 1.0]


def test_without_either_there_is_no_auc_and_without_any_no_share() -> None:
    nothing = {"value": None, "interval": None}
    assert auc(["p", "q"], [[1.0], []], [[], []]) == {**nothing, "right": 1, "wrong": 0}
    assert auc([], [], []) == {**nothing, "right": 0, "wrong": 0}
    assert share(["p", "q"], [0, 0], [0, 0]) == {**nothing, "of": 0}


def test_a_share_by_hand() -> None:
    found = share(["p", "q", "r"], [2, 0, 1], [4, 4, 2])
    assert (found["value"], found["of"]) == (0.3, 10)
    assert found["interval"][0] < 0.3 < found["interval"][1]


def test_the_auc_is_that_of_all_comparisons() -> None:
    random.seed(1)
    sides = [[[float(random.randrange(5)) for _ in range(random.randrange(4))] for _ in range(30)] for _ in "rw"]
    right, wrong = ([x for scores in side for x in scores] for side in sides)
    counted = sum((r > w) + (r == w) / 2 for r in right for w in wrong) / (len(right) * len(wrong))
    assert auc([str(i) for i in range(30)], *sides)["value"] == pytest.approx(counted, abs=1e-4)


def drawn(seed: int, n: int = 40) -> dict[str, Any]:
    """Three right and three wrong scores a pair, which share the level of their side of the pair; the true AUC is 0.5."""
    numbers = random.Random(seed)

    def side() -> list[list[float]]:
        levels = [numbers.gauss(0, 2) for _ in range(n)]
        return [[level + numbers.gauss(0, 0.5) for _ in range(3)] for level in levels]

    return auc([str(i) for i in range(n)], side(), side())


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """57 of 60 draws in the mean; fewer than 51 have a probability under 0.002. Drawing proofs singly, 46 do."""
    held = sum(low <= 0.5 <= high for low, high in (drawn(seed)["interval"] for seed in range(60)))
    assert held >= 51


def test_pairs_of_one_prompt_are_not_independent() -> None:
    """Of 20 pairs of 2 prompts, half are above: the interval is as wide as two prompts make it."""
    right, wrong = [[1.0]] * 10 + [[0.0]] * 10, [[0.5]] * 20
    apart = auc([str(i) for i in range(20)], right, wrong)["interval"]
    together = auc(["p"] * 10 + ["q"] * 10, right, wrong)["interval"]
    assert together == [0.0, 1.0]
    assert 0.2 < apart[0] < 0.5 < apart[1] < 0.8
