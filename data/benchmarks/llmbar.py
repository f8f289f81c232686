"""LLMBar: pairs of outputs, one of which follows the instruction, with one file per subset.

A row of ``Natural.json``, whose id is the file's stem and the row's number from 0, "Natural/0"::

    {"input": "Summarize the following content. …", "output_1": "My girlfriend's visa …", "output_2": "…", "label": 1}
"""

from __future__ import annotations

from data.benchmarks.items import CHOSEN_ORDERS, Benchmark, Cell, Item, files_of, prompt_of, read_items
from data.records import RecordError
from data.sources import rows
from data.sources.fields import Row, got, reach, text_at

NAME = "llmbar"
ADVERSARIAL = ("Adversarial_Neighbor", "Adversarial_GPTInst", "Adversarial_GPTOut", "Adversarial_Manual")
SUBSETS = ("Natural", *ADVERSARIAL)
PROCESSED = ("Processed_FairEval", "Processed_LLMEval^2", "Processed_MT-Bench")
"""Existing sets that LLMBar's authors processed in addition to their own."""


def load(data: str) -> Benchmark:
    """LLMBar from a folder or from one subset's file. The processed sets are groups in addition to the published five."""
    files = files_of(data, NAME, [f"{name}.json" for name in (*SUBSETS, *PROCESSED)])
    items: list[Item] = []
    for file in files:
        subset = rows.data_set_name(str(file))
        items += read_items(rows.read_file(str(file)), lambda row, i, subset=subset: _item(row, subset, i))  # type: ignore[misc]
    return Benchmark(NAME, CHOSEN_ORDERS, SUBSETS, tuple(items))


def _item(row: Row, subset: str, index: int) -> Item:
    label = reach(row, "label")
    if isinstance(label, bool) or label not in (1, 2):
        raise RecordError("label", f"must be 1 or 2, got {got(label)}")
    responses = (text_at(row, "output_1"), text_at(row, "output_2"))
    cell = Cell("", 0, 1) if label == 1 else Cell("", 1, 0)
    right = (label == 1, label == 2)
    return Item(f"{subset}/{index}", subset, prompt_of(reach(row, "input"), "input"), responses, right, (cell,))
