"""Rewards for a group of responses to one prompt, from a judge that compares two: who meets whom, and what comes of it.

A strategy is a generator without a model: it yields rounds of matches (i, j), is sent the first's share of the win in each
(a probability or a share of votes from 0 to 1; None where there is no verdict), and returns the rewards::

    strategy("circular", 3) → [(0, 1), (1, 2), (2, 0)] ← {(0, 1): 0.9, (1, 2): 0.5, (2, 0): None}
                            → Rewards(values=(0.9, 0.3, 0.5), …)

A reward is the mean share over a response's own matches, so it is in [0, 1] and as fine as the verdicts are. A match without
a verdict counts for neither side, and a response without any verdict has no reward. Within one call no pair meets twice.

Recommended is "circular-twice": for 2G matches in one round its rewards follow the true quality nearly as well as those of
all G(G − 1) ÷ 2 pairs. Groups of 8, correlation within the group, from ``tests/benchmarks/results.md``:

============== ======= ============================ ======================= ======================= ==============
strategy       matches judge 100 / 85 / 75% right¹  errs about responses²   judge of the world, 97% the same, 77%
============== ======= ============================ ======================= ======================= ==============
reference      8       .60 / .48 / .36              .53 / .42               .72                     .43
greedy         7       .75 / .59 / .46              .65 / .51               .73                     .48
circular       8       .77 / .65 / .52              .68 / .53               .77                     .48
circular-twice 16      .89 / .79 / .68              .78 / .61               .86                     .55
pivot          17      .87 / .77 / .66              .76 / .59               .83                     .51
knockout       17–18   .90 / .81 / .70              .79 / .61               .87                     .54
all-pairs      28      .95 / .88 / .79              .84 / .66               .92                     .57
============== ======= ============================ ======================= ======================= ==============

¹ simulated, a verdict in each order, wrong by chance; ² simulated, 85 and 75% right, always true to a quality of its own.
"""

from __future__ import annotations

import math
import random
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Literal, get_args

import numpy as np

from tasks.rank.tournaments import Match, bradley_terry, find_cycles, pair_up

REFERENCE = -1
"""The second of a match against the reference, which is no member of the group."""
Outcomes = Mapping[Match, float | None]
"""For each requested match, the share of the win of its first response; None if there is no verdict."""

Strategy = Literal[
    "reference", "greedy", "circular", "circular-twice", "knockout", "all-pairs", "bradley-terry", "pivot"
]
"""What a group's responses are compared with:

- reference: each with a reference response that is given, as in GRAM;
- greedy: each with one of the group, its first unless another is named, such as the policy's greedy response
  (anchor-based ranking of ArenaRL, arXiv 2601.06487; a random one is BRPO's of Writing-Zero, arXiv 2506.00103);
- circular: each with its next in a random circle (NeMo-Gym's genrm_compare, whose circle is the order of the list);
- circular-twice: two random circles without a common pair, or all pairs in groups of up to 5;
- knockout: four shuffled knockouts, in the same rounds;
- all-pairs: each with each;
- bradley-terry: the same matches; the reward is the mean probability of winning against the others in the Bradley-Terry
  model that fits them. Equal to all-pairs but for its prior if all verdicts are there; without some, it takes into account
  how strong those were that a response did meet;
- pivot: a random circle, then each with the circle's two best (probabilistic pivot tournament, arXiv 2607.05391;
  llm_verifier/pivot_tournament.py at 0063cba). A pair of the circle is not compared again, as both orders are shown at once.
"""
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
N_KNOCKOUTS = 4
N_PIVOTS = 2
"""The default of llm_verifier at 0063cba."""

GROUP_OF_ONE = "group_of_one"
"""The reason of a response without a reward that has none to be compared with."""
NO_VERDICT = "no_verdict"
"""The reason of a response without a reward whose matches all lack a verdict."""


@dataclass(frozen=True)
class Rewards:
    """The reward of each response in [0, 1], or None with the reason.

    `cycles` are groups whose members all beat one another, directly or through others, in the matches that were played.
    """

    values: tuple[float | None, ...]
    cycles: tuple[tuple[int, ...], ...]
    reasons: tuple[str | None, ...]


