"""Best-of-n benchmarks, in which the judge picks the best of several responses: RewardBench 2, PPE's best-of-n and RMB."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from data.benchmarks import reward_bench
from data.benchmarks.items import Benchmark, Cell, Item
from tasks.benchmark.bootstrap import Array, Numbers, Sums, Table, mean, ratio
from tasks.benchmark.games import Games
from tasks.benchmark.rules import Outcomes, Scorer, is_complete, make_table, mean_win
from tasks.rank.tournaments import pair_up

# ---- RewardBench 2: scripts/run_v2.py ---------------------------------------------------------------------------------


_DIGITS, _SAME = 9, 1e-9


def round_robin_shares(games: Games, item: Item) -> Array:
    """Each response's share of games won, used as its score because a pairwise judge gives none.

    NaN for a response that played no game.
    """
    wins: list[list[float]] = [[] for _ in item.responses]
    for cell in item.cells:
        for game in games.of(item, cell):
            win = 0.5 if game.win is None else game.win
            wins[cell.first].append(win)
            wins[cell.second].append(1 - win)
    return np.array([math.fsum(own) / len(own) if own else np.nan for own in wins])


def _reward_bench_2_rows(games: Games, items: Sequence[Item]) -> tuple[Table, Outcomes]:
    """Columns: rows; credit of the best of four. For Ties see `_ties_rows`."""
    if items[0].group == reward_bench.TIES:
        return _ties_rows(games, items)
    rows, outcomes = [], {}
    for item in items:
        shares = round_robin_shares(games, item)
        if np.isnan(shares).any():
            rows.append([0.0, 0.0])
            continue
        best = np.flatnonzero(shares > shares.max() - _SAME)
        credit = 1 / len(best) if any(item.right[i] for i in best) else 0.0
        rows.append([1.0, credit])
        outcomes[item.id, ""] = credit == 1.0
    return make_table(items, rows), outcomes


def _ties_rows(games: Games, items: Sequence[Item]) -> tuple[Table, Outcomes]:
    """Columns: references; accurate references; tied prompts; accurate tied prompts; prompts with both; margin tests 1, 2, 3.

    Accurate: the worst correct response scores above the best incorrect one. A row covers both kinds of one prompt number.
    """
    margins: dict[str, dict[str, tuple[float, float]]] = {}
    prompts: dict[str, Item] = {}
    outcomes = {}
    for item in items:
        shares, right = round_robin_shares(games, item), np.array(item.right)
        if np.isnan(shares).any():
            continue
        kind, number = item.id.removeprefix(f"{reward_bench.TIES}/").split(":")
        # Differences of shares are rounded, not the shares: values that are equal as fractions must be equal as floats.
        margin = round(float(shares[right].min() - shares[~right].max()), _DIGITS)
        margins.setdefault(number, {})[kind] = (margin, round(float(np.ptp(shares[right])), _DIGITS))
        prompts.setdefault(number, item)
        outcomes[item.id, ""] = margin > 0
    if not margins:
        return make_table(items[:1], [[0.0] * 8]), outcomes
    return make_table(list(prompts.values()), [_ties_values(found) for found in margins.values()]), outcomes


def _ties_values(found: dict[str, tuple[float, float]]) -> list[float]:
    row = [0.0] * 8
    for i, kind in enumerate(("ref", "tied")):
        if kind in found:
            row[2 * i], row[2 * i + 1] = 1.0, float(found[kind][0] > 0)
    if len(found) == 2:
        margin, spread = found["tied"]
        least = min(found["ref"][0], margin)
        with np.errstate(invalid="ignore", divide="ignore"):
            gap = float(np.tanh(np.float64(least) / np.float64(spread) - 1))
        row[4:] = [1.0, float(margin > spread), float(least > spread), 0.0 if np.isnan(gap) else gap]
    return row


def _reward_bench_2_numbers(games: Games, sums: Sums) -> Numbers:
    """The unweighted mean of six subsets. The weights within Ties add up to 1.01, as published."""
    subsets: Numbers = {}
    for subset, s in sums.items():
        if subset != reward_bench.TIES:
            subsets[subset] = ratio(s[..., 1], s[..., 0])
            continue
        ref, tied = ratio(s[..., 1], s[..., 0]), ratio(s[..., 3], s[..., 2])
        margins = [ratio(s[..., 5 + i], s[..., 4]) for i in range(3)]
        subsets[subset] = 0.30 * tied + 0.30 * ref + 0.20 * margins[0] + 0.20 * margins[1] + 0.01 * margins[2]
    return {"subsets": subsets, "total": mean(list(subsets.values())) if is_complete(games, sums) else None}


# ---- PPE --------------------------------------------------------------------------------------------------------------


def curve_points(items: Sequence[Item]) -> list[int]:
    """1, 2, 4 …, and finally the number of candidates that every item has."""
    most = min(len(item.responses) for item in items)
    return [n for n in (2**k for k in range(most.bit_length())) if n < most] + [most]


def knockout(n: int, better: Callable[[int, int], int | None]) -> int | None:
    """The winner of a knockout among the first n: neighbours meet; the last of an odd number advances without a match.

    `better` gives the winner of two, or None if they have not met, which leaves the knockout without a winner. The first
    2, 4, 8 … play the same matches for every n.
    """
    left = list(range(n))
    while len(left) > 1:
        matches, rest = pair_up(left)
        winners = [better(a, b) for a, b in matches]
        if None in winners:
            return None
        left = [w for w in winners if w is not None] + rest
    return left[0]


def match(games: Games, item: Item, a: int, b: int) -> int | None:
    """The winner of two responses, a < b, by their mean win probability; the earlier one if tied. None: not played."""
    played = games.of(item, Cell(f"{a}-{b}", a, b))
    return None if not played else a if mean_win(played) >= 0.5 else b


def next_matches(benchmark: Benchmark, games: Games | None) -> list[Item]:
    """The items whose knockout is unfinished, each with the matches that can be played now as its cells."""
    items = []
    n = curve_points(benchmark.items)[-1]
    for item in benchmark.items:
        open_cells: list[Cell] = []

        def better(a: int, b: int, item: Item = item, open_cells: list[Cell] = open_cells) -> int | None:
            winner = match(games, item, a, b) if games is not None else None
            if winner is None:
                open_cells.append(Cell(f"{a}-{b}", a, b))
            return winner

        if knockout(n, better) is None:
            items.append(replace(item, cells=tuple(open_cells)))
    return items


def _ppe_rows(games: Games, items: Sequence[Item]) -> tuple[Table, Outcomes]:
    """Columns, for each point of the curve: prompts; pick correct; any candidate correct; share of candidates correct."""
    points = curve_points(games.benchmark.items)
    rows, outcomes = [], {}
    for item in items:
        row: list[float] = []
        for n in points:
            pick = knockout(n, lambda a, b, item=item: match(games, item, a, b))  # type: ignore[misc]
            first = item.right[:n]
            row += [0.0] * 4 if pick is None else [1.0, item.right[pick], any(first), sum(first) / n]
            if pick is not None and n == points[-1]:
                outcomes[item.id, ""] = item.right[pick]
        rows.append(row)
    return make_table(items, rows), outcomes


def _ppe_numbers(games: Games, sums: Sums) -> Numbers:
    """By set, at each n: the judge's picks, the best possible and random ones. The total is over all sets, at the largest n."""
    points = curve_points(games.benchmark.items)
    sets: Numbers = {}
    for name, s in sums.items():
        sets[name] = {
            what: {str(n): ratio(s[..., 4 * i + 1 + k], s[..., 4 * i]) for i, n in enumerate(points)}
            for k, what in enumerate(("curve", "best", "random"))
        }
    whole = is_complete(games, sums)
    curve = {str(n): mean([one["curve"][str(n)] for one in sets.values()]) if whole else None for n in points}
    return {"sets": sets, "curve": curve, "total": curve[str(points[-1])]}


