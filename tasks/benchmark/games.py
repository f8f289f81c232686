"""The stored games of a judge, ours or anyone's, one row per game: one judgment of two responses, shown in one order.

Two minimal rows, the second from a judge that gives probabilities::

    {"id": "chat/8", "cell": "0-1", "order": "rejected_first", "vote": 2, "verdict": "B"}
    {"id": "chat/8", "cell": "0-1", "order": "chosen_first", "p_first": 0.83}

``verdict`` is "A" (the response shown first is better), "B", "tie" or null; ``p_first`` is the probability of A, or null.
``vote`` defaults to 0 and ``cell`` to empty. Rows that we write also record why a verdict is null (``malformed``), whether
the reply was cut off (``truncated``), and its length (``n_tokens``). A table gives every row every column, so a column that
is null counts as left out. Runs as the benchmarks' authors store them are read by `tasks.benchmark.published`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from data.benchmarks.items import Benchmark, Cell, Item
from data.records import RecordError
from data.sources import rows
from tasks.benchmark import published

Verdict = Literal["A", "B", "tie"]
_SHOWN = 3


class GamesError(ValueError):
    """Games that cannot be scored; the message names them, the reason, and the remedy."""


@dataclass(frozen=True, slots=True)
class Game:
    """One game. `order` is 0 for the benchmark's first order, 1 for its second."""

    order: int
    vote: int = 0
    verdict: Verdict | None = None
    p_first: float | None = None
    malformed: str | None = None
    truncated: bool = False
    n_tokens: int = 0

    @property
    def first_shown_wins(self) -> float | None:
        """The probability, 0…1, that the response shown first is better; None for a game without a verdict."""
        if self.p_first is not None:
            return self.p_first
        return None if self.verdict is None else {"A": 1.0, "B": 0.0, "tie": 0.5}[self.verdict]

    @property
    def win(self) -> float | None:
        """The same for the cell's first response, in whichever order it was shown."""
        shown = self.first_shown_wins
        return shown if shown is None or self.order == 0 else 1.0 - shown

    @property
    def decision(self) -> int | None:
        """+1 if the cell's first response is judged better, −1 if its second is, 0 for a tie; None for no verdict."""
        win = self.win
        return None if win is None else (win > 0.5) - (win < 0.5)


@dataclass(frozen=True)
class Games:
    """The games of a benchmark, by item and cell; `votes` is how often each cell was played in each order."""

    benchmark: Benchmark
    by_cell: Mapping[tuple[str, str], tuple[Game, ...]]
    votes: int

    def of(self, item: Item, cell: Cell) -> tuple[Game, ...]:
        """All games of a cell; empty if it was not played."""
        return self.by_cell.get((item.id, cell.name), ())

    def played(self) -> Iterator[tuple[Item, Cell, tuple[Game, ...]]]:
        """Every cell that was played, in benchmark order."""
        for item in self.benchmark.items:
            for cell in item.cells:
                games = self.of(item, cell)
                if games:
                    yield item, cell, games

    @property
    def groups(self) -> dict[str, list[Item]]:
        """The items by group, for the groups in which at least one game was played, in published order."""
        played = {identity for identity, _ in self.by_cell}
        items: dict[str, list[Item]] = {group: [] for group in self.benchmark.groups}
        for item in self.benchmark.items:
            items.setdefault(item.group, []).append(item)
        return {group: found for group, found in items.items() if any(item.id in played for item in found)}


def read_games(benchmark: Benchmark, *paths: Path, partial: bool = False) -> Games:
    """The games in files. Raises GamesError for an invalid row, an unknown or duplicate game, or a gap.

    A gap is a missing game in a group that has other games; with `partial`, gaps are allowed and show in the scores.
    """
    for path in paths:
        if not path.is_file():
            raise GamesError(f"{path}: there is no such file; it must contain one game per line")
    parsed = (game for path in paths for game in _parsed(benchmark, path))
    return collect(benchmark, parsed, partial, ", ".join(map(str, paths)))


def of_rows(benchmark: Benchmark, games: Iterable[Mapping[str, Any]]) -> Games:
    """The games in rows that this software has written; see `read_games`."""
    numbered = ((f"game {i}", *_parse(benchmark, row)) for i, row in enumerate(games))
    return collect(benchmark, numbered, partial=True, where="the games")


def collect(benchmark: Benchmark, parsed: Iterable[tuple[str, str, str, Game]], partial: bool, where: str) -> Games:
    """Games from (location in the file, item, cell, game). Raises GamesError like `read_games`."""
    places: dict[tuple[str, str, int, int], str] = {}
    by_cell: dict[tuple[str, str], list[Game]] = defaultdict(list)
    for place, item, cell, game in parsed:
        key = (item, cell, game.order, game.vote)
        if key in places:
            raise GamesError(
                f"{place}: the game {_named(benchmark, *key)} is a duplicate, first seen in {places[key]}; games must "
                "differ in id, cell, order or vote"
            )
        places[key] = place
        by_cell[item, cell].append(game)
    if not places:
        raise GamesError(f"{where}: contains no games")
    votes = sorted({vote for *_, vote in places})
    if votes[-1] >= len(votes):
        shown = ", ".join(map(str, votes[:_SHOWN])) + (", …" if len(votes) > _SHOWN else "")
        raise GamesError(f"{where}: votes must be numbered from 0 without gaps; they are {shown}, the last {votes[-1]}")
    games = Games(benchmark, {key: tuple(found) for key, found in by_cell.items()}, len(votes))
    if not partial:
        _check_gaps(games, where)
    return games


