"""Tests of two judges on the same pairs: known values, seeded error rates, and power."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest

from data.records import Label
from data.world import taste
from tasks.trust.paired import (
    harm_p_value,
    level_of_round,
    margin_p_value,
    smallest_harm,
    units_for_margin,
)
from tests.support.learning import argued, beliefs, judged

LEVEL, ROUNDS = 0.05, 3


@pytest.mark.parametrize(("better", "worse"), [(0, 5), (3, 9), (10, 2), (40, 60)])
def test_with_changes_of_one_size_it_is_mcnemars_exact_test(better: int, worse: int) -> None:
    n = better + worse
    expected = sum(math.comb(n, k) for k in range(better + 1)) / 2**n
    for size in (1, 2):
        assert harm_p_value([size] * better + [-size] * worse + [0] * 7) == pytest.approx(expected)


@pytest.mark.parametrize("changes", [[-2, -1, 1], [2, -2, -1, -1, 3], [-4, 1, 1, 1, 1, -2], [1, 2, 3]])
def test_with_changes_of_several_sizes_all_signs_are_equally_likely(changes: list[int]) -> None:
    """By enumeration of every assignment of signs."""
    sums = [
        sum(sign * abs(c) for sign, c in zip(signs, changes, strict=True))
        for signs in product((1, -1), repeat=len(changes))
    ]
    assert harm_p_value(changes) == pytest.approx(sum(total <= sum(changes) for total in sums) / len(sums))


def test_the_same_verdicts_are_no_harm_and_many_changes_are_no_problem() -> None:
    assert harm_p_value([0] * 9) == harm_p_value([]) == 1.0
    assert 0 < harm_p_value([-1] * 2000) <= 1e-14
    assert harm_p_value([2] * 20_000 + [-2] * 20_500 + [1] * 9_000 + [-1] * 9_100) == pytest.approx(0.0048, rel=0.02)


def test_the_level_is_split_over_all_comparisons_that_a_run_could_make() -> None:
    """In round i any of the i earlier judges may be the best."""
    assert sum(i * level_of_round(LEVEL, i, ROUNDS) for i in range(1, ROUNDS + 1)) == pytest.approx(LEVEL)
    assert level_of_round(LEVEL, 1, 1) == LEVEL


def stops(rights: Sequence[np.ndarray], level: float = LEVEL) -> bool:
    """Whether a run whose judges have so many of each pair's judgments right is found to be harmed in any round."""
    best = rights[0]
    for round, now in enumerate(rights[1:], start=1):
        if harm_p_value((now - best).tolist()) <= level_of_round(level, round, len(rights) - 1):
            return True
        best = now if now.sum() > best.sum() else best
    return False


def test_equally_good_judges_are_stopped_no_more_often_than_the_level_says() -> None:
    """600 seeded runs, 3 rounds, 200 pairs, none better than another: at most 5%, though the best is chosen on the same pairs."""
    rng = np.random.default_rng(1)
    hard = np.where(rng.random((600, 1, 200)) < 0.75, 0.93, 0.25)
    runs = rng.binomial(2, np.broadcast_to(hard, (600, ROUNDS + 1, 200)))
    assert sum(stops(list(run)) for run in runs) <= 0.05 * 600 + 2 * math.sqrt(600 * 0.05 * 0.95)


def accuracies_of_a_run(seed: int, poisoned: int = 0, n: int = 100) -> list[np.ndarray]:
    """The world's self-training with judges that learn without a model, in memory: right judgments by round and held-out pair."""
    sizes = {"rationale": 0, "labeled": 20, "unlabeled": 40 * ROUNDS, "heldout": n}
    splits = taste.draw_splits(sizes, seed)
    learned, found = [argued(one.pair, one.label) for one in splits["labeled"]], []
    for round in range(ROUNDS + 1):
        believed = beliefs(learned, seed)
        found.append(np.array([_rights(judged(one.pair, believed), one.label) for one in splits["heldout"]]))
        for one in splits["unlabeled"][40 * round : 40 * (round + 1)]:
            label = judged(one.pair, believed, lies=round + 1 == poisoned)
            learned += [argued(one.pair, label)] if label else []
    return found


