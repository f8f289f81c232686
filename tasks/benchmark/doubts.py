"""What makes a judge's scores doubtful: one side in nearly all verdicts, or no verdict in many games."""

from __future__ import annotations

from collections import Counter

from tasks.benchmark.games import Games

ONE_SIDE, NO_VERDICT = 0.95, 0.20
"""Shares above which there is a doubt."""


def doubts(games: Games) -> list[str]:
    """A sentence for each doubt, such as "A in 399 of 400 verdicts …"; usually none.

    Sides are counted over the votes that were played in both orders: whoever judges by content says A once in each.
    """
    found = []
    sides, n = _sides(games), sum(map(len, games.by_cell.values()))
    for side in ("A", "B", "tie"):
        if sides[side] > ONE_SIDE * sides.total():
            why = "the judge decides nothing" if side == "tie" else "the judge decides by position"
            found.append(f"{side} in {sides[side]:,} of {sides.total():,} verdicts, each pair in both orders: {why}")
    reasons = Counter(
        game.malformed or "no reason given"
        for played in games.by_cell.values()
        for game in played
        if game.decision is None
    )
    if reasons.total() > NO_VERDICT * n:
        named = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common(3))
        found.append(f"no verdict in {reasons.total():,} of {n:,} games ({named})")
    return found


def _sides(games: Games) -> Counter[str]:
    sides: Counter[str] = Counter()
    for played in games.by_cell.values():
        orders = {(game.order, game.vote) for game in played}
        for game in played:
            shown = game.first_shown_wins
            if shown is not None and (1 - game.order, game.vote) in orders:
                sides["A" if shown > 0.5 else "B" if shown < 0.5 else "tie"] += 1
    return sides