def adaptive(benchmark: Benchmark) -> bool:
    """Whether the cells that are played depend on who wins, so not all of them have to be played."""
    return benchmark.name == "ppe"


def _check_gaps(games: Games, where: str) -> None:
    missing: Counter[str] = Counter()
    shown: list[str] = []
    for group, items in games.groups.items():
        for item in items:
            for cell in item.cells:
                there = {(game.order, game.vote) for game in games.of(item, cell)}
                if not there and adaptive(games.benchmark):
                    continue
                for order in (0, 1):
                    for vote in range(games.votes):
                        if (order, vote) not in there:
                            missing[group] += 1
                            if len(shown) < _SHOWN:
                                shown.append(_named(games.benchmark, item.id, cell.name, order, vote))
    if missing:
        n = missing.total()
        raise GamesError(
            f"{where}: {'1 game is' if n == 1 else f'{n:,} games are'} missing "
            f"({', '.join(f'{n:,} in {g}' for g, n in missing.items())}), such as {'; '.join(shown)}. Play "
            f"{'it' if n == 1 else 'them'}, or score the existing games with --partial"
        )


def _named(benchmark: Benchmark, item: str, cell: str, order: int, vote: int) -> str:
    named = f"{item} {cell} {benchmark.orders[order]}".replace("  ", " ")
    return f"{named} vote {vote}" if vote else named


def _parsed(benchmark: Benchmark, path: Path) -> Iterator[tuple[str, str, str, Game]]:
    for raw in rows.read_file(str(path)):
        place = f"{path}, line {raw.number}"
        try:
            if isinstance(raw.value, rows.BrokenRow):
                raise GamesError(raw.value.problem)
            if not isinstance(raw.value, Mapping):
                raise GamesError(f"a game must be an object, got {type(raw.value).__name__}")
            stored = published.games_in(benchmark, raw.value, raw.number - 1)
            for row in [raw.value] if stored is None else stored:
                yield place, *_parse(benchmark, row)
        except (GamesError, RecordError) as error:
            raise GamesError(f"{place}: {error}") from error


def _parse(benchmark: Benchmark, row: Mapping[str, Any]) -> tuple[str, str, Game]:
    """Item, cell and game of a row. Raises a GamesError that names the field."""
    named = row.get("benchmark")
    if named is not None and named != benchmark.name:
        raise GamesError(f"benchmark: the game is from {named!r}, not from {benchmark.name!r}")
    identity, cell, order = _identity(row), row.get("cell") or "", row.get("order")
    item = benchmark.by_id.get(identity)
    if item is None:
        raise GamesError(
            f"id: the data of {benchmark.name} has no {identity!r}; its ids look like {benchmark.items[0].id!r}"
        )
    if all(known.name != cell for known in item.cells):
        known = ", ".join(repr(one.name) for one in item.cells[:9])
        raise GamesError(f"cell: {identity!r} has no cell {cell!r}; it has {known}")
    if order not in benchmark.orders:
        raise GamesError(f"order: must be one of {', '.join(map(repr, benchmark.orders))}, got {order!r}")
    vote, n_tokens = _count(row, "vote"), _count(row, "n_tokens")
    verdict, p_first = _outcome(row)
    malformed, truncated = row.get("malformed"), row.get("truncated")
    if not isinstance(malformed, str | None):
        raise GamesError(f"malformed: must be a string or null, got {malformed!r}")
    if malformed and verdict is not None:
        raise GamesError(f"malformed: is {malformed!r}, but the game has the verdict {verdict!r}; remove one of them")
    if not isinstance(truncated, bool | None):
        raise GamesError(f"truncated: must be true, false or null, got {truncated!r}")
    game = Game(benchmark.orders.index(order), vote, verdict, p_first, malformed or None, truncated or False, n_tokens)
    return identity, cell, game


def _identity(row: Mapping[str, Any]) -> str:
    identity = row.get("id")
    if identity is None:
        raise GamesError(f"id: is missing; the row has {', '.join(map(str, row)) or 'no keys'}")
    return str(identity)


def _count(row: Mapping[str, Any], field: str) -> int:
    """An integer of at least 0, also as a float, which is how tables store integers beside nulls; 0 if null or left out."""
    value = row.get(field)
    if value is None:
        return 0
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole or value < 0:
        raise GamesError(f"{field}: must be an integer of at least 0, got {value!r}")
    return int(value)


def _outcome(row: Mapping[str, Any]) -> tuple[Verdict | None, float | None]:
    if "verdict" not in row and "p_first" not in row:
        raise GamesError("a game needs either 'verdict' or 'p_first'; null if the judge gave none")
    verdict, p_first = row.get("verdict"), row.get("p_first")
    if verdict not in ("A", "B", "tie", None):
        raise GamesError(f"verdict: must be 'A', 'B', 'tie' or null, got {verdict!r}")
    if p_first is not None and (isinstance(p_first, bool) or not isinstance(p_first, int | float)):
        raise GamesError(f"p_first: must be a probability or null, got {p_first!r}")
    if p_first is not None and not 0 <= p_first <= 1:
        raise GamesError(f"p_first: must be from 0 to 1, got {p_first!r}")
    by_probability = None if p_first is None else "tie" if p_first == 0.5 else "A" if p_first > 0.5 else "B"
    if verdict is not None and by_probability is not None and verdict != by_probability:
        raise GamesError(
            f"verdict {verdict!r} contradicts p_first = {p_first!r}, which means {by_probability!r}; give only one of them"
        )
    return verdict or by_probability, None if p_first is None else float(p_first)  # type: ignore[return-value]
