"""What is watched besides a judge's accuracy: in its held-out games, and in the labels that it has learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from data.benchmarks.items import Cell, Item
from data.store.artifacts import Manifest
from tasks.benchmark.games import Game, Games
from tasks.benchmark.sign_flip import added_up, units_of
from tasks.trust.paired import harm_p_value

LARGE, LARGE_IN_LABELS = 0.05, 0.10
"""A figure that has moved less than this is not spoken of, whatever its p-value; ours. Batches of labels differ more."""


@dataclass(frozen=True)
class Figure:
    """A share of a judge's games: `counts` adds up, over pairs, to `share`; `best` is what a perfect judge would have."""

    counts: Sequence[int]
    share: float
    best: float


def figures(games: Games) -> dict[str, Figure]:
    """The watched shares by name, over all pairs of the benchmark."""
    cells = [(item, item.cells[0]) for item in games.benchmark.items]
    played = [games.of(item, cell) for item, cell in cells]
    n_games = max(1, sum(map(len, played)))
    n_votes = [_by_vote(one) for one in played]
    consistent = [sum(len(set(v)) == 1 and v[0] is not None for v in votes) for votes in n_votes]
    said_a = [sum(_sign(game) for game in one) for one in played]
    longer = [
        sum((game.decision or 0) * _first_is_longer(item, cell) for game in one)
        for (item, cell), one in zip(cells, played, strict=True)
    ]
    malformed = [sum(game.decision is None for game in one) for one in played]
    truly_longer = sum(_first_is_longer(item, cell) for item, cell in cells) / max(1, len(cells))
    return {
        "order consistency": Figure(consistent, sum(consistent) / max(1, sum(map(len, n_votes))), 1.0),
        "verdicts for A": Figure(said_a, _centred(sum(said_a), n_games), 0.5),
        "verdicts for the longer response": Figure(longer, _centred(sum(longer), n_games), _centred(truly_longer, 1)),
        "games without a verdict": Figure(malformed, sum(malformed) / n_games, 0.0),
    }


def _by_vote(games: Sequence[Game]) -> list[list[int | None]]:
    """The decisions of each vote that was played in both orders."""
    votes: dict[int, list[int | None]] = {}
    for game in games:
        votes.setdefault(game.vote, []).append(game.decision)
    return [decisions for decisions in votes.values() if len(decisions) == 2]


def _sign(game: Game) -> int:
    """+1 for A, −1 for B, 0 for neither."""
    shown = game.first_shown_wins
    return 0 if shown is None else (shown > 0.5) - (shown < 0.5)


def _first_is_longer(item: Item, cell: Cell) -> int:
    first, second = (len(item.responses[place]) for place in (cell.first, cell.second))
    return (first > second) - (first < second)


def _centred(total: float, n: int) -> float:
    """The share of +1 in a sum of +1 and −1; an undecided one counts one half."""
    return 0.5 + total / (2 * n)


def compare(new: Games, best: Games, level: float) -> tuple[dict[str, Any], list[str]]:
    """Each figure of both judges, with the p-value of its having got worse; and a line for each that clearly has.

    As for the gate, the pairs of a prompt change together.
    """
    found, said, units = {}, [], units_of(new.benchmark)
    for (name, now), then in zip(figures(new).items(), figures(best).values(), strict=True):
        toward = 1 if now.share > now.best else -1
        worse = abs(now.share - now.best) - abs(then.share - then.best)
        changes = (toward * (b - a) for a, b in zip(now.counts, then.counts, strict=True))
        p_value = harm_p_value(added_up(units, changes))
        found[name] = {"new": round(now.share, 6), "best": round(then.share, 6), "p_value": p_value}
        if worse > LARGE and p_value <= level:
            said.append(f"{name}: {now.share:.1%}, {then.share:.1%} with the best judge so far (p = {p_value:.2g})")
    return found, said


def compare_labels(new: Manifest, best: Manifest | None) -> tuple[dict[str, Any], list[str]]:
    """The share of labels kept in a round and, where pairs were voted on again, of those that changed; as `compare` does.

    They are held against the best judge's round, if that had labels, and under the same threshold. The pairs are others, so
    there is no p-value.
    """
    found, said = {}, []
    strict = [
        (one.config.get("min_confidence"), one.inputs.get("strictness")) for one in (new, best) if one is not None
    ]
    same = best is not None and strict[0] == strict[1]
    for name, share, sign in (("labels kept", _kept, -1), ("labels changed", _changed, 1)):
        now, then = share(new), share(best) if best is not None and same else None
        if now is not None:
            found[name] = {"new": now, "best": then, "p_value": None}
        if now is not None and then is not None and sign * (now - then) > LARGE_IN_LABELS:
            said.append(f"{name}: {now:.1%}, {then:.1%} in the best judge's round")
    return found, said


def _kept(labels: Manifest) -> float | None:
    counts = labels.counts
    return round(counts.kept / counts.rows_in, 6) if counts.rows_in else None


def _changed(labels: Manifest) -> float | None:
    again = labels.metrics.get("voted_again")
    return round(again["flips"] / again["pairs"], 6) if again and again["pairs"] else None
