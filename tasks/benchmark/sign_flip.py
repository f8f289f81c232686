"""The sign-flip test of two judges on the same games; its units are what is drawn independently, not single games.

A *change* is the number of a unit's outcomes that are right with the second judge, minus those that are right with the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from data.benchmarks.items import Benchmark
from data.records import prompt_key

_LEAST = 1e-14
"""The least p-value: the rounding errors of the transform are about 1e-16 a term."""


def units_of(benchmark: Benchmark) -> list[int]:
    """The number of each item's unit: its prompt or, in a group in which all share one, the item (as for the intervals)."""
    prompts = [(item.group, prompt_key(item.prompt)) for item in benchmark.items]
    several = Counter(group for group, _ in set(prompts))
    known: dict[tuple[str, str], int] = {}
    names = [
        prompt if several[prompt[0]] > 1 else (item.group, item.id)
        for item, prompt in zip(benchmark.items, prompts, strict=True)
    ]
    return [known.setdefault(name, len(known)) for name in names]


def added_up(units: Sequence[int], numbers: Iterable[int]) -> list[int]:
    """The sum of each unit's numbers, of which every item has one."""
    sums = [0] * (max(units) + 1)
    for unit, number in zip(units, numbers, strict=True):
        sums[unit] += number
    return sums


def one_sided(changes: Sequence[int]) -> float:
    """P(a sum as low as that of the changes) if each had either sign with the same probability: the exact sign-flip test.

    Small if the second judge is worse. It is McNemar's one-sided exact test if all changes have the same size.
    """
    sizes = Counter(abs(change) for change in changes if change)
    reach, n = sum(size * times for size, times in sizes.items()), sizes.total()
    if not n:
        return 1.0
    # The sum's characteristic function is a product of cosines; its inverse transform has the probability of each sum.
    angles = 2 * np.pi * np.arange(reach + 1) / (2 * reach + 1)
    product = np.prod([np.cos(size * angles) ** times for size, times in sizes.items()], axis=0)
    probabilities = np.roll(np.fft.irfft(product, 2 * reach + 1), reach)
    tail = float(probabilities[: sum(changes) + reach + 1].sum())
    return min(1.0, max(tail, 0.5**n, _LEAST))


def two_sided(changes: Sequence[int]) -> float:
    """P(a sum as far from 0 as that of the changes), under the same hypothesis: small if the judges differ, either way."""
    worse = changes if sum(changes) < 0 else [-change for change in changes]
    return min(1.0, 2 * one_sided(worse))
