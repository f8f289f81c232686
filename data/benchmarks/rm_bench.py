"""RM-Bench: three chosen and three rejected responses per prompt, in the styles concise, detailed, detailed with markdown.

A row of ``chat_filtered.json``; in ``total_dataset.json`` its id is "chat/8"::

    {"id": 8, "prompt": "What are different drawers I should have for clothes?", "subset": "alpacaeval",
     "chosen": ["Organize …", "When organizing …", "When organizing …"], "rejected": ["Organize …", "…", "…"]}

Responses are identified by position only: some rows have the same text in two styles.
"""

from __future__ import annotations

from data.benchmarks.items import (
    CHOSEN_ORDERS,
    HUB,
    Benchmark,
    Cell,
    Item,
    Notice,
    files_of,
    prompt_of,
    read_items,
    texts_of,
)
from data.records import RecordError
from data.sources import rows
from data.sources.fields import Row, as_id, reach

NAME = "rm-bench"

# Of THU-KEG/RM-Bench at 73c52d7b (2025-07-18): scripts/utils.py, split_dataset_by_domain and compute_accuracy.
DOMAINS = ("chat", "math", "code", "safety")
PARTS = {"chat": "chat", "math": "math", "code": "code", "safety-refuse": "safety", "safety-response": "safety"}
"""The data's own domains → the domains that they are scored in."""
STYLES = 3
CELLS = tuple(Cell(f"{i}-{j}", i, STYLES + j) for i in range(STYLES) for j in range(STYLES))
_TOTAL = "total_dataset.json"


def load(data: str, notice: Notice | None = None) -> Benchmark:
    """RM-Bench from a folder, ``total_dataset.json``, one domain's file, or ``hub:THU-KEG/RM-Bench``.

    A folder with both kinds of file is read from ``total_dataset.json``.
    """
    if data.startswith(HUB):
        raw = rows.read_hub(data.removeprefix(HUB), subset=None, split="train", revision=None)
        return _benchmark(list(read_items(raw, lambda row, _: _item(row, None), notice)))
    domain_files = [f"{part}_filtered.json" for part in PARTS]
    files = files_of(data, NAME, [_TOTAL, *domain_files])
    if files[0].name == _TOTAL:
        files = files[:1]
    items: list[Item] = []
    for file in files:
        part = file.name.split("_")[0] if file.name in domain_files else None
        items += read_items(rows.read_file(str(file)), lambda row, _, part=part: _item(row, part), notice)  # type: ignore[misc]
    return _benchmark(items)


def _benchmark(items: list[Item]) -> Benchmark:
    parts = {item.id.split("/")[0] for item in items}
    domains = {item.group for item in items}
    lacks = tuple(part for part, domain in PARTS.items() if domain in domains and part not in parts)
    return Benchmark(NAME, CHOSEN_ORDERS, DOMAINS, tuple(items), lacks)


def _item(row: Row, part: str | None) -> Item:
    identity = as_id(reach(row, "id"))
    if part is not None and "/" not in identity:
        identity = f"{part}/{identity}"
    domain = PARTS.get(identity.split("/")[0])
    if domain is None or "/" not in identity:
        raise RecordError("id", f"must begin with one of {', '.join(PARTS)} and a slash, got {identity!r}")
    chosen, rejected = (texts_of(reach(row, field), field) for field in ("chosen", "rejected"))
    for field, texts in (("chosen", chosen), ("rejected", rejected)):
        if len(texts) != STYLES:
            raise RecordError(field, f"must contain {STYLES} responses, one per style; got {len(texts)}")
    right = (True,) * STYLES + (False,) * STYLES
    return Item(identity, domain, prompt_of(reach(row, "prompt"), "prompt"), chosen + rejected, right, CELLS)
