"""Comparing two judges on the same games: the difference of every number with its interval, and an exact test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from data.benchmarks.items import Benchmark
from tasks.benchmark import bootstrap
from tasks.benchmark.bootstrap import DRAWS, Numbers, Sums
from tasks.benchmark.games import Games, GamesError, adaptive
from tasks.benchmark.score import SCORERS, check_knockouts, extent, prompts_played, rounded, tabulate
from tasks.benchmark.sign_flip import two_sided, units_of
from tasks.page import charts
from tasks.page.rendering import template


def compare(first: Games, second: Games, partial: bool = False, draws: int = DRAWS) -> dict[str, Any]:
    """Both judges' numbers, second − first with its 95% interval, and the exact sign-flip test.

    Both judges get the same draws of prompts, so prompts that both find hard do not widen the interval. One that would have no
    width, as where no verdict has changed, has that of a share of 0 or 100% of as many prompts. Raises GamesError if the two have
    not played the same cells in the same orders.
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
    interval = bootstrap.intervals(lambda _: drawn, {}, *prompts_played(first, left), of_differences=True)
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
    pairs = {name: (right_first[name], right_second[name]) for name in right_first.keys() & right_second.keys()}
    return {**rounded(compared), "sign_flip": sign_flip(benchmark, pairs)}


def _extent_of(games: Games) -> dict[str, int]:
    return {"games": sum(map(len, games.by_cell.values())), "votes": games.votes}


def sign_flip(benchmark: Benchmark, pairs: Mapping[tuple[str, str], tuple[bool, bool]]) -> dict[str, Any]:
    """The exact sign-flip test, two-sided, on outcomes (right or wrong, by the first and by the second judge).

    The outcomes of one prompt are not independent (both orders of a pair, several pairs), so they change sign together. It is
    McNemar's exact test where each prompt has one outcome.
    """
    unit = {item.id: one for item, one in zip(benchmark.items, units_of(benchmark), strict=True)}
    changes: Counter[int] = Counter()
    for (item, _), (first, second) in pairs.items():
        changes[unit[item]] += second - first
    return {
        "outcomes": len(pairs),
        "only_first": sum(first and not second for first, second in pairs.values()),
        "only_second": sum(second and not first for first, second in pairs.values()),
        "prompts": len(changes),
        "p_value": two_sided(list(changes.values())),
    }


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
