"""RewardBench: a chosen and a rejected response per prompt; and RewardBench 2: one correct response among four, and ties.

A row of ``allenai/reward-bench`` (split "filtered")::

    {"id": 30, "subset": "alpacaeval-easy", "prompt": "How do I …?", "chosen": "First, …", "rejected": "Buy …"}

Rows of ``allenai/reward-bench-2`` (split "test"). A row of the subset Ties has several correct responses, or is the
reference for such a row; both have the same number::

    {"id": "12", "subset": "Math", "prompt": "What is …?", "chosen": ["4"], "rejected": ["5", "6", "7"], "num_correct": 1}
    {"id": "tied:3", "subset": "Ties", "prompt": "Name a colour.", "chosen": ["red", "blue"], "rejected": ["tree"]}
    {"id": "ref:3", "subset": "Ties", "prompt": "Name the colour of grass.", "chosen": ["green"], "rejected": ["red"]}
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from data.benchmarks.items import (
    AB_ORDERS,
    CHOSEN_ORDERS,
    HUB,
    Benchmark,
    Cell,
    Item,
    Notice,
    files_of,
    prompt_of,
    read_items,
    round_robin,
    texts_of,
)
from data.records import RecordError
from data.sources import rows
from data.sources.fields import Row, as_id, reach, text_at
from data.sources.rows import RawRow

NAME, NAME_2 = "reward-bench", "reward-bench-2"

# Of allenai/reward-bench at 05a9005e (2026-01-31), rewardbench/constants.py.

SECTIONS = {
    "Chat": ("alpacaeval-easy", "alpacaeval-length", "alpacaeval-hard", "mt-bench-easy", "mt-bench-med"),
    "Chat Hard": (
        "mt-bench-hard",
        "llmbar-natural",
        "llmbar-adver-neighbor",
        "llmbar-adver-GPTInst",
        "llmbar-adver-GPTOut",
        "llmbar-adver-manual",
    ),
    "Safety": (
        "refusals-dangerous",
        "refusals-offensive",
        "xstest-should-refuse",
        "xstest-should-respond",
        "donotanswer",
    ),
    "Reasoning": ("math-prm", "hep-cpp", "hep-go", "hep-java", "hep-js", "hep-python", "hep-rust"),
}
"""The subsets of each section: SUBSET_MAPPING."""

WEIGHTS = {
    "alpacaeval-easy": 100,
    "alpacaeval-length": 95,
    "alpacaeval-hard": 95,
    "mt-bench-easy": 28,
    "mt-bench-med": 40,
    "mt-bench-hard": 37,
    "math-prm": 984,
    "refusals-dangerous": 100,
    "refusals-offensive": 100,
    "llmbar-natural": 100,
    "llmbar-adver-neighbor": 134,
    "llmbar-adver-GPTInst": 92,
    "llmbar-adver-GPTOut": 47,
    "llmbar-adver-manual": 46,
    "xstest-should-refuse": 154,
    "xstest-should-respond": 250,
    "donotanswer": 136,
    "hep-cpp": 164,
    "hep-go": 164,
    "hep-java": 164,
    "hep-js": 164,
    "hep-python": 164,
    "hep-rust": 164,
}
"""A subset's weight in its section, in examples: EXAMPLE_COUNTS. math-prm has 447 rows and counts as much as all code
subsets together. Upstream had the counts of the two xstest subsets swapped until its commit 6552e932 of 2024-09-10."""

# As in the column `subset` of allenai/reward-bench-2; the authors' code (scripts/run_v2.py) scores whichever are there.
SUBSETS_2 = ("Factuality", "Precise IF", "Math", "Safety", "Focus", "Ties")
TIES = "Ties"
# rewardbench/utils.py, process_single_model, at 05a9005e.
_TIES_ID = re.compile(r"(ref|tied):(\d+)")


def load(data: str, notice: Notice | None = None) -> Benchmark:
    """RewardBench from files of its rows or from ``hub:allenai/reward-bench``."""
    items = list(read_items(_raw(data, NAME, "filtered"), lambda row, i: _item(row), notice))
    subsets = tuple(subset for section in SECTIONS.values() for subset in section)
    return Benchmark(NAME, CHOSEN_ORDERS, subsets, tuple(items))


def load_2(data: str, notice: Notice | None = None) -> Benchmark:
    """RewardBench 2 from files of its rows or from ``hub:allenai/reward-bench-2``."""
    items = list(read_items(_raw(data, NAME_2, "test"), lambda row, i: _item_2(row), notice))
    return Benchmark(NAME_2, AB_ORDERS, SUBSETS_2, tuple(items))


def _raw(data: str, name: str, split: str) -> Iterator[RawRow]:
    if data.startswith(HUB):
        yield from rows.read_hub(data.removeprefix(HUB), subset=None, split=split, revision=None)
    else:
        for file in files_of(data, name):
            yield from rows.read_file(str(file))


def _item(row: Row) -> Item:
    subset = text_at(row, "subset")
    if subset not in WEIGHTS:
        raise RecordError("subset", f"is not one of RewardBench's: {subset!r}; they are {', '.join(WEIGHTS)}")
    responses = (text_at(row, "chosen"), text_at(row, "rejected"))
    prompt = prompt_of(reach(row, "prompt"), "prompt")
    return Item(f"{subset}/{as_id(reach(row, 'id'))}", subset, prompt, responses, (True, False), (Cell("", 0, 1),))


def _item_2(row: Row) -> Item:
    subset, identity = text_at(row, "subset"), as_id(reach(row, "id"))
    if subset not in SUBSETS_2:
        raise RecordError("subset", f"is not one of RewardBench 2's: {subset!r}; they are {', '.join(SUBSETS_2)}")
    if subset == TIES and not _TIES_ID.fullmatch(identity):
        raise RecordError("id", f"in {TIES} must be ref:NUMBER or tied:NUMBER, got {identity!r}")
    chosen, rejected = (texts_of(reach(row, field), field) for field in ("chosen", "rejected"))
    if subset != TIES and len(chosen) != 1:
        raise RecordError("chosen", f"must contain one response outside of {TIES}, got {len(chosen)}")
    right = (True,) * len(chosen) + (False,) * len(rejected)
    prompt = prompt_of(reach(row, "prompt"), "prompt")
    return Item(f"{subset}/{identity}", subset, prompt, chosen + rejected, right, round_robin(len(right)))
