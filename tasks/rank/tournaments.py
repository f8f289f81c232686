"""Tournament schedules: knockout, linear search, round robin and repeated best, without a model.

A tournament is a generator: it yields the matches that can be played now, pairs of indices (a, b) with a ≠ b, is sent
a's share of the win in each (1 won, 0 lost, ½ neither), and returns its result. Many tournaments in lockstep make one
batch per round.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Match = tuple[int, int]
Shares = Mapping[Match, float]
"""For each requested match, the share of the win of its first response."""

Method = Literal["knockout", "linear"]
RankMethod = Literal["round-robin", "repeated-best"]


@dataclass(frozen=True)
class Best:
    """The best of n. `ties` are the matches without a winner, `undecided` those without any verdict.

    In both, the response earlier in the list advanced. `nulls` counts the answers without a verdict, `failed` those that the
    engine did not give, by reason.
    """

    index: int
    matches: int
    rounds: int
    ties: tuple[Match, ...] = ()
    undecided: tuple[Match, ...] = ()
    nulls: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Ranking:
    """All of n in order, best first.

    `wins` is each response's sum of shares over its matches; `strengths` are Bradley-Terry's, as natural logs with mean 0.
    `ties` are matches without a winner, `undecided` those without any verdict, `cycles` groups whose members all beat one
    another, directly or through others (in the matches that were played: repeated best does not play all), and `equal` groups
    with the same wins, which are kept in the order of the list. `nulls` and `failed` are as in `Best`.
    """

    order: tuple[int, ...]
    matches: int
    rounds: int
    wins: tuple[float, ...] | None = None
    strengths: tuple[float, ...] | None = None
    ties: tuple[Match, ...] = ()
    cycles: tuple[tuple[int, ...], ...] = ()
    equal: tuple[tuple[int, ...], ...] = ()
    undecided: tuple[Match, ...] = ()
    nulls: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)


def pair_up(left: Sequence[int]) -> tuple[list[Match], list[int]]:
    """The matches of one round of a knockout: neighbours meet; the last of an odd number advances without a match."""
    return list(zip(left[::2], left[1::2], strict=False)), list(left[len(left) & ~1 :])


def best_of(n: int, method: Method) -> Generator[list[Match], Shares, Best]:
    """The best of n ≥ 1 in n − 1 matches: ⌈log2 n⌉ rounds of a knockout, or n − 1 rounds of champion against next."""
    result = yield from _best(list(range(n)), method, {})
    return result


def _best(left: list[int], method: Method, known: dict[Match, float]) -> Generator[list[Match], Shares, Best]:
    """The best of those left. Matches in `known` are not played again; the results of new ones are added to it."""
    ties: list[Match] = []
    played = rounds = 0
    while len(left) > 1:
        matches, rest = pair_up(left if method == "knockout" else left[:2])
        if method == "linear":
            rest = left[2:]
        unknown = [match for match in matches if match not in known]
        if unknown:
            played, rounds = played + len(unknown), rounds + 1
            for (a, b), share in (yield unknown).items():
                known[a, b], known[b, a] = share, 1 - share
        ties += [match for match in matches if known[match] == 0.5]
        left = [a if known[a, b] >= 0.5 else b for a, b in matches] + rest
    return Best(left[0], played, rounds, tuple(ties))


def ranking(n: int, method: RankMethod) -> Generator[list[Match], Shares, Ranking]:
    """All of n in order: by a round robin of n(n − 1) ÷ 2 matches in one round, or by repeatedly taking the best."""
    if method == "repeated-best":
        result = yield from _repeated_best(n)
        return result
    matches = [(a, b) for a in range(n) for b in range(a + 1, n)]
    shares = (yield matches) if matches else {}
    won_NN = np.zeros((n, n))
    for (a, b), share in shares.items():
        won_NN[a, b], won_NN[b, a] = share, 1 - share
    wins = np.round(won_NN.sum(axis=1), 9)
    order = sorted(range(n), key=lambda i: (-wins[i], i))
    return Ranking(
        tuple(order),
        len(matches),
        1 if matches else 0,
        tuple(map(float, wins)),
        bradley_terry(won_NN),
        tuple(match for match, share in shares.items() if share == 0.5),
        find_cycles(won_NN),
        _equal(order, [float(w) for w in wins]),
    )


def _repeated_best(n: int) -> Generator[list[Match], Shares, Ranking]:
    known: dict[Match, float] = {}
    order: list[int] = []
    ties: dict[Match, None] = {}
    played = rounds = 0
    while len(order) < n:
        best = yield from _best([i for i in range(n) if i not in order], "knockout", known)
        order.append(best.index)
        played, rounds = played + best.matches, rounds + best.rounds
        ties |= dict.fromkeys((min(match), max(match)) for match in best.ties)
    won_NN = np.zeros((n, n))
    for (a, b), share in known.items():
        won_NN[a, b] = share
    return Ranking(tuple(order), played, rounds, ties=tuple(ties), cycles=find_cycles(won_NN))


def _equal(order: Sequence[int], wins: Sequence[float]) -> tuple[tuple[int, ...], ...]:
    groups: dict[float, list[int]] = {}
    for i in order:
        groups.setdefault(wins[i], []).append(i)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def find_cycles(won_NN: np.ndarray) -> tuple[tuple[int, ...], ...]:
    """Groups in which each beats every other through some chain of wins; `won_NN[a, b]` is over ½ if a beats b."""
    n = len(won_NN)
    reach_NN = won_NN > 0.5
    for k in range(n):
        reach_NN |= np.outer(reach_NN[:, k], reach_NN[k])
    together_NN = reach_NN & reach_NN.T
    groups = {tuple(int(j) for j in np.flatnonzero(together_NN[i])) for i in range(n) if together_NN[i].any()}
    return tuple(sorted(groups))


_PRIOR = 0.1
_STEPS, _TOLERANCE = 10_000, 1e-10


def bradley_terry(won_NN: np.ndarray) -> tuple[float, ...]:
    """Log strengths of the Bradley-Terry model, mean 0, by minorize-maximize (Hunter 2004).

    A tenth of a win is added to both sides of every match: otherwise, one that won all its matches has no finite strength.
    """
    n = len(won_NN)
    if n < 2:
        return (0.0,) * n
    met_NN = (won_NN + won_NN.T) > 0
    won_NN = won_NN + _PRIOR * met_NN
    games_NN, wins_N = won_NN + won_NN.T, won_NN.sum(axis=1)
    strengths_N = np.ones(n)
    for _ in range(_STEPS):
        before_N = strengths_N
        strengths_N = wins_N / (games_NN / (strengths_N[:, None] + strengths_N[None, :])).sum(axis=1)
        strengths_N = strengths_N / np.exp(np.log(strengths_N).mean())
        if np.abs(np.log(strengths_N / before_N)).max() < _TOLERANCE:
            break
    return tuple(float(x) for x in np.log(strengths_N))


@dataclass
class Running:
    """One tournament in progress: the matches it is waiting for, and its result once it is over."""

    tournament: Generator[list[Match], Shares, Best] | Generator[list[Match], Shares, Ranking]
    waiting: list[Match] = field(default_factory=list)
    result: Best | Ranking | None = None

    def step(self, shares: Shares | None = None) -> None:
        """Continues with the outcomes of the matches it waited for; with None, starts."""
        try:
            self.waiting = next(self.tournament) if shares is None else self.tournament.send(shares)
        except StopIteration as over:
            self.waiting, self.result = [], over.value
