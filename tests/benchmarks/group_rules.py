"""Group strategies by what they cost and how well their rewards follow the true quality of the responses.

``python -m tests.benchmarks.group_rules simulated [8]`` plays 2,000 groups of 8 with judges of known accuracy; with a judge's
folder in place of ``simulated``, 60 groups of the small world. All strategies play the same groups, with the same verdicts.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from data.world import taste
from tasks.rank import open_judge
from tasks.rank.tournaments import Match
from tasks.reward.groups import REFERENCE, STRATEGIES, Rewards, Strategy, strategy

SIZE = 8
N_SIMULATED, N_REAL = 2_000, 60
ACCURACIES = (1.0, 0.85, 0.75)
MISSING = 0.1
Shares = Mapping[Match, float | None]


@dataclass(frozen=True)
class Group:
    """The true quality of each response, and the verdicts on all its pairs; the reference's quality comes last."""

    quality: Sequence[float]
    shares: Shares

    def share(self, a: int, b: int) -> float | None:
        if (a, b) in self.shares:
            return self.shares[a, b]
        return None if (share := self.shares[b, a]) is None else 1 - share


def pairs_of(n: int) -> list[Match]:
    return [*combinations(range(n), 2), *((i, REFERENCE) for i in range(n))]


# ---- simulated judges -------------------------------------------------------------------------------------------------

Judging = Callable[[Sequence[float], random.Random], Shares]
"""The verdicts on all pairs of responses whose qualities are given."""


def verdicts(accuracy: float, orders: int) -> Judging:
    """A judge whose every verdict is right with the same probability, however large the gap; one for each order."""

    def judge(quality: Sequence[float], draw: random.Random) -> Shares:
        found = {}
        for a, b in pairs_of(len(quality) - 1):
            gap = quality[a] - quality[b]
            p_first = 0.5 if gap == 0 else accuracy if gap > 0 else 1 - accuracy
            found[a, b] = sum(draw.random() < p_first for _ in range(orders)) / orders
        return found

    return judge


def probability(accuracy: float) -> Judging:
    """A calibrated judge: it sees each gap with noise, and says how probable it then is that the first is better.

    Of gaps of variance 2, the sign of what it sees is right with probability ½ + arcsin(ρ) ÷ π (Sheppard), where ρ is the
    correlation of what it sees with the gap.
    """
    noise = math.sqrt(max(2 / _rho(accuracy) ** 2 - 2, 0.0))

    def judge(quality: Sequence[float], draw: random.Random) -> Shares:
        found = {}
        for a, b in pairs_of(len(quality) - 1):
            seen = quality[a] - quality[b] + draw.gauss(0, noise)
            found[a, b] = below(seen / (noise * math.sqrt(1 + noise**2 / 2))) if noise else float(seen > 0)
        return found

    return judge


def own_taste(noise: float) -> Judging:
    """A judge that errs about responses, not about pairs: it has a quality of its own for each, and is always true to it."""

    def judge(quality: Sequence[float], draw: random.Random) -> Shares:
        seen = [x + draw.gauss(0, noise) for x in quality]
        return {(a, b): float(seen[a] > seen[b]) for a, b in pairs_of(len(quality) - 1)}

    return judge


def below(x: float) -> float:
    """The standard normal distribution at x."""
    return (1 + math.erf(x / math.sqrt(2))) / 2


def _rho(accuracy: float) -> float:
    return math.sin(math.pi * (accuracy - 0.5))


JUDGES: dict[str, Callable[[float], Judging]] = {
    "one verdict": lambda accuracy: verdicts(accuracy, 1),
    "a verdict in each order": lambda accuracy: verdicts(accuracy, 2),
    "probability": probability,
    "own taste": lambda accuracy: own_taste(math.sqrt(max(1 / _rho(accuracy) ** 2 - 1, 0.0))),
}


