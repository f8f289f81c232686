"""Bootstrap intervals over prompts: the resampling unit is a prompt with all its games, never a single game.

A benchmark's numbers are functions of sums over its prompts (see `tasks.benchmark.rules`), so one draw is a weighted
sum, and the function that gives a number also gives its distribution.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Sums = Mapping[str, Array]
"""By group, the sums over its rows; the last axis is columns, any axis before it is draws."""
Numbers = dict[str, Any]
"""Numbers by name, nested; a leaf is a number, an array of draws, or None if it is undefined."""

DRAWS = 2000
_SEED = 20250902


@dataclass(frozen=True)
class Table:
    """The scored rows of one group: each row's prompt, and its values (rows × columns), which add up over rows."""

    prompts: Sequence[str]
    values: Array

    def sums(self) -> Array:
        """Shape (columns,)."""
        return np.asarray(self.values.sum(axis=0), dtype=np.float64)

    def by_prompt(self) -> Array:
        """Shape (prompts, columns): rows that share a prompt are summed, because they are not independent.

        If all rows share a single prompt, there is nothing to resample, so each row is treated as its own prompt.
        """
        if len(set(self.prompts)) == 1:
            return self.values
        places: dict[str, int] = {}
        index = np.array([places.setdefault(prompt, len(places)) for prompt in self.prompts])
        added = np.zeros((len(places), self.values.shape[1]))
        np.add.at(added, index, self.values)
        return added

    def played(self) -> int:
        """How many prompts have a row that counts: that of one that was not played is all zeros."""
        return int(self.by_prompt().any(axis=1).sum())


def draw(tables: Mapping[str, Table], draws: int = DRAWS) -> dict[str, Array]:
    """Sums of `draws` bootstrap samples, by group: shape (draws, columns). Each group keeps its number of prompts.

    The seed is fixed, so two judges on the same games get the same draws of prompts.
    """
    rng = np.random.default_rng(_SEED)
    drawn = {}
    for group, table in tables.items():
        by_prompt = table.by_prompt()
        n = len(by_prompt)
        drawn[group] = np.stack(
            [np.bincount(rng.integers(0, n, n), minlength=n) @ by_prompt for _ in range(draws)]
        ).astype(np.float64)
    return drawn


def intervals(
    numbers: Callable[[Sums], Numbers],
    drawn: Sums,
    prompts: Mapping[str, int] = {},
    pooled: Mapping[str, int] = {},
    of_differences: bool = False,
) -> Numbers:
    """The central 95% of each number over the draws, as [low, high]; None if the number is None.

    `prompts` counts those of each group, `pooled` those of numbers that are of several groups. A share that is 0 or 1 in every
    draw says nothing of its own doubt: it gets Clopper and Pearson's interval for as many prompts as it is of; without these
    counts, or for a name in neither of them, as the numbers around it are of or, at last, as there are. A difference of two
    shares that is the same in every draw, whatever it is, has as much doubt to both sides.
    """
    certain = None if of_differences else (0.0, 1.0)

    def of(numbers: Numbers, n: int) -> Numbers:
        found: Numbers = {}
        for name, value in numbers.items():
            own = prompts.get(name, pooled.get(name, n))
            found[name] = (
                of(value, own) if isinstance(value, dict) else None if value is None else _interval(value, own, certain)
            )
        return found

    return of(numbers(drawn), sum(prompts.values()))


def _interval(values: Any, n: int, certain: Sequence[float] | None) -> list[float] | None:
    """`certain` are the shares that get doubt from their number of prompts; None for differences, of which all do."""
    known = np.asarray(values)[~np.isnan(values)]
    if not known.size:
        return None
    if n and np.ptp(known) == 0 and (certain is None or known.flat[0] in certain):
        same, doubt = float(known.flat[0]), 1 - 0.025 ** (1 / n)
        return [max(same - doubt, -1.0 if certain is None else 0.0), min(same + doubt, 1.0)]
    return [float(low) for low in np.percentile(known, [2.5, 97.5])]


def plain(numbers: Numbers) -> Numbers:
    """The numbers as JSON values: None for 0 ÷ 0."""
    return each(numbers, lambda value: None if np.isnan(value) else float(value))


def each(numbers: Numbers, change: Callable[[Any], Any]) -> Numbers:
    """The same tree with `change` applied to every leaf that is not None."""
    return {
        name: each(value, change) if isinstance(value, dict) else None if value is None else change(value)
        for name, value in numbers.items()
    }


def minus(left: Numbers, right: Numbers) -> Numbers:
    """The differences left − right of two trees of the same shape; None where either is None."""
    return {
        name: minus(value, right[name])
        if isinstance(value, dict)
        else None
        if value is None or right[name] is None
        else value - right[name]
        for name, value in left.items()
    }


def ratio(numerator: Array, denominator: Array) -> Array:
    """Element by element; NaN for 0 ÷ 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(numerator / denominator, dtype=np.float64)


def mean(values: Sequence[Array]) -> Array:
    """The unweighted mean of a list of numbers."""
    return np.asarray(sum(values) / len(values), dtype=np.float64)
