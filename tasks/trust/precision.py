"""The loosest confidence threshold whose precision has been shown on labeled pairs that no model was trained on.

Precision is the share of kept labels that are right. Thresholds are tested from strict to loose; each test asks whether the
one-sided Clopper-Pearson bound of the precision reaches the target (Clopper and Pearson, 1934), and the first failure stops
(fixed-sequence testing; for thresholds: Angelopoulos et al., "Learn then Test", 2021). So whatever the judge, a threshold whose
true precision is below the target is chosen with a probability of at most `error`: for that, the first such threshold in the
sequence must pass its test.

A threshold that keeps too few pairs to pass even without an error is passed over. How many are kept says nothing about which
are right, and the first test that follows is a test of `error` like any other, as long as a more confident label is not more
often wrong. Otherwise a confident but wrong judge would have to be tested at one threshold just too rarely, and be right at
the looser ones; the tests hold such a judge against `error`, too.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

_ENOUGH = 4
"""A domain is tested by itself if it has this many times the pairs that would have to be kept without an error. Ours: then a
threshold that keeps half of them may have one error at a target of 0.95."""
_MOST = 100


@dataclass(frozen=True)
class Kept:
    """How many of some labeled pairs a threshold keeps, and how many of those with the right label."""

    threshold: float
    kept: int
    right: int


@dataclass(frozen=True)
class Tested:
    """A threshold that was tested: the precision is at least `bound`, with the confidence of the test."""

    threshold: float
    kept: int
    right: int
    bound: float


@dataclass(frozen=True)
class Choice:
    """The thresholds that were tested, in order, and the last one whose precision was shown: None if there is none."""

    chosen: Tested | None
    tested: Sequence[Tested]


def lower_bound(right: int, kept: int, error: float) -> float:
    """The one-sided Clopper-Pearson bound: the smallest precision under which `right` or more are not rarer than `error`."""
    from scipy.special import betaincinv

    return float(betaincinv(right, kept - right + 1, error)) if right else 0.0


def fewest_kept(target: float, error: float) -> int:
    """How many pairs must be kept, all of them right, to show this precision: 59 for 0.95 at an error of 0.05."""
    return math.ceil(math.log(error) / math.log(target) - 1e-9)


def choose_threshold(found: Sequence[Kept], target: float, error: float) -> Choice:
    """Tests thresholds, given from strict to loose, one after the other; the first failure stops."""
    fewest, tested = fewest_kept(target, error), list[Tested]()
    for one in found:
        if one.kept < fewest:
            continue
        tested.append(Tested(one.threshold, one.kept, one.right, lower_bound(one.right, one.kept, error)))
        if tested[-1].bound < target:
            return Choice(tested[-2] if len(tested) > 1 else None, tested)
    return Choice(tested[-1] if tested else None, tested)


def further_pairs(found: Sequence[Kept], n_pairs: int, target: float, error: float) -> int | None:
    """About how many more labeled pairs would show the target, if they are judged as the `n_pairs` were.

    None if not even a hundred times as many would: what is kept is not right often enough.
    """

    def shown(n: int) -> bool:
        grown = [
            Kept(one.threshold, kept := one.kept * n // n_pairs, kept - -(-(one.kept - one.right) * n // n_pairs))
            for one in found
        ]
        return choose_threshold(grown, target, error).chosen is not None

    low, high = n_pairs, 2 * n_pairs
    while not (n_pairs and shown(high)):
        if high >= _MOST * n_pairs:
            return None
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if shown(middle) else (middle, high)
    return high - n_pairs


def own_domains(
    pairs: Mapping[str, int], wanted: Collection[str], target: float, error: float
) -> tuple[list[str], float]:
    """Which of the `wanted` domains are tested by themselves, and the error of each test; `pairs` has the labeled ones of each.

    The other wanted domains share one more test. Together, all tests have the given error (Bonferroni).
    Which domains they are depends on numbers of pairs only, not on labels.
    """

    def large_enough(names: Collection[str], share: float) -> list[str]:
        return [name for name in names if pairs.get(name, 0) >= _ENOUGH * fewest_kept(target, share)]

    own = large_enough(sorted(wanted), error)
    while True:  # each domain's test takes from the error of the others
        share = error / max(1, len(own) + (len(own) < len(wanted)))
        if (fewer := large_enough(own, share)) == own:
            return own, share
        own = fewer
