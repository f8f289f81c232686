"""What the rules of all benchmarks share: the two parts of a scorer, and when a response has won.

A scorer has two parts: `tabulate` makes one row of values for each scored row of a group, and `numbers` computes the
published numbers from the sums of those rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from data.benchmarks.items import Item
from data.records import prompt_key
from tasks.benchmark.bootstrap import Numbers, Sums, Table
from tasks.benchmark.games import Game, Games

Outcomes = dict[tuple[str, str], bool]
"""Right or wrong by the item's id and a name within the item, for the paired test."""


@dataclass(frozen=True)
class Scorer:
    """A benchmark's rules. `tabulate` gives a group's rows and their outcomes, a row of zeros for what was not played.

    `pooled` has the groups of those numbers that are of several groups, but not of all.
    """

    tabulate: Callable[[Games, Sequence[Item]], tuple[Table, Outcomes]]
    numbers: Callable[[Games, Sums], Numbers]
    pooled: Mapping[str, Sequence[str]] = field(default_factory=dict)


def make_table(items: Sequence[Item], rows: Sequence[Sequence[float]]) -> Table:
    return Table([prompt_key(item.prompt) for item in items], np.array(rows, dtype=np.float64))


def mean_win(games: Sequence[Game]) -> float:
    """The mean win probability of a cell's first response; a tie and a game without a verdict count one half."""
    # Rounded, so the order of summation cannot turn a tie into a win through the last bits.
    return round(math.fsum(0.5 if game.win is None else game.win for game in games) / len(games), 12)


def decided(games: Sequence[Game]) -> int:
    """+1, −1 or 0: the sign of the sum of decisions; a tie and a game without a verdict count 0."""
    total = sum(game.decision or 0 for game in games)
    return (total > 0) - (total < 0)


def is_complete(games: Games, sums: Sums) -> bool:
    """Whether every group of the benchmark is present and its data complete; otherwise there is no total."""
    return set(sums) >= set(games.benchmark.groups) and not games.benchmark.lacks
