"""Some of a benchmark's items, drawn so that every part of it is represented."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from data.benchmarks import m_reward_bench, reward_bench, rm_bench
from data.benchmarks.items import Benchmark, Item
from data.seeds import derive_seed
from data.sources.rows import SourceError

OVER_LIMIT = "over_limit"
_NAMED = 40
"""Parts that an error names, at most."""
_Unit = tuple[Item, ...]


def draw(whole: Benchmark, limit: int, seed: int) -> Benchmark:
    """At most `limit` items, in published order; every part keeps its share of the items, and at least one.

    A part is a group of the benchmark; in RM-Bench a domain as the data has it, in M-RewardBench a subset of a language. A
    prompt of RewardBench 2's Ties and its reference stay together, so one item fewer may be drawn. With the same seed, a larger
    limit adds items to those of a smaller one. Raises SourceError for a limit with which a part would have no item.
    """
    if limit >= len(whole.items):
        return whole
    units: dict[str, dict[str, list[Item]]] = defaultdict(lambda: defaultdict(list))
    for item in whole.items:
        units[_part(whole, item)][_unit(whole, item)].append(item)
    queues = {part: _shuffled(found, seed) for part, found in units.items()}
    least = sum(len(queue[0]) for queue in queues.values())
    if limit < least:
        parts = ", ".join(queues) if len(queues) <= _NAMED else f"{len(queues)} parts, such as {next(iter(queues))}"
        raise SourceError(
            f"{whole.name}: a limit of {limit} leaves some of its parts without an item; at least {least} are needed, which "
            f"is one for each of {parts}"
        )
    kept = {item.id for part, n in _seats(queues, limit).items() for unit in queues[part][:n] for item in unit}
    items = tuple(item for item in whole.items if item.id in kept)
    dropped = {**whole.dropped, OVER_LIMIT: len(whole.items) - len(items)}
    return replace(whole, items=items, dropped=dropped, drawn_from=dict(Counter(item.group for item in whole.items)))


def _part(whole: Benchmark, item: Item) -> str:
    if whole.name == m_reward_bench.NAME:
        return f"{item.group}/{m_reward_bench.subset_of(item)}"
    return item.id.split("/")[0] if whole.name == rm_bench.NAME else item.group


def _unit(whole: Benchmark, item: Item) -> str:
    """Items of one unit are only scored together."""
    together = whole.name == reward_bench.NAME_2 and item.group == reward_bench.TIES
    return item.id.rpartition(":")[2] if together else item.id


def _shuffled(units: Mapping[str, Sequence[Item]], seed: int) -> list[_Unit]:
    return [tuple(units[name]) for name in sorted(units, key=lambda name: (derive_seed(seed, "draw", name), name))]


def _seats(queues: Mapping[str, Sequence[_Unit]], limit: int) -> dict[str, int]:
    """How many units each part gets: one, then one more at a time to the part that is furthest below its share.

    Sainte-Laguë's rule: a part that grows with the limit never loses a unit to it.
    """
    seats = dict.fromkeys(queues, 1)
    left = limit - sum(len(queue[0]) for queue in queues.values())
    while open_parts := [part for part in queues if seats[part] < len(queues[part])]:
        part = max(open_parts, key=lambda part: len(queues[part]) / (2 * seats[part] + 1))
        left -= len(queues[part][seats[part]])
        if left < 0:
            break
        seats[part] += 1
    return seats