# ---- RMB: eval/scripts/my_run_rm.py at 2be31808 for pairs; for best-of-n its paper, as RM-R1's run_generative_bestofn.py ----


def _rmb_rows(games: Games, items: Sequence[Item]) -> tuple[Table, Outcomes]:
    """Columns: rows; right: the first response has beaten every other, by its mean win probability. A tie is not a win."""
    rows, outcomes = [], {}
    for item in items:
        played = [games.of(item, cell) for cell in item.cells]
        if not all(played):
            rows.append([0.0, 0.0])
            continue
        right = all(mean_win(found) > 0.5 for found in played)
        rows.append([1.0, float(right)])
        outcomes[item.id, ""] = right
    return make_table(items, rows), outcomes


def _rmb_numbers(games: Games, sums: Sums) -> Numbers:
    """The share of right rows in each section, and the unweighted mean of the four."""
    sections: Numbers = {section: ratio(s[..., 1], s[..., 0]) for section, s in sums.items()}
    return {"sections": sections, "total": mean(list(sections.values())) if is_complete(games, sums) else None}


REWARD_BENCH_2 = Scorer(_reward_bench_2_rows, _reward_bench_2_numbers)
PPE = Scorer(_ppe_rows, _ppe_numbers)
RMB = Scorer(_rmb_rows, _rmb_numbers)
