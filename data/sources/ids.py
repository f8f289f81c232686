"""Ids must be unique among the sources of a kind: the shards of a stage find their rows by id."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from data.records import ResponsePair, pair_key


class Ids:
    """Which pair each id stands for."""

    def __init__(self) -> None:
        self._pairs: dict[str, Hashable] = {}

    def clash(self, identity: str, key: Hashable) -> bool:
        """Whether the id stands for another pair already, by its key; from now on it stands for this one if not."""
        return self._pairs.setdefault(identity, key) != key


def clash_of_ids(path: str, identity: str, kind: str) -> str:
    """What is wrong if the source at `path` has a second pair with an id, and what to do."""
    return (
        f"{path}: two different pairs have the id {identity!r}. Ids must be unique among the {kind} sources: set "
        'id_from = "content" for this source, so that its ids are made from the content of its rows'
    )


def find_clash(sources: Iterable[tuple[str, Iterable[ResponsePair]]], kind: str) -> str | None:
    """As `clash_of_ids`, for the first clash among the pairs of some sources, each given with its path; None if there is none."""
    ids = Ids()
    for path, pairs in sources:
        for pair in pairs:
            if ids.clash(pair.id, pair_key(pair)):
                return clash_of_ids(path, pair.id, kind)
    return None
