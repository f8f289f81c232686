"""Scores from stored games, without a model: the published numbers, the statistics behind them, and trivial baselines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from data.benchmarks.items import Benchmark, Cell, Item
from tasks.benchmark import best_of, bootstrap, both_orders, listwise, pairs
from tasks.benchmark.best_of import curve_points, knockout, match
from tasks.benchmark.bootstrap import DRAWS, Numbers, Table
from tasks.benchmark.doubts import doubts
from tasks.benchmark.games import Game, Games, GamesError, adaptive
from tasks.benchmark.rules import Outcomes, Scorer, mean_win

SCORERS: dict[str, Scorer] = {
    "rm-bench": pairs.RM_BENCH,
    "judgebench": pairs.JUDGEBENCH,
    "llmbar": pairs.LLMBAR,
    "preferences": pairs.PREFERENCES,
    "reward-bench": pairs.REWARD_BENCH,
    "reward-bench-2": best_of.REWARD_BENCH_2,
    "ppe": best_of.PPE,
    "rmb": best_of.RMB,
    "contextual-judgebench": both_orders.CONTEXTUAL,
    "reasoning-judgebench": both_orders.REASONING,
    "m-reward-bench": pairs.M_REWARD_BENCH,
    "ppe-human-preference": pairs.PREFERENCES,
    "if-reward-bench": listwise.IF_REWARD_BENCH,
}
PARTS = {
    "rm-bench": "domains",
    "judgebench": "categories",
    "llmbar": "subsets",
    "reward-bench": "sections",
    "reward-bench-2": "subsets",
    "ppe": "curve",
    "rmb": "sections",
    "contextual-judgebench": "splits",
    "reasoning-judgebench": "categories",
    "m-reward-bench": "languages",
    "ppe-human-preference": "sets",
    "if-reward-bench": "types",
    "preferences": "sets",
}
"""The field of each benchmark's scores that holds the parts of its overall number."""


_NOTES = {
    "reward-bench-2": "a pairwise judge gives no scores: a response's score is its share of wins in the round robin",
    "contextual-judgebench": "the judge has its own prompt, without the authors' criteria (faithful to the context first)",
    "if-reward-bench": "a pair is decided by both orders together; single_game has one order of each, as the authors' runs do",
}
_ROUND = 10
"""Printed digits: more than any benchmark reports, too few to show rounding errors."""


def score(games: Games, partial: bool = False, draws: int = DRAWS) -> dict[str, Any]:
    """All numbers as JSON: fractions 0…1, None if undefined; ``intervals`` has [low, high] in the same structure.

    Raises GamesError if a knockout lacks one of its games, unless `partial`.
    """
    benchmark, scorer = games.benchmark, SCORERS[games.benchmark.name]
    if not partial:
        check_knockouts(games)
    tables = tabulate(games)[0]
    found = {
        "benchmark": benchmark.name,
        "data": benchmark.digest,
        **extent(games),
        **_notes(games),
        **bootstrap.plain(scorer.numbers(games, {group: table.sums() for group, table in tables.items()})),
        "games": summary(games),
        "intervals": _intervals(games, tables, draws),
        "baselines": {name: _baseline(games, play) for name, play in _BASELINES.items()},
        "dropped": dict(benchmark.dropped),
    }
    return rounded(found)  # type: ignore[no-any-return]


def extent(games: Games) -> dict[str, Any]:
    """How much of the benchmark the games cover: missing groups; for incomplete groups, how many games of how many; and of a
    drawn one, how many items of how many.
    """
    missing = [*(group for group in games.benchmark.groups if group not in games.groups), *games.benchmark.lacks]
    gaps, drawn = _gaps(games), drawn_of(games.benchmark)
    return {
        "missing": missing,
        "complete": not missing and not gaps and not drawn,
        **({"partial": gaps} if gaps else {}),
        **({"drawn": drawn} if drawn else {}),
    }