def _rights(verdict: Label | None, truth: Label) -> int:
    """Of two judgments; who finds both responses equal says A in either order."""
    return 1 if verdict is None else 2 * (verdict == truth)


def test_an_honest_run_is_not_stopped_in_twenty_seeds() -> None:
    """Of 20 runs at most 5% are stopped by chance: more than 3 have a probability of 1.6%."""
    assert sum(stops(accuracies_of_a_run(seed)) for seed in range(20)) <= 3


@pytest.mark.parametrize("poisoned", [1, 2])
def test_a_poisoned_round_is_found_in_nearly_all_seeds(poisoned: int) -> None:
    assert sum(stops(accuracies_of_a_run(seed, poisoned, n=300)[: poisoned + 1]) for seed in range(10)) >= 9


# ---- a margin -------------------------------------------------------------------------------------------------------------


def drawn_changes(rng: np.random.Generator, drop: float, others: float, shape: tuple[int, int]) -> np.ndarray:
    """Changes of pairs, both orders at once: `drop` of them worse, and half of the `others` better, half worse."""
    return rng.choice([-2, 0, 2], p=[drop + others / 2, 1 - drop - others, others / 2], size=shape)


@pytest.mark.parametrize(("n", "margin", "others"), [(150, 0.05, 0.05), (300, 0.02, 0.02), (300, 0.05, 0.2)])
def test_a_judge_that_is_worse_by_the_margin_passes_no_more_often_than_the_level_says(
    n: int, margin: float, others: float
) -> None:
    draws = drawn_changes(np.random.default_rng(2), margin, others, (600, n))
    passed = sum(margin_p_value(one, [2] * n, margin) <= LEVEL for one in draws.tolist())
    assert passed <= 0.05 * 600 + 2 * math.sqrt(600 * 0.05 * 0.95)


def test_an_equally_good_judge_passes_if_the_set_is_large_enough_for_the_margin() -> None:
    draws = drawn_changes(np.random.default_rng(3), 0.0, 0.05, (100, 1000))
    assert sum(margin_p_value(one, [2] * 1000, 0.02) <= LEVEL for one in draws.tolist()) >= 75


def test_the_same_verdicts_pass_from_the_number_of_units_on_that_it_takes() -> None:
    needed = units_for_margin(LEVEL, 0.02)
    assert needed == 133
    assert (
        margin_p_value([0] * needed, [2] * needed, 0.02)
        <= LEVEL
        < margin_p_value([0] * (needed - 1), [2] * (needed - 1), 0.02)
    )


def test_a_judge_below_the_margin_does_not_pass() -> None:
    assert margin_p_value([-2] * 5 + [0] * 95, [2] * 100, 0.05) == 1.0


# ---- the smallest harm ----------------------------------------------------------------------------------------------------


def test_one_large_unit_among_small_ones_shows_nothing() -> None:
    assert margin_p_value([-1] * 20 + [0] * 131, [2] * 150 + [100], 0.0501) == 1.0


def test_the_smallest_harm_is_shown_in_four_of_five_sets() -> None:
    rng = np.random.default_rng(4)
    harm = smallest_harm(drawn_changes(rng, 0.0, 0.12, (1, 300))[0].tolist(), 600, LEVEL)
    assert harm is not None
    draws = drawn_changes(rng, harm, 0.12 - harm, (400, 300))
    assert 0.72 <= sum(harm_p_value(one) <= LEVEL for one in draws.tolist()) / 400 <= 0.88


def test_too_few_units_show_no_harm_at_all() -> None:
    """Five changes for the worse have p = 1/32; four have 1/16, over the level."""
    assert smallest_harm([0] * 4, 8, LEVEL) is None
    assert smallest_harm([0] * 5, 10, LEVEL) == 0.5
    assert harm_p_value([-1] * 4) > LEVEL >= harm_p_value([-1] * 5)