def simulated(
    judge: str, accuracy: float, missing: float = 0.0, n: int = SIZE, groups: int = N_SIMULATED
) -> list[Group]:
    """Groups whose qualities, and those of their references, are standard normal. Equal arguments give equal groups."""
    judging = JUDGES[judge](accuracy)
    found = []
    for number in range(groups):
        draw = random.Random(f"{n}/{number}")
        quality = [draw.gauss(0, 1) for _ in range(n + 1)]
        shares = judging(quality, draw).items()
        found.append(Group(quality, {match: x if draw.random() >= missing else None for match, x in shares}))
    return found


def alike(groups: Sequence[Group], accuracy: float) -> dict[str, list[Group]]:
    """The same groups with the verdicts of simulated judges that are as accurate on them."""
    gaps = [abs(of.quality[a] - of.quality[b]) for of in groups for a, b in of.shares]
    gaps = [gap for gap in gaps if gap]
    low, high = 1e-3, 1e3
    for _ in range(50):
        noise = math.sqrt(low * high)
        too_good = np.mean([below(gap / (noise * math.sqrt(2))) for gap in gaps]) > accuracy
        low, high = (noise, high) if too_good else (low, noise)
    judges = {name: JUDGES[name](accuracy) for name in list(JUDGES)[:2]} | {"own taste": own_taste(low)}
    draw = random.Random(0)
    return {name: [Group(of.quality, judge(of.quality, draw)) for of in groups] for name, judge in judges.items()}


# ---- the judge of the small world -------------------------------------------------------------------------------------


def of_world(judge: str, votes: int, groups: int = N_REAL) -> list[Group]:
    """All pairs of drawn groups, shown to a judge in both orders. The quality is the number of words that are liked."""
    draw = random.Random(f"{taste.WORLD_SEED}/groups")
    drawn = [
        [" ".join(draw.sample(taste.WORDS, taste.WORDS_PER_RESPONSE)) for _ in range(SIZE + 1)] for _ in range(groups)
    ]
    asked = [(taste.QUESTION, texts[a], texts[b]) for texts in drawn for a, b in pairs_of(SIZE)]
    with open_judge(judge, votes=votes, temperature=float(votes > 1)) as opened:
        compared = iter([one.reward for one in opened.compare_many(asked)])
        print(f"{len(asked)} comparisons, {opened.usage.generations} replies, {opened.usage.nulls} without a verdict")
    found = []
    for texts in drawn:
        quality = [float(sum(map(taste.likes, text.split()))) for text in texts]
        found.append(Group(quality, {match: next(compared) for match in pairs_of(SIZE)}))
    return found


# ---- measuring --------------------------------------------------------------------------------------------------------


@dataclass
class Measured:
    """What came of one strategy in each group."""

    matches: list[int] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    pearson: list[float] = field(default_factory=list)
    spearman: list[float] = field(default_factory=list)
    flat: list[bool] = field(default_factory=list)
    without: list[float] = field(default_factory=list)
    """The share of the responses without a reward."""

    def mean(self, name: str) -> float:
        return float(np.mean(getattr(self, name)))