def drawn_of(benchmark: Benchmark) -> dict[str, int]:
    """Of a benchmark with a limit: how many items were drawn, and of how many; empty for a whole one."""
    whole = sum(benchmark.drawn_from.values())
    return {"items": len(benchmark.items), "of": whole} if whole else {}


def _notes(games: Games) -> dict[str, Any]:
    """What has to be said of the numbers: how they differ from the published ones, and why they are doubtful."""
    notes, drawn, found = [], drawn_of(games.benchmark), doubts(games)
    if drawn:
        notes.append(f"estimates from {drawn['items']:,} of {drawn['of']:,} items, not the published metric")
    if games.benchmark.name in _NOTES:
        notes.append(_NOTES[games.benchmark.name])
    return {**({"note": "; ".join(notes)} if notes else {}), **({"doubts": found} if found else {})}


def tabulate(games: Games) -> tuple[dict[str, Table], Outcomes]:
    """The scored rows of every group in which games were played, and their outcomes (right or wrong)."""
    scorer, tables, outcomes = SCORERS[games.benchmark.name], {}, {}
    for group, items in games.groups.items():
        tables[group], found = scorer.tabulate(games, items)
        outcomes.update(found)
    return tables, outcomes


def rounded(value: Any) -> Any:
    """The same JSON with every float rounded."""
    if isinstance(value, dict):
        return {name: rounded(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return round(value, _ROUND) if isinstance(value, float) else value


def parts(scored: Mapping[str, Any]) -> dict[str, float]:
    """The parts of the overall number: by domain, category, subset, section, set, or number of candidates."""
    found: dict[str, float] = {}
    for name, value in scored[PARTS[scored["benchmark"]]].items():
        one = value.get("score", value.get("accuracy")) if isinstance(value, dict) else value
        if isinstance(one, float):
            found[name] = one
    return found


def _intervals(games: Games, tables: Mapping[str, Table], draws: int) -> Numbers:
    def numbers(sums: bootstrap.Sums) -> Numbers:
        return SCORERS[games.benchmark.name].numbers(games, sums)

    drawn = bootstrap.draw(tables, draws)
    return {"level": 0.95, "draws": draws, **bootstrap.intervals(numbers, drawn, *prompts_played(games, tables))}


def prompts_played(games: Games, tables: Mapping[str, Table]) -> tuple[dict[str, int], dict[str, int]]:
    """How many prompts were played of each group, and of each number that is of several groups."""
    prompts = {group: table.played() for group, table in tables.items()}
    pooled = SCORERS[games.benchmark.name].pooled
    return prompts, {name: sum(prompts.get(group, 0) for group in groups) for name, groups in pooled.items()}


def check_knockouts(games: Games) -> None:
    """Raises GamesError if a knockout lacks one of its games; does nothing for other benchmarks."""
    for group, items in games.groups.items() if adaptive(games.benchmark) else ():
        for item in items:
            if not _has_winner(games, item):
                raise GamesError(
                    f"{group}: the knockout of {item.id!r} lacks one of its games. Play it, or score the existing games "
                    "with --partial"
                )


def _has_winner(games: Games, item: Item) -> bool:
    n = curve_points(games.benchmark.items)[-1]
    return knockout(n, lambda a, b: match(games, item, a, b)) is not None


def _gaps(games: Games) -> dict[str, dict[str, int]]:
    """For each incomplete group, how many games exist and how many there should be; knockouts instead of games for PPE."""
    if adaptive(games.benchmark):
        whole = {group: sum(_has_winner(games, i) for i in items) for group, items in games.groups.items()}
        return {
            group: {"knockouts": n, "of": len(games.groups[group])}
            for group, n in whole.items()
            if n < len(games.groups[group])
        }
    found = {}
    for group, items in games.groups.items():
        there = sum(len(games.of(item, cell)) for item in items for cell in item.cells)
        wanted = sum(len(item.cells) for item in items) * 2 * games.votes
        if there < wanted:
            found[group] = {"games": there, "of": wanted}
    return found


# ---- statistics of the games ----------------------------------------------------------------------------------------------


def summary(games: Games) -> dict[str, Any]:
    """Counts and rates, over all games and by group."""
    played = list(games.played())
    by_group = {
        group: _summary([(cell, found) for item, cell, found in played if item.group == group])
        for group in games.groups
    }
    return {
        **_summary([(cell, found) for _, cell, found in played]),
        "votes": games.votes,
        # Knockout matches without a decision: the earlier candidate advanced.
        **({"undecided_matches": _undecided(games)} if adaptive(games.benchmark) else {}),
        "items": len({item.id for item, _, _ in played}),
        "groups": by_group,
    }


def _undecided(games: Games) -> int:
    return sum(mean_win(found) == 0.5 for _, _, found in games.played())


def _summary(played: Sequence[tuple[Cell, Sequence[Game]]]) -> dict[str, Any]:
    all_games = [game for _, games in played for game in games]
    unparsed = Counter(game.malformed or "no reason given" for game in all_games if game.decision is None)
    n = len(all_games)
    return {
        "games": n,
        "unparsed": unparsed.total() / n,
        "unparsed_reasons": dict(unparsed.most_common()),
        "truncated": sum(game.truncated for game in all_games) / n,
        "ties": sum(game.decision == 0 for game in all_games) / n,
        "mean_tokens": sum(game.n_tokens for game in all_games) / n,
        "position": _position(played),
    }


def _position(played: Sequence[tuple[Cell, Sequence[Game]]]) -> dict[str, Any]:
    """How often a vote prefers the same response in both orders, and which position it favours otherwise.

    A vote in which a game has no verdict is not consistent. Bias is the share of "the first shown" among the votes that
    prefer a different response in each order: 0.5 favours neither position.
    """
    pairs = consistent = first = contrary = 0
    for _, games in played:
        by_vote: dict[int, dict[int, int | None]] = {}
        for game in games:
            by_vote.setdefault(game.vote, {})[game.order] = game.decision
        for orders in by_vote.values():
            if len(orders) < 2:
                continue
            pairs += 1
            consistent += orders[0] is not None and orders[0] == orders[1]
            if orders[0] and orders[1] and orders[0] != orders[1]:
                contrary += 1
                first += orders[0] > 0  # order 0 shows the cell's first response first
    return {
        "pairs": pairs,
        "consistency": consistent / pairs if pairs else None,
        "inconsistent": contrary,
        "first_shown": first / contrary if contrary else None,
    }


# ---- trivial baselines ------------------------------------------------------------------------------------------------------


def _always_a(item: Item, cell: Cell, game: Game) -> Game:
    return Game(game.order, game.vote, "A")


def _by_length(sign: int) -> Callable[[Item, Cell, Game], Game]:
    def play(item: Item, cell: Cell, game: Game) -> Game:
        shown = (cell.first, cell.second) if game.order == 0 else (cell.second, cell.first)
        first, second = (sign * len(item.responses[i]) for i in shown)
        return Game(game.order, game.vote, "tie" if first == second else "A" if first > second else "B")

    return play


_BASELINES = {"always_a": _always_a, "longest": _by_length(1), "shortest": _by_length(-1)}


def _baseline(games: Games, play: Callable[[Item, Cell, Game], Game]) -> Numbers:
    """The numbers of a judge that does not read the responses' content, on exactly the games that were played."""
    if adaptive(games.benchmark):
        # Other winners would meet in other matches, so every possible match is played.
        by_cell = {
            (item.id, cell.name): tuple(play(item, cell, Game(order)) for order in (0, 1))
            for items in games.groups.values()
            for item in items
            for cell in item.cells
        }
    else:
        by_cell = {
            (item.id, cell.name): tuple(play(item, cell, game) for game in found)
            for item, cell, found in games.played()
        }
    played = Games(games.benchmark, by_cell, games.votes)
    sums = {group: table.sums() for group, table in tabulate(played)[0].items()}
    return bootstrap.plain(SCORERS[games.benchmark.name].numbers(played, sums))