def cost(name: Strategy, n: int) -> int:
    """The matches that a group of n needs, each to be shown in both orders; for knockout and pivot, the most.

    Raises ValueError for an unknown strategy and for n < 1.
    """
    _check(name, n)
    pairs = n * (n - 1) // 2
    match name:
        case "reference":
            return n
        case "greedy":
            return n - 1
        case "circular":
            return min(n, pairs)
        case "circular-twice":
            return min(2 * n, pairs)
        case "knockout":
            return min(N_KNOCKOUTS * (n - 1), pairs)
        case "pivot":
            # The circle, the other pairs of each pivot (all but its two neighbours), or one more if the pivots are neighbours.
            return min(n + N_PIVOTS * max(n - 3, 0), pairs)
        case _:
            return pairs


def strategy(
    name: Strategy, n: int, seed: int | str = 0, has_reference: bool = False, greedy: int = 0
) -> Generator[list[Match], Outcomes, Rewards]:
    """Plays a group of n ≥ 1 responses. `greedy` is the index of the one that "greedy" compares the others with.

    Equal seeds give equal matches, as long as the outcomes are equal. Raises ValueError for an unknown strategy, a reference
    that is missing or of no use, and an index outside the group; while playing, KeyError for a match without an outcome and
    ValueError for a share outside [0, 1].
    """
    _check(name, n)
    if name == "reference" and not has_reference:
        raise ValueError(
            "the strategy 'reference' compares with a reference response: give one, or use another strategy"
        )
    if name != "reference" and has_reference:
        raise ValueError(f"the strategy {name!r} has no use for a reference response: leave it out, or use 'reference'")
    if not 0 <= greedy < n:
        raise ValueError(f"greedy must be the index of one of the {n} responses, got {greedy}")
    return _play(name, n, random.Random(f"{name}/{n}/{seed}"), greedy)


def _check(name: str, n: int) -> None:
    if name not in STRATEGIES:
        raise ValueError(f"there is no strategy {name!r}; use one of {', '.join(STRATEGIES)}")
    if n < 1:
        raise ValueError(f"a group must have at least one response, got {n}")


def _play(name: Strategy, n: int, draw: random.Random, greedy: int) -> Generator[list[Match], Outcomes, Rewards]:
    played: dict[Match, float | None] = {}
    for matches in _rounds(name, n, draw, greedy, played):
        if matches:
            outcomes = yield matches
            played.update({match: _checked(match, outcomes[match]) for match in matches})
    won_NN = _table(n, played)
    values = _fitted(won_NN) if name == "bradley-terry" else _mean_shares(n, played)
    without = GROUP_OF_ONE if n == 1 and name != "reference" else NO_VERDICT
    return Rewards(tuple(values), find_cycles(won_NN), tuple(without if x is None else None for x in values))


def _checked(match: Match, share: float | None) -> float | None:
    if share is not None and not 0 <= share <= 1:
        raise ValueError(f"the share of the match {match} must be from 0 to 1, got {share}")
    return share


# ---- who meets whom ---------------------------------------------------------------------------------------------------


def _rounds(name: Strategy, n: int, draw: random.Random, greedy: int, played: Outcomes) -> Iterator[list[Match]]:
    """The rounds of a strategy. Later ones depend on the outcomes of earlier ones, which are then in `played`."""
    match name:
        case "reference":
            yield [(i, REFERENCE) for i in range(n)]
        case "greedy":
            yield [(i, greedy) for i in range(n) if i != greedy]
        case "circular":
            yield _circle(n, draw)
        case "circular-twice":
            yield _two_circles(n, draw)
        case "knockout":
            yield from _knockouts(n, draw, played)
        case "pivot":
            yield from _pivot(n, draw, played)
        case _:
            yield list(combinations(range(n), 2))


def _circle(n: int, draw: random.Random) -> list[Match]:
    """Each with its next in a random order; two of them meet only once."""
    order = draw.sample(range(n), n)
    return list(pairwise(order)) + ([(order[-1], order[0])] if n > 2 else [])


