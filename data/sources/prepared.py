"""A source's rows, made ready for the stage "data": each by itself, so that many processes can do it.

What is left to do with a pair needs the other pairs: whether it is a copy of an earlier one, held out, contradicted, drawn.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import orjson

from data.files import json_line
from data.overlap import Hit, Index, leaked
from data.records import Label, Record, ResponsePair, pair_key, parse_pair, prompt_key
from data.sources.rows import RawRow, RowBlock
from data.sources.sources import Dropped, Malformed, Reading, Truth


class Prepared(NamedTuple):
    """A usable pair. `key` and `prompt` are its `pair_key` (as a number, for a set of millions) and `prompt_key`.

    `better` says which response is preferred, whatever the display order: True if it is the one that sorts first as a string.
    `line` is the pair's record as a line of JSON, without the true label of an unlabeled pair, which is `truth`; `where` is
    the ``file:row`` that it was read from, and `origin` the same as a line of JSON.
    """

    id: str
    key: int
    prompt: str
    better: bool | None
    truth: Label | None
    hit: Hit | None
    line: bytes
    where: str
    origin: bytes


def prepared_in(
    reading: Reading, kept_out: Index | None, rows: tuple[int, RowBlock]
) -> list[Prepared | Dropped | Malformed]:
    """The pairs in some rows of a source, in order. `kept_out` are the benchmarks whose copies are looked for."""
    return [
        item if isinstance(item, Dropped | Malformed) else _prepared(item, raw, kept_out)
        for raw, item in reading.placed_items_in(*rows)
    ]


def with_both_labels(items: Iterable[Prepared | Dropped]) -> set[int]:
    """The keys of the labeled pairs among these that occur with both labels."""
    seen: dict[int, bool] = {}
    conflicting = set()
    for item in items:
        if isinstance(item, Dropped) or item.better is None:
            continue
        if seen.setdefault(item.key, item.better) != item.better:
            conflicting.add(item.key)
    return conflicting


def swapped(line: bytes) -> bytes:
    """The line of the same pair shown in the other order."""
    return json_line(parse_pair(orjson.loads(line)).swapped().to_json()).encode()


def _prepared(item: Record | Truth, raw: RawRow, kept_out: Index | None) -> Prepared:
    record, truth = item if isinstance(item, tuple) else (item, None)
    better = None
    if isinstance(record, ResponsePair):
        pair = record
    else:
        pair = record.pair
        better = (pair.response_a < pair.response_b) == (record.label == "A")
    return Prepared(
        pair.id,
        int(pair_key(pair), 16),
        prompt_key(pair.prompt),
        better,
        truth,
        None if kept_out is None else leaked(kept_out.find(pair)),
        json_line(record.to_json()).encode(),
        raw.where,
        json_line({"id": pair.id, "file": raw.file, "row": raw.number}).encode(),
    )
