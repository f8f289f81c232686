"""Comparing two judges on the same games: the difference of every number with its interval, and McNemar's test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.benchmark import bootstrap
from tasks.benchmark.bootstrap import DRAWS, Numbers, Sums
from tasks.benchmark.games import Games, GamesError, adaptive
from tasks.benchmark.score import SCORERS, check_knockouts, extent, rounded, tabulate
from tasks.page import charts
from tasks.page.rendering import template


def compare(first: Games, second: Games, partial: bool = False, draws: int = DRAWS) -> dict[str, Any]:
    """Both judges' numbers, second − first with its 95% interval, and McNemar's exact test.

    Both judges get the same draws of prompts, so prompts that both find hard do not widen the interval. Raises GamesError
    if the two have not played the same cells in the same orders.
    """
    if not partial:
        check_knockouts(first)
        check_knockouts(second)
    _check_same(first, second)
    benchmark = first.benchmark
    (left, right_first), (right, right_second) = tabulate(first), tabulate(second)

    def numbers(games: Games, sums: Sums) -> Numbers:
        return SCORERS[benchmark.name].numbers(games, sums)

    sides = [
        numbers(games, {g: t.sums() for g, t in tables.items()}) for games, tables in ((first, left), (second, right))
    ]
    difference = bootstrap.minus(sides[1], sides[0])
    drawn = bootstrap.minus(numbers(second, bootstrap.draw(right, draws)), numbers(first, bootstrap.draw(left, draws)))
    interval = bootstrap.intervals(lambda _: drawn, {})
    both = right_first.keys() & right_second.keys()
    outcomes = [(right_first[name], right_second[name]) for name in both]
    compared = {
        "benchmark": benchmark.name,
        "data": benchmark.digest,
        **extent(first),
        "games": {side: _extent_of(games) for side, games in (("first", first), ("second", second))},
        "first": bootstrap.plain(sides[0]),
        "second": bootstrap.plain(sides[1]),
        "difference": bootstrap.plain(difference),
        "intervals": {"level": 0.95, "draws": draws, **interval},
    }
    return {**rounded(compared), "mcnemar": mcnemar(outcomes)}


def _extent_of(games: Games) -> dict[str, int]:
    return {"games": sum(map(len, games.by_cell.values())), "votes": games.votes}


def mcnemar(outcomes: Sequence[tuple[bool, bool]]) -> dict[str, Any]:
    """McNemar's exact test on paired outcomes (right or wrong, by the first and by the second judge), two-sided.

    Outcomes are assumed independent, but cells of one prompt are not; read it with the interval, which accounts for that.
    """
    only_first = sum(a and not b for a, b in outcomes)
    only_second = sum(b and not a for a, b in outcomes)
    discordant = only_first + only_second
    ways = tail = 1  # number of ways to choose k of them, and to choose at most k
    for k in range(min(only_first, only_second)):
        ways = ways * (discordant - k) // (k + 1)
        tail += ways
    p_value = min(1.0, 2 * tail / 2**discordant)
    return {"outcomes": len(outcomes), "only_first": only_first, "only_second": only_second, "p_value": p_value}


def _check_same(first: Games, second: Games) -> None:
    played = [
        {(*cell, game.order) for cell, found in games.by_cell.items() for game in found} for games in (first, second)
    ]
    if list(first.groups) != list(second.groups):
        raise GamesError(
            f"the first judge has played {', '.join(first.groups)}, the second {', '.join(second.groups)}: compare only "
            "the groups that both have played"
        )
    if not adaptive(first.benchmark) and played[0] != played[1]:
        only = [len(played[i] - played[1 - i]) for i in (0, 1)]
        raise GamesError(
            f"the two judges have not played the same games: {only[0]:,} were played only by the first and {only[1]:,} only "
            "by the second. Compare only the games that both have played"
        )


# ---- as a table and as a chart ----------------------------------------------------------------------------------------------


def rows_of(compared: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per number: its name, both judges' values, the difference and its interval."""
    values = [dict(_leaves(compared[side])) for side in ("first", "second", "difference", "intervals")]
    return [
        {
            "name": name,
            "first": values[0][name],
            "second": values[1][name],
            "difference": gap,
            "interval": values[3][name],
        }
        for name, gap in values[2].items()
        if gap is not None
    ]


def _leaves(numbers: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in numbers.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", value


def comparison_table(compared: Mapping[str, Any], names: Sequence[str]) -> str:
    """Markdown."""
    return template("comparison.md.jinja").render(rows=rows_of(compared), names=names, **compared)


def comparison_chart(compared: Mapping[str, Any], names: Sequence[str]) -> str:
    """SVG: the differences in percentage points with their intervals."""
    rows = [
        (row["name"], 100 * row["difference"], *(100 * end for end in row["interval"])) for row in rows_of(compared)
    ]
    return charts.differences(rows, f"{names[1]} − {names[0]} (percentage points)")