def play(name: Strategy, group: Group, seed: int) -> tuple[Rewards, int, int]:
    """The rewards, and how many matches and rounds they took. The group's first is as good as any, not its best."""
    playing = strategy(name, len(group.quality) - 1, seed, has_reference=name == "reference")
    matches = rounds = 0
    try:
        waiting = next(playing)
        while True:
            matches, rounds = matches + len(waiting), rounds + 1
            waiting = playing.send({(a, b): group.share(a, b) for a, b in waiting})
    except StopIteration as over:
        return over.value, matches, rounds


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's; 0 where one of them has no variance: such a group teaches nothing."""
    if len(x) < 2 or np.ptp(x) < 1e-9 or np.ptp(y) < 1e-9:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def ranks(x: np.ndarray) -> np.ndarray:
    """Ranks from 1, equal numbers with their mean rank."""
    _, group, counts = np.unique(np.round(x, 9), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    found: np.ndarray = (last - (counts - 1) / 2)[group]
    return found


def measure(name: Strategy, groups: Iterable[Group]) -> Measured:
    """Groups all of whose responses are equally good are left out."""
    found = Measured()
    for seed, group in enumerate(groups):
        rewards, matches, rounds = play(name, group, seed)
        scored = [i for i, value in enumerate(rewards.values) if value is not None]
        values = np.array([rewards.values[i] for i in scored], dtype=float)
        quality = np.array([group.quality[i] for i in scored])
        if np.ptp(np.array(group.quality[:-1])) == 0:
            continue
        found.matches.append(matches)
        found.rounds.append(rounds)
        found.pearson.append(correlation(values, quality))
        found.spearman.append(correlation(ranks(values), ranks(quality)))
        found.flat.append(len(values) < 2 or float(np.ptp(values)) < 1e-9)
        found.without.append(1 - len(scored) / (len(group.quality) - 1))
    return found


def accuracy_of(groups: Iterable[Group]) -> float:
    """The share of the win that goes to the better response, where one is better."""
    shares = [
        share if group.quality[a] > group.quality[b] else 1 - share
        for group in groups
        for (a, b), share in group.shares.items()
        if share is not None and group.quality[a] != group.quality[b]
    ]
    return float(np.mean(shares))


# ---- tables -----------------------------------------------------------------------------------------------------------


def row(*cells: Any) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def header(*cells: str) -> str:
    return row(*cells) + "\n" + "|---" * len(cells) + "|"


def effort(found: Measured) -> tuple[str, str]:
    return f"{found.mean('matches'):.3g}", f"{found.mean('rounds'):.2g}"


def both(found: Measured) -> str:
    """Pearson's correlation with the true quality, and Spearman's."""
    return f"{found.mean('pearson'):.2f} ({found.mean('spearman'):.2f})"


def simulation(n: int) -> None:
    for judge in JUDGES:
        drawn = {accuracy: simulated(judge, accuracy, n=n) for accuracy in ACCURACIES}
        columns = [f"{accuracy:.0%} right" for accuracy in ACCURACIES]
        print(
            f"\n{judge}:\n\n{header('strategy', 'matches', 'rounds', *columns, *('no variance, ' + one for one in columns))}"
        )
        for name in STRATEGIES:
            found = [measure(name, groups) for groups in drawn.values()]
            flat = [f"{one.mean('flat'):.1%}" for one in found]
            print(row(name, *effort(found[1]), *map(both, found), *flat), flush=True)
    lossy = {judge: simulated(judge, 0.85, MISSING, n) for judge in JUDGES}
    print(f"\n85% right, {MISSING:.0%} of the matches without a verdict:\n\n{header('strategy', *JUDGES, 'no reward')}")
    for name in STRATEGIES:
        found = [measure(name, groups) for groups in lossy.values()]
        print(row(name, *map(both, found), f"{found[0].mean('without'):.1%}"), flush=True)


def real(judge: str) -> None:
    for votes in (1, 4):
        groups = of_world(judge, votes)
        accuracy = accuracy_of(groups)
        others = alike(groups, accuracy)
        what = f"{votes} votes in each order" if votes > 1 else "greedy, both orders"
        print(f"\n{what}: {accuracy:.1%} of the win to the better one\n")
        columns = [f"simulated, {name}" for name in others]
        print(header("strategy", "matches", "rounds", "correlation", "no variance", *columns))
        for name in STRATEGIES:
            of = measure(name, groups)
            simulated_too = [both(measure(name, some)) for some in others.values()]
            print(row(name, *effort(of), both(of), f"{of.mean('flat'):.1%}", *simulated_too))


if __name__ == "__main__":
    simulation(int(sys.argv[2]) if len(sys.argv) > 2 else SIZE) if sys.argv[1] == "simulated" else real(sys.argv[1])
