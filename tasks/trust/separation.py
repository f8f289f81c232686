"""How well numbers tell right from wrong: shares and AUCs with 95% intervals, by a bootstrap over prompts.

An AUC is the probability that a right one scores higher than a wrong one, ties counting half: 1 tells them apart without fail,
0.5 not at all, 0 the wrong way round (Mann-Whitney's U ÷ the number of comparisons).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from tasks.benchmark.bootstrap import Array, Sums, Table, draw, intervals, plain, ratio

_DIGITS = 4


def share(prompts: Sequence[str], hits: Sequence[int], of: Sequence[int]) -> dict[str, Any]:
    """The share of hits, each pair giving `hits` of `of`, as {"value", "interval", "of"}; None if there are none."""
    found, total = np.array(hits, dtype=np.float64), np.array(of, dtype=np.float64)
    return {**_with_interval(prompts, lambda weights: ratio(weights @ found, weights @ total)), "of": sum(of)}


def auc(prompts: Sequence[str], right: Sequence[Sequence[float]], wrong: Sequence[Sequence[float]]) -> dict[str, Any]:
    """The AUC of the scores of right ones against those of wrong ones, given by pair; all are compared with all.

    As {"value", "interval", "right": how many, "wrong": how many}; None if there are none of either.
    """
    above = _comparisons(right, wrong)
    n_right, n_wrong = (np.array([len(scores) for scores in side], dtype=np.float64) for side in (right, wrong))

    def of(weights: Array) -> Array:
        return ratio(((weights @ above) * weights).sum(axis=-1), (weights @ n_right) * (weights @ n_wrong))

    return {**_with_interval(prompts, of), "right": int(n_right.sum()), "wrong": int(n_wrong.sum())}


def _comparisons(right: Sequence[Sequence[float]], wrong: Sequence[Sequence[float]]) -> Array:
    """Shape (pairs, pairs): how many right scores of one pair are above wrong ones of another, ties counting half."""
    scores = np.array([score for of_pair in wrong for score in of_pair], dtype=np.float64)
    owners = np.array([i for i, of_pair in enumerate(wrong) for _ in of_pair], dtype=np.int64)
    above = np.zeros((len(right), len(wrong)))
    for i, of_pair in enumerate(right):
        mine = np.array(of_pair, dtype=np.float64)[:, None]
        won = (mine > scores).sum(axis=0) + 0.5 * (mine == scores).sum(axis=0)
        above[i] = np.bincount(owners, won, minlength=len(wrong))
    return above


@lru_cache(maxsize=1)
def _weights(prompts: tuple[str, ...]) -> Sums:
    """How often each pair is in each draw, as {"pairs": (draws, pairs)}; the numbers of one audit share them."""
    return draw({"pairs": Table(prompts, np.eye(len(prompts)))})


def _with_interval(prompts: Sequence[str], number: Callable[[Array], Array]) -> dict[str, Any]:
    """A number that is a function of the pairs' weights, which are all 1 in the sample and random in each draw."""
    if not prompts:
        return {"value": None, "interval": None}
    drawn = _weights(tuple(prompts))
    value = plain({"value": number(np.ones(len(prompts)))})["value"]
    n = len(set(prompts))
    spread = intervals(lambda sums: {"value": number(sums["pairs"])}, drawn, {"pairs": n if n > 1 else len(prompts)})
    if value is None or spread["value"] is None:
        return {"value": None, "interval": None}
    return {"value": round(value, _DIGITS), "interval": [round(end, _DIGITS) for end in spread["value"]]}