def _two_circles(n: int, draw: random.Random) -> list[Match]:
    if n <= 5:  # two circles of 5 without a common pair are all ten pairs; with fewer there are none
        return list(combinations(range(n), 2))
    first = _circle(n, draw)
    taken = {frozenset(match) for match in first}
    while True:  # one circle in 20 (n = 6) to 7 (large n) has no pair of the first
        second = _circle(n, draw)
        if not any(frozenset(match) in taken for match in second):
            return first + second


def _knockouts(n: int, draw: random.Random, played: Outcomes) -> Iterator[list[Match]]:
    """All knockouts in lockstep. Where a match has no winner, the earlier in the shuffled order advances."""
    left = [draw.sample(range(n), n) for _ in range(N_KNOCKOUTS)]
    while len(left[0]) > 1:
        paired = [pair_up(one) for one in left]
        yield _new((match for matches, _ in paired for match in matches), played)
        left = [[b if _has_lost(a, b, played) else a for a, b in matches] + rest for matches, rest in paired]


def _pivot(n: int, draw: random.Random, played: Outcomes) -> Iterator[list[Match]]:
    """A circle, then each with the best of it; equal ones in the circle's order, those without any verdict last."""
    circle = _circle(n, draw)
    yield circle
    order = dict.fromkeys(i for match in circle for i in match)
    shares = _mean_shares(n, played)
    best = sorted(order, key=lambda i: -1.0 if (share := shares[i]) is None else share, reverse=True)[:N_PIVOTS]
    yield _new(((i, pivot) for pivot in best for i in range(n) if i != pivot), played)


def _new(matches: Iterator[Match], played: Outcomes) -> list[Match]:
    """Those of the matches whose two have not met yet, each pair once."""
    met = {frozenset(match) for match in played}
    new = {frozenset(match): match for match in matches}
    return [match for pair, match in new.items() if pair not in met]


def _has_lost(a: int, b: int, played: Outcomes) -> bool:
    """Whether a has less than half of the win against b, whichever of them was the first."""
    if (a, b) in played:
        share = played[a, b]
        return share is not None and share < 0.5
    share = played[b, a]
    return share is not None and share > 0.5


# ---- what comes of it -------------------------------------------------------------------------------------------------


def _table(n: int, played: Outcomes) -> np.ndarray:
    """``[a, b]``: a's share of the win against b; 0 both ways for those that have not met, or have no verdict."""
    won_NN = np.zeros((n, n))
    for (a, b), share in played.items():
        if share is not None and b != REFERENCE:
            won_NN[a, b], won_NN[b, a] = share, 1 - share
    return won_NN


def _mean_shares(n: int, played: Outcomes) -> list[float | None]:
    shares: list[list[float]] = [[] for _ in range(n)]
    for (a, b), share in played.items():
        if share is not None:
            shares[a].append(share)
            if b != REFERENCE:
                shares[b].append(1 - share)
    return [_mean(some) for some in shares]


def _fitted(won_NN: np.ndarray) -> list[float | None]:
    """The mean probability of beating each other that it is linked with by verdicts, in the Bradley-Terry model."""
    values: list[float | None] = [None] * len(won_NN)
    for linked in _linked(won_NN):
        strengths = bradley_terry(won_NN[np.ix_(linked, linked)])
        for i, own in zip(linked, strengths, strict=True):
            against = [other for j, other in zip(linked, strengths, strict=True) if j != i]
            values[i] = _mean([1 / (1 + math.exp(other - own)) for other in against])
    return values


def _linked(won_NN: np.ndarray) -> list[list[int]]:
    """The responses in groups that verdicts link, directly or through others: only within one are strengths comparable."""
    reach_NN = (won_NN + won_NN.T > 0) | np.eye(len(won_NN), dtype=bool)
    for k in range(len(won_NN)):
        reach_NN |= np.outer(reach_NN[:, k], reach_NN[k])
    return [list(linked) for linked in {tuple(int(j) for j in np.flatnonzero(row)) for row in reach_NN}]


def _mean(some: Sequence[float]) -> float | None:
    # Complementary shares add up to one except for their last bits.
    return round(math.fsum(some) / len(some), 12) if some else None
