"""What the judges of a run have said of a pair that they were measured on, and whether they were right."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from data.benchmarks.items import Cell, Item
from data.store.artifacts import SHARDS, Artifact
from tasks.benchmark.games import Game
from tasks.trust.rows_by_id import Row
from tasks.trust.stages import FACTS, GAMES, ITEMS, Stages


def judgments_on(stages: Stages, identity: str) -> Iterator[Row]:
    """For each judge and benchmark: the games on the item with this id, in both orders, each with its reply if there is one.

    ``right`` of a game is null where it has no verdict, or where neither of its two responses is known to be better.
    """
    for stage in stages.with_file(GAMES):
        played = stages.read(stage, "items")
        row = stages.row(played, ITEMS, identity) if played is not None else None
        if played is None or row is None:
            continue
        parts = list(_parts(stages, stage))
        items = [Item.from_json(row), *(Item.from_json(made[0]) for made in _made(stages, parts, identity))]
        replies = _replies(stages, parts, identity)
        judge = stages.read(parts[0], "judge") if parts else None
        yield {
            "stage": stage.manifest.name,
            "round": stage.manifest.round,
            "benchmark": played.manifest.name.removeprefix("benchmarks/"),
            "judge": judge.manifest.name if judge is not None else None,
            "games": [_game(items, game, _orders(played), replies) for _, game in stages.rows(stage, GAMES, identity)],
        }


def is_wrong(judgment: Row) -> bool:
    """Whether a game of a judgment has the wrong verdict."""
    return any(game["right"] is False for game in judgment["games"])


def _parts(stages: Stages, stage: Artifact) -> Iterator[Artifact]:
    """The stages in which the games were played: the benchmark's own or, of a knockout, one for each of its levels."""
    levels = [role for role in stage.manifest.inputs if role.startswith("games-")]
    found = (stages.read(stage, role) for role in levels)
    yield from (one for one in found if one is not None) if levels else (stage,)


def _made(stages: Stages, parts: Iterable[Artifact], identity: str) -> Iterator[tuple[Row, Row]]:
    """The item as each part has it, with the cells that it plays, and what was generated for it."""
    for part in parts:
        if any(name.startswith(SHARDS) for name in part.manifest.files):
            made = stages.generated(part, identity)
            if made is not None:
                yield made


def _orders(played: Artifact) -> list[str]:
    facts = json.loads(played.file(FACTS).read_text(encoding="utf-8"))
    return list(facts["orders"])


def _game(
    items: Sequence[Item], row: Mapping[str, Any], orders: list[str], replies: Mapping[tuple[str, int], str]
) -> Row:
    order, vote = orders.index(row["order"]), row["vote"]
    played = next(((item, cell) for item in items for cell in item.cells if cell.name == row["cell"]), None)
    decision = Game(order, vote, row["verdict"], row["p_first"]).decision
    best = _better(*played) if played is not None else None
    return {
        "order": row["order"],
        "cell": row["cell"],
        "vote": vote,
        "verdict": row["verdict"],
        "p_first": row["p_first"],
        "right": None if decision is None or best is None else decision == best,
        "malformed": row["malformed"],
        "reply": replies.get((f"{row['cell']}/{order}", vote)),
    }


def _better(item: Item, cell: Cell) -> int | None:
    """+1 if the cell's first response is the better one, −1 if its second is; None if that is not known."""
    first, second = item.right[cell.first], item.right[cell.second]
    if first != second:
        return 1 if first else -1
    if (cell.first, cell.second) in item.better:
        return 1
    return -1 if (cell.second, cell.first) in item.better else None


def _replies(stages: Stages, parts: Iterable[Artifact], identity: str) -> dict[tuple[str, int], str]:
    """The judge's reply by request and vote; none of a judge that writes none."""
    return {
        (str(request["name"]), j): str(completion["text"])
        for _, line in _made(stages, parts, identity)
        for request in line.get("requests") or line.get("answered") or ()
        for j, completion in enumerate(request["completions"])
        if "text" in completion
    }
