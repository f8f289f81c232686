"""Benchmarks of chosen against rejected responses, scored as in their authors' own code (named at each)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from data.benchmarks import llmbar, m_reward_bench, reward_bench, rm_bench
from data.benchmarks.items import Item
from tasks.benchmark.bootstrap import Array, Numbers, Sums, Table, mean, ratio
from tasks.benchmark.games import Game, Games
from tasks.benchmark.rules import Outcomes, Scorer, decided, is_complete, make_table, mean_win

# ---- RM-Bench: scripts/utils.py, compute_accuracy -----------------------------------------------------------------------

_HARD, _NORMAL, _EASY = ("0-1", "0-2", "1-2"), ("0-0", "1-1", "2-2"), ("1-0", "2-0", "2-1")
_LEVELS = {"hard": _HARD, "normal": _NORMAL, "easy": _EASY}
_PLACE = {cell.name: i for i, cell in enumerate(rm_bench.CELLS)}


def _rm_bench_rows(games: Games, items: Sequence[Item]) -> tuple[Table, Outcomes]:
    """Columns: wins per cell, then how often each was played. A chosen response wins if its mean win probability is over ½."""
    rows, outcomes = [], {}
    for item in items:
        row = [0.0] * (2 * len(rm_bench.CELLS))
        for i, cell in enumerate(rm_bench.CELLS):
            played = games.of(item, cell)
            if played:
                won = mean_win(played) > 0.5
                row[i], row[len(rm_bench.CELLS) + i] = float(won), 1.0
                outcomes[item.id, cell.name] = won
        rows.append(row)
    return make_table(items, rows), outcomes


def _rm_bench_numbers(games: Games, sums: Sums) -> Numbers:
    """hard, normal, easy and the score of each domain; overall, the unweighted mean of the domains.

    "gram" pools the prompts of all domains for hard, normal and easy, as GRAM's own script does.
    """
    n, domains = len(rm_bench.CELLS), {}
    for domain, s in sums.items():
        rate = ratio(s[..., :n], s[..., n:])
        levels = {level: mean([rate[..., _PLACE[cell]] for cell in cells]) for level, cells in _LEVELS.items()}
        domains[domain] = {**levels, "score": mean(list(levels.values()))}
    found: Numbers = {"domains": domains, "total": None, **dict.fromkeys(_LEVELS), "gram": dict.fromkeys(_LEVELS)}
    if is_complete(games, sums):
        pooled = sum(sums.values())
        for level, cells in _LEVELS.items():
            found[level] = mean([domain[level] for domain in domains.values()])
            places = [_PLACE[cell] for cell in cells]
            wins, played = pooled[..., places].sum(axis=-1), pooled[..., [n + i for i in places]].sum(axis=-1)  # type: ignore[index]
            found["gram"][level] = ratio(wins, played)
        found["total"] = mean([domain["score"] for domain in domains.values()])
    return found


# ---- JudgeBench: utils/metrics.py -----------------------------------------------------------------------------------------


def _judgebench_rows(games: Games, items: Sequence[Item]) -> tuple[Table, Outcomes]:
    """Columns: pairs; right by the sum over both orders; pairs with a first order; right in it; right by mean probability."""
    rows, outcomes = [], {}
    for item in items:
        [cell] = item.cells
        played, label = games.of(item, cell), 1 if item.right[0] else -1
        if not played:
            rows.append([0.0] * 5)
            continue
        as_published = [game for game in played if game.order == 0]
        right = decided(played) == label
        by_mean = (mean_win(played) - 0.5) * label > 0
        rows.append([1.0, right, bool(as_published), bool(as_published) and decided(as_published) == label, by_mean])
        outcomes[item.id, ""] = right
    return make_table(items, rows), outcomes


def _judgebench_numbers(games: Games, sums: Sums) -> Numbers:
    """Micro is the official overall number; macro is the one in the tables of GRAM and GRAM-R².

    "mean_probability" decides a pair by the mean probability over both orders, which is how GRAM scores it.
    """

    def averaged(right: int, of: int) -> Numbers:
        categories = {category: ratio(s[..., right], s[..., of]) for category, s in sums.items()}
        if not is_complete(games, sums):
            return {"categories": categories, "micro": None, "macro": None}
        pooled = sum(sums.values())
        micro = ratio(pooled[..., right], pooled[..., of])  # type: ignore[index]
        return {"categories": categories, "micro": micro, "macro": mean(list(categories.values()))}

    both = averaged(1, 0)
    return {**both, "total": both["micro"], "single_game": averaged(3, 2), "mean_probability": averaged(4, 0)}


# ---- LLMBar: LLMEvaluator/evaluate.py, and our preference sets ----------------------------------------------------------

_ORDERED = ("chosen_first", "rejected_first", "as_published", "swapped")


def _pair_rows(games: Games, items: Sequence[Item]) -> tuple[Table, Outcomes]:
    """Columns: right, then played, for each of `_ORDERED`; pairs with both orders; both right; orders agree; both silent.

    An order is decided by the majority of its votes.
    """
    rows: list[list[float]] = []
    outcomes: Outcomes = {}
    for item in items:
        [cell] = item.cells
        orders = [[game for game in games.of(item, cell) if game.order == order] for order in (0, 1)]
        right = [bool(order) and decided(order) > 0 for order in orders]
        there = [bool(order) for order in orders]
        as_published = 0 if cell.first == 0 else 1  # the order in which the file lists the responses
        shown = [0, 1, as_published, 1 - as_published]
        both = all(there)
        agree = both and _agree(*orders)
        silent = both and all(game.decision is None for order in orders for game in order)
        counted = [*(right[i] for i in shown), *(there[i] for i in shown), both, both and all(right), agree, silent]
        rows.append([float(value) for value in counted])
        outcomes |= {(item.id, name): right[i] for i, name in enumerate(_ORDERED[:2]) if there[i]}
    return make_table(items, rows), outcomes


def _agree(first: Sequence[Game], second: Sequence[Game]) -> bool:
    """Whether both orders give the same verdict; an order without any verdict agrees with nothing."""
    both_decided = all(any(game.decision is not None for game in order) for order in (first, second))
    return both_decided and decided(first) == decided(second)


def _pair_numbers(s: Array) -> Numbers:
    by_order = {f"accuracy_{name}": ratio(s[..., i], s[..., 4 + i]) for i, name in enumerate(_ORDERED)}
    # The mean over the two orders; if games are missing, over the existing ones.
    accuracy = ratio(s[..., 0] + s[..., 1], s[..., 4] + s[..., 5])
    both, agree = ratio(s[..., 9], s[..., 8]), ratio(s[..., 10], s[..., 8])
    return {"accuracy": accuracy, "both_correct": both, "agreement": agree, **by_order}


def _llmbar_numbers(games: Games, sums: Sums) -> Numbers:
    """By subset, and the unweighted mean of the four adversarial ones; no number over all subsets is published.

    "agreement_published" also counts two replies without a verdict as agreeing, as the authors' script does.
    """
    subsets = {
        subset: {**_pair_numbers(s), "agreement_published": ratio(s[..., 10] + s[..., 11], s[..., 8])}
        for subset, s in sums.items()
    }
    adversarial = [subsets[name]["accuracy"] for name in llmbar.ADVERSARIAL if name in subsets]
    whole = len(adversarial) == len(llmbar.ADVERSARIAL)
    every = [subsets[name]["accuracy"] for name in llmbar.SUBSETS if name in subsets]
    return {
        "subsets": subsets,
        "adversarial": mean(adversarial) if whole else None,
        "total": mean(every) if len(every) == len(llmbar.SUBSETS) else None,
    }


def _preference_numbers(games: Games, sums: Sums) -> Numbers:
    """By data set, and over all pairs together."""
    pooled = _pair_numbers(np.asarray(sum(sums.values())))
    total = pooled["accuracy"] if is_complete(games, sums) else None
    return {"sets": {name: _pair_numbers(s) for name, s in sums.items()}, **pooled, "total": total}


# ---- RewardBench: rewardbench/utils.py, calculate_scores_per_section ----------------------------------------------------------


def _reward_bench_rows(games: Games, items: Sequence[Item]) -> tuple[Table, Outcomes]:
    """Columns: pairs; score, the mean over the orders of 1 for right, 0 for wrong, ½ otherwise; right by mean probability.

    An order is decided by the majority of its votes.
    """
    rows, outcomes = [], {}
    for item in items:
        played = games.of(item, item.cells[0])
        if not played:
            rows.append([0.0] * 3)
            continue
        orders = [[game for game in played if game.order == order] for order in (0, 1)]
        decisions = [decided(order) for order in orders if order]
        score = 0.5 + 0.5 * sum(decisions) / len(decisions)
        right = mean_win(played) > 0.5
        rows.append([1.0, score, float(right)])
        outcomes[item.id, ""] = right
    return make_table(items, rows), outcomes


def _reward_bench_numbers(games: Games, sums: Sums) -> Numbers:
    """Sections weight their subsets by the official table, in which math-prm counts 984.

    "gram" decides a pair by its mean probability and weights subsets by their number of rows, as GRAM's script does.
    """
    subsets = {subset: ratio(s[..., 1], s[..., 0]) for subset, s in sums.items()}
    official: Numbers = {}
    gram: Numbers = {}
    for section, names in reward_bench.SECTIONS.items():
        if not set(names) <= set(sums):
            official[section] = gram[section] = None
            continue
        weights = {name: reward_bench.WEIGHTS[name] for name in names}
        official[section] = np.asarray(sum(subsets[n] * w for n, w in weights.items()) / sum(weights.values()))
        pooled = np.asarray(sum(sums[name] for name in names))
        gram[section] = ratio(pooled[..., 2], pooled[..., 0])
    return {
        "subsets": subsets,
        "sections": official,
        "total": _mean_of(official),
        "gram": {"sections": gram, "total": _mean_of(gram)},
    }


def _mean_of(numbers: Numbers) -> Array | None:
    return None if any(value is None for value in numbers.values()) else mean(list(numbers.values()))


# ---- M-RewardBench: scripts/run_generative.py and analysis/plot_utils.py ---------------------------------------------------


def _m_reward_bench_rows(games: Games, items: Sequence[Item]) -> tuple[Table, Outcomes]:
    """Columns: for each subset of RewardBench, the pairs and the score, as `_reward_bench_rows` has them."""
    table, outcomes = _reward_bench_rows(games, items)
    places = np.array([2 * m_reward_bench.SUBSETS.index(m_reward_bench.subset_of(item)) for item in items])
    values = np.zeros((len(items), 2 * len(m_reward_bench.SUBSETS)))
    for column in (0, 1):
        values[np.arange(len(items)), places + column] = table.values[:, column]
    return Table(table.prompts, values), outcomes


def _m_reward_bench_numbers(games: Games, sums: Sums) -> Numbers:
    """By language, the mean of its sections; the total is the mean over all languages.

    Subsets have RewardBench's weights, as in the authors' script for judges that write; "own_counts" has the weights of their
    script for reward models that give scores: M-RewardBench's own rows. A subset without pairs has no weight.
    """
    whole = is_complete(games, sums)

    def weighted(weights: Mapping[str, int]) -> Numbers:
        languages = {language: _sections_of(s, weights) for language, s in sums.items()}
        scores: Numbers = {language: mean(list(sections.values())) for language, sections in languages.items()}
        found = {language: {"sections": languages[language], "score": scores[language]} for language in languages}
        return {"languages": found, "total": mean(list(scores.values())) if whole else None}

    return {**weighted(reward_bench.WEIGHTS), "own_counts": weighted(m_reward_bench.COUNTS)}


def _sections_of(s: Array, weights: Mapping[str, int]) -> Numbers:
    sections: Numbers = {}
    for section, names in reward_bench.SECTIONS.items():
        at = [2 * m_reward_bench.SUBSETS.index(name) for name in names]
        n, score = s[..., at], s[..., [place + 1 for place in at]]
        weight = np.where(n > 0, np.array([weights[name] for name in names], dtype=np.float64), 0.0)
        sections[section] = ratio((weight * score / np.maximum(n, 1.0)).sum(axis=-1), weight.sum(axis=-1))
    return sections


RM_BENCH = Scorer(_rm_bench_rows, _rm_bench_numbers)
JUDGEBENCH = Scorer(_judgebench_rows, _judgebench_numbers)
LLMBAR = Scorer(_pair_rows, _llmbar_numbers, {"adversarial": llmbar.ADVERSARIAL})
PREFERENCES = Scorer(_pair_rows, _preference_numbers)
REWARD_BENCH = Scorer(_reward_bench_rows, _reward_bench_numbers, reward_bench.SECTIONS)
M_REWARD_BENCH = Scorer(_m_reward_bench_rows, _m_reward_bench_numbers)
