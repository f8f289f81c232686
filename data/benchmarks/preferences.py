"""Any preference set as a benchmark: every source of labeled pairs can be held out and judged.

A row, in the format that the source names; a minimal one is a row of `data.records`::

    {"prompt": "Why is the sky blue?", "response_a": "Rayleigh scattering.", "response_b": "The sea.", "label": "A"}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from data.benchmarks.items import CHOSEN_ORDERS, Benchmark, Cell, Item
from data.records import PreferencePair, pair_key, parse_preference
from data.sources.sources import Dropped, Source, read_source

NAME = "preferences"


def load(source: Source) -> Benchmark:
    """A source's labeled pairs. Each data set is a group.

    Ties and unusable rows are dropped and counted, and so are repeated pairs, with the same label or the opposite one.
    """
    items: list[Item] = []
    dropped: Counter[str] = Counter()
    better: dict[str, str] = {}
    for row in read_source(source, "preference", seed=0):
        if isinstance(row, Dropped):
            dropped[row.reason] += 1
            continue
        chosen = row.pair.response_a if row.label == "A" else row.pair.response_b
        known = better.setdefault(pair_key(row.pair), chosen)
        if len(better) > len(items):
            items.append(_item(row))
        else:
            dropped["duplicate" if known == chosen else "conflicting_labels"] += 1
    return _benchmark(items, dropped)


def of_rows(rows: Iterable[Mapping[str, Any]]) -> Benchmark:
    """The benchmark of rows in our own format, such as a run's held-out pairs."""
    return _benchmark([_item(parse_preference(row)) for row in rows], {})


def _item(preference: PreferencePair) -> Item:
    pair, first = preference.pair, preference.label == "A"
    cell = Cell("", 0, 1) if first else Cell("", 1, 0)
    responses = (pair.response_a, pair.response_b)
    return Item(pair.id, pair.source or NAME, pair.prompt, responses, (first, not first), (cell,))


def _benchmark(items: list[Item], dropped: Mapping[str, int]) -> Benchmark:
    return Benchmark(
        NAME, CHOSEN_ORDERS, tuple(dict.fromkeys(item.group for item in items)), tuple(items), dropped=dropped
    )
