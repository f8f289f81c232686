"""Benchmarks that rank several responses: IF-RewardBench, whose preferences are held against ratings made of all comparisons.

Ratings: metrics/analysis_overall_assessment.py of thu-coai/IF-RewardBench at c192fe96, compute_elo_with_indices.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from data.benchmarks.items import Item
from data.seeds import derive_seed
from tasks.benchmark.bootstrap import Numbers, Sums, Table, mean, ratio
from tasks.benchmark.games import Game, Games
from tasks.benchmark.rules import Outcomes, Scorer, decided, is_complete, make_table, mean_win

Match = tuple[int, int]
"""(winner, loser), by their places among an item's responses."""

_K, _RATING, _EPOCHS, _STEADY = 32, 1200.0, 100, 0.2
"""Elo's K, the first rating, how often all matches are gone through, and the share of that before K falls towards 1."""
_COLUMNS = ("accuracy", "kendall", "single_game_accuracy", "single_game_kendall")


def elo(n: int, matches: Sequence[Match], seed: int) -> list[float]:
    """The rating of each of n responses. The matches are gone through in an order that the seed draws anew each time."""
    ratings, order, rng = [_RATING] * n, list(matches), random.Random(seed)
    for epoch in range(_EPOCHS):
        rng.shuffle(order)
        fallen = max(0.0, (epoch - _EPOCHS * _STEADY) / (_EPOCHS * (1 - _STEADY)))
        k = max(1.0, _K * (1 - fallen))
        for winner, loser in order:
            gap = (ratings[loser] - ratings[winner]) / 400
            expected_winner, expected_loser = 1 / (1 + 10**gap), 1 / (1 + 10**-gap)
            ratings[winner] += k * (1 - expected_winner)
            ratings[loser] -= k * expected_loser
    return ratings


def agreement(ratings: Sequence[float], better: Sequence[Match]) -> tuple[list[bool], float]:
    """Which preferences the ratings have, and Kendall's τ_b over the preferences; equal ratings have none of them."""
    signs = [(ratings[first] > ratings[second]) - (ratings[first] < ratings[second]) for first, second in better]
    right, wrong = signs.count(1), signs.count(-1)
    kendall = (right - wrong) / max(1.0, math.sqrt((right + wrong) * len(signs)))
    return [sign > 0 for sign in signs], kendall


def _rows(games: Games, items: Sequence[Item]) -> tuple[Table, Outcomes]:
    """Columns: instructions; then those of `_COLUMNS`. An instruction needs the games of all its pairs in both orders."""
    rows: list[list[float]] = []
    outcomes: Outcomes = {}
    for item in items:
        played = [games.of(item, cell) for cell in item.cells]
        if not all({game.order for game in found} == {0, 1} for found in played):
            rows.append([0.0] * (1 + len(_COLUMNS)))
            continue
        both = [round(mean_win(found) - 0.5, 12) for found in played]
        single = [float(_single(item, place, found)) for place, found in enumerate(played)]
        seed = derive_seed(0, item.id)
        row = [1.0]
        for i, wins in enumerate((both, single)):
            ratings = elo(len(item.responses), _matches(item, wins), seed)
            right, kendall = agreement(ratings, item.better)
            row += [sum(right) / len(right), kendall]
            if i == 0:
                outcomes |= {
                    (item.id, f"{first}>{second}"): one for (first, second), one in zip(item.better, right, strict=True)
                }
        rows.append(row)
    return make_table(items, rows), outcomes


def _single(item: Item, place: int, played: Sequence[Game]) -> int:
    """The decision in one of the pair's two orders, which is drawn, as in the authors' runs."""
    order = derive_seed(0, item.id, item.cells[place].name) % 2
    return decided([game for game in played if game.order == order])


def _matches(item: Item, wins: Sequence[float]) -> list[Match]:
    """The pairs with a winner: the first of a cell where its number is above 0, the second where it is below."""
    return [
        (cell.first, cell.second) if win > 0 else (cell.second, cell.first)
        for cell, win in zip(item.cells, wins, strict=True)
        if win
    ]


def _numbers(games: Games, sums: Sums) -> Numbers:
    """By type of instruction the means over its instructions, and the means of the three types.

    A pair is decided by both orders together; "single_game" decides it by one of them.
    """
    types = {
        kind: {name: ratio(s[..., 1 + i], s[..., 0]) for i, name in enumerate(_COLUMNS)} for kind, s in sums.items()
    }
    whole = is_complete(games, sums)
    overall = {name: mean([kind[name] for kind in types.values()]) if whole else None for name in _COLUMNS}
    return {"types": types, **overall, "total": overall["accuracy"]}


IF_REWARD_BENCH = Scorer(_rows, _numbers)
