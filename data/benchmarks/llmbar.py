"""LLMBar: pairs of outputs, one of which follows the instruction, with one file per subset.

A row of ``Natural.json``, whose id is the subset and the row's number from 0, "Natural/0"; in the authors' repository the
file is ``Dataset/LLMBar/Natural/dataset.json``::

    {"input": "Summarize the following content. …", "output_1": "My girlfriend's visa …", "output_2": "…", "label": 1}
"""

from __future__ import annotations

from pathlib import Path

from data.benchmarks.items import CHOSEN_ORDERS, Benchmark, Cell, Item, Notice, files_of, prompt_of, read_items
from data.records import RecordError
from data.sources import rows
from data.sources.fields import Row, got, reach, text_at

NAME = "llmbar"

# Of princeton-nlp/LLMBar at 900616bf (2024-07-08), README.md: the folders below Dataset/LLMBar and Dataset/Processed.
ADVERSARIAL = ("Adversarial_Neighbor", "Adversarial_GPTInst", "Adversarial_GPTOut", "Adversarial_Manual")
SUBSETS = ("Natural", *ADVERSARIAL)
PROCESSED = ("Processed_FairEval", "Processed_LLMEval^2", "Processed_MT-Bench")
"""Existing sets that LLMBar's authors processed in addition to their own."""
_KNOWN = (*SUBSETS, *PROCESSED)


def load(data: str, notice: Notice | None = None) -> Benchmark:
    """LLMBar from one subset's file, a folder of such files, or the authors' repository (but not its case studies).

    The processed sets are groups in addition to the published five.
    """
    path = path_of(data)
    items: list[Item] = []
    for file in files_of(path, NAME, [f"{name}.json" for name in _KNOWN]):
        subset = _subset_of(file)
        if subset in _KNOWN or path == data:
            items += read_items(rows.read_file(str(file)), lambda row, i, subset=subset: _item(row, subset, i), notice)  # type: ignore[misc]
    return Benchmark(NAME, CHOSEN_ORDERS, SUBSETS, tuple(items))


def path_of(data: str) -> str:
    """The path that names the files themselves: `data`, or a pattern if `data` is a folder laid out as the repository is."""
    folder = Path(rows.expand_path(data))
    if any((folder / f"{name}.json").is_file() for name in _KNOWN) or not any(folder.glob("**/dataset.json")):
        return data
    return f"{data.rstrip('/')}/**/dataset.json"


def _subset_of(file: Path) -> str:
    if file.name != "dataset.json":
        return rows.data_set_name(str(file))
    kind, name = file.parts[-3:-1] if len(file.parts) > 2 else ("", file.parent.name)
    return name if name in _KNOWN else f"{kind}_{name}"


def _item(row: Row, subset: str, index: int) -> Item:
    label = reach(row, "label")
    if isinstance(label, bool) or label not in (1, 2):
        raise RecordError("label", f"must be 1 or 2, got {got(label)}")
    responses = (text_at(row, "output_1"), text_at(row, "output_2"))
    cell = Cell("", 0, 1) if label == 1 else Cell("", 1, 0)
    right = (label == 1, label == 2)
    return Item(f"{subset}/{index}", subset, prompt_of(reach(row, "input"), "input"), responses, right, (cell,))
