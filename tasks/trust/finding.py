"""Which pair of a run is meant: by its id, by a beginning of it that no other id has, or by FILE:ROW of a source."""

from __future__ import annotations

from collections.abc import Iterator

from data.store.artifacts import Artifact
from tasks.trust.rows_by_id import Row
from tasks.trust.stages import ITEMS, Stages

DATA, ORIGINS, DROPPED = "data", "origins.jsonl", "dropped.jsonl"
OF_DATA = (DATA, "reviewed-data")
"""Kinds of stages whose files list the pairs of a run."""
_SHOWN = 5


class NoSuchPairError(ValueError):
    """A pair that a run does not have, or several that could be meant; the message says what to do."""


def identity_of(stages: Stages, given: str) -> str | None:
    """The id of the pair that is meant; None for a row of a source that was dropped before it had one.

    Raises NoSuchPairError if there is no such pair, or several.
    """
    lists = list(_lists_of_pairs(stages))
    if any(stages.rows(*place, given) for place in lists):
        return given
    there = rows_at(stages, given)
    if there:
        ids = sorted({str(row["id"]) for row in there if row["id"] is not None})
        return _only(f"several pairs come from {given}", ids) if ids else None
    begun = sorted({one for place in lists for one in stages.row_file(*place).ids_from(given, _SHOWN + 1)})
    if not begun:
        raise NoSuchPairError(
            f"{stages.store.run_name} has no pair with the id {given!r}, with an id that begins so, or from such a FILE:ROW "
            "of a source"
        )
    return _only(f"several ids begin with {given!r}", begun)


def rows_at(stages: Stages, given: str) -> list[Row]:
    """What the stage "data" says of FILE:ROW of a source, where FILE may be the end of a path: ids, and why rows were dropped."""
    file, _, number = given.rpartition(":")
    data = stages.store.in_place(DATA)
    if data is None or not file or not number.isdecimal():
        return []
    wanted = {ORIGINS: ("file", file, f'", "row": {int(number)}}}'), DROPPED: ("where", given, '"')}
    return [
        row
        for name, (field, end, rest) in wanted.items()
        if name in data.manifest.files
        for row in stages.row_file(data, name).rows_with(end, rest)
        if row.get(field) == end or str(row.get(field)).endswith(f"/{end}")
    ]


def _lists_of_pairs(stages: Stages) -> Iterator[tuple[Artifact, str]]:
    """The files that between them list every pair of a run."""
    for stage in stages.all:
        if stage.manifest.kind in OF_DATA:
            yield from ((stage, name) for name in stages.lists(stage))
        elif stage.manifest.kind == "benchmark-data":
            yield stage, ITEMS


def _only(several: str, ids: list[str]) -> str:
    if len(ids) > 1:
        raise NoSuchPairError(
            f"{several}: {', '.join(ids[:_SHOWN])}{', …' if len(ids) > _SHOWN else ''}; give one of them"
        )
    return ids[0]
