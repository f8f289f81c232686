"""Benchmarks whose pairs count only if the judge is right in both orders: ContextualJudgeBench and ReasoningJudgeBench."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from data.benchmarks.items import Item
from data.benchmarks.salesforce import REASONING_SPLITS
from tasks.benchmark.bootstrap import Array, Numbers, Sums, Table, mean, ratio
from tasks.benchmark.games import Game, Games
from tasks.benchmark.rules import Outcomes, Scorer, is_complete, make_table

_COLUMNS = ("accuracy", "consistency", "accuracy_chosen_first", "accuracy_rejected_first")
_SPLITS_OF = {
    category: [split for split, of in REASONING_SPLITS.items() if of == category]
    for category in dict.fromkeys(REASONING_SPLITS.values())
}

# ---- ContextualJudgeBench: utils/utils.py, compute_acc -----------------------------------------------------------------


def _contextual_rows(games: Games, items: Sequence[Item]) -> tuple[Table, Outcomes]:
    """Columns: pairs; then those of `_COLUMNS`, each the mean over the votes. A pair needs the games of both orders."""
    rows, outcomes = [], {}
    for item in items:
        by_vote: dict[int, dict[int, int | None]] = {}
        for game in games.of(item, item.cells[0]):
            by_vote.setdefault(game.vote, {})[game.order] = game.decision
        votes = [_of_vote(orders[0], orders[1]) for orders in by_vote.values() if len(orders) == 2]
        rows.append([1.0, *np.mean(votes, axis=0)] if votes else [0.0] * (1 + len(_COLUMNS)))
        if votes:
            outcomes[item.id, ""] = sum(vote[0] for vote in votes) > len(votes) / 2
    return make_table(items, rows), outcomes


def _of_vote(first: int | None, second: int | None) -> list[float]:
    """+1 is right. Two ties, or two replies without a verdict, are consistent and wrong, as in the authors' code."""
    return [float(one) for one in (first == second == 1, first == second, first == 1, second == 1)]


def _contextual_numbers(games: Games, sums: Sums) -> Numbers:
    """By split, the mean of the eight splits (macro), and over all pairs (micro)."""
    splits = {split: _numbers_of(s) for split, s in sums.items()}
    whole = is_complete(games, sums)
    macro = mean([split["accuracy"] for split in splits.values()]) if whole else None
    return {"splits": splits, "total": macro, "micro": _pooled(sums)["accuracy"] if whole else None}


# ---- ReasoningJudgeBench: utils/utils.py, compute_acc and get_majority_vote; aggregate.py -----------------------------


def _reasoning_rows(games: Games, items: Sequence[Item]) -> tuple[Table, Outcomes]:
    """Columns: pairs; then those of `_COLUMNS`. Each order is decided by the majority of its votes."""
    rows, outcomes = [], {}
    for item in items:
        played = games.of(item, item.cells[0])
        orders = [[game for game in played if game.order == order] for order in (0, 1)]
        if not all(orders):
            rows.append([0.0] * (1 + len(_COLUMNS)))
            continue
        first, second = map(_majority, orders)
        # A tie in one order follows the verdict of the other.
        first_or, second_or = (second if first == 0 else first), (first if second == 0 else second)
        both = _of_vote(first_or, second_or)[:2]
        rows.append([1.0, *both, float(first == 1), float(second == 1)])
        outcomes[item.id, ""] = bool(both[0])
    return make_table(items, rows), outcomes


def _majority(votes: Sequence[Game]) -> int | None:
    """The decision that more than half of the votes have; None if there is none, or if it is "no verdict"."""
    [(decision, times)] = Counter(game.decision for game in votes).most_common(1)
    return decision if 2 * times > len(votes) else None


def _reasoning_numbers(games: Games, sums: Sums) -> Numbers:
    """By split, by category over the pairs of its splits, and over all pairs, which is the official overall number."""
    categories: Numbers = {}
    for category, own in _SPLITS_OF.items():
        whole = set(own) <= set(sums)
        categories[category] = _pooled({split: sums[split] for split in own}) if whole else dict.fromkeys(_COLUMNS)
    pooled = _pooled(sums) if is_complete(games, sums) else dict.fromkeys(_COLUMNS)
    splits = {split: _numbers_of(s) for split, s in sums.items()}
    return {
        "splits": splits,
        "categories": categories,
        "total": pooled["accuracy"],
        "consistency": pooled["consistency"],
    }


def _numbers_of(s: Array) -> Numbers:
    return {name: ratio(s[..., 1 + i], s[..., 0]) for i, name in enumerate(_COLUMNS)}


def _pooled(sums: Sums) -> Numbers:
    return _numbers_of(np.asarray(sum(sums.values())))


CONTEXTUAL = Scorer(_contextual_rows, _contextual_numbers)
REASONING = Scorer(_reasoning_rows, _reasoning_numbers, _SPLITS_OF)
