"""Paired tests of two judges on the same held-out pairs: whether the second one is worse, or at least not much worse.

A *unit* is what is drawn independently: a prompt with all its pairs, each pair in both orders. A *change* is the number of a
unit's judgments that are right with the second judge, minus those that are right with the first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from tasks.benchmark.sign_flip import one_sided

POWER = 0.8
"""The probability with which the smallest harm is shown; customary (Cohen, 1988)."""


def level_of_round(level: float, round: int, rounds: int) -> float:
    """The level of one round's test, so that all rounds together have at most `level`.

    It is split evenly over the rounds and then, because the best judge so far was chosen on the same pairs, over the judges
    that could have been it: as many as there are earlier rounds, with round 0 (Bonferroni).
    """
    return level / (rounds * round)


def harm_p_value(changes: Sequence[int]) -> float:
    """The p-value of "the second judge is not worse": the exact one-sided sign-flip test."""
    return one_sided(changes)


def margin_p_value(changes: Sequence[int], sizes: Sequence[int], margin: float) -> float:
    """The p-value of "the second judge's accuracy is lower by `margin` or more": small if it is not inferior.

    `sizes` are the units' judgments. A score test: to the variance observed is added what the second judge would have had to
    change for the worse, whole units at a time, to be at the margin, so that few changes are not taken for certainty.
    """
    total, squares = sum(sizes), sum(size**2 for size in sizes)
    above = sum(changes) / total + margin
    variance = sum(change**2 for change in changes) + max(above, 0.0) * squares - margin**2 * squares
    return NormalDist().cdf(-above * total / math.sqrt(variance)) if above > 0 and variance > 0 else 1.0


def smallest_harm(changes: Sequence[int], judgments: int, level: float) -> float | None:
    """The smallest drop in accuracy that the test of harm shows with the probability `POWER`; None if it can show none.

    By the normal approximation, if as many judgments change as did; at least what the exact test needs if all changes are for
    the worse, and one judgment each.
    """
    needed = math.ceil(math.log2(1 / level))
    if needed > len(changes):
        return None
    quantiles = NormalDist().inv_cdf(1 - level) + NormalDist().inv_cdf(POWER)
    return max(quantiles * math.sqrt(sum(change**2 for change in changes)), needed) / judgments


def units_for_margin(level: float, margin: float) -> int:
    """How many units of equal size it takes until a second judge with the very same verdicts passes the test of the margin."""
    return math.ceil(NormalDist().inv_cdf(1 - level) ** 2 * (1 - margin) / margin)
