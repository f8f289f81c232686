"""JudgeBench: pairs of responses, one of which is objectively correct, from four categories.

A row::

    {"pair_id": "e302b0a0-28d5-5a3c-b1af-fedcf5543e72", "source": "mmlu-pro-law", "label": "A>B",
     "question": "A college student …", "response_A": "To determine if …", "response_B": "To determine whether …"}

The two splits name the model that wrote the responses. They share 91 questions.
"""

from __future__ import annotations

from data.benchmarks.items import AB_ORDERS, HUB, Benchmark, Cell, Item, Notice, files_of, prompt_of, read_items
from data.records import RecordError
from data.sources import rows
from data.sources.fields import Row, as_id, got, reach, text_at
from data.sources.rows import SourceError

NAME = "judgebench"

# Of ScalerLab/JudgeBench at e2c52c28 (2024-11-06): run_judge.py has the prefixes, README.md the categories and splits.
CATEGORIES = {
    "mmlu-pro": "knowledge",
    "livebench-reasoning": "reasoning",
    "livebench-math": "math",
    "livecodebench": "coding",
}
"""Prefix of a row's source → the row's category."""
SPLITS = {"gpt": "gpt-4o-2024-05-13", "claude": "claude-3-5-sonnet-20240620"}
"""The published splits by their names on the hub → the model whose responses they compare."""
_CELL = (Cell("", 0, 1),)


def load(data: str, split: str | None = None, notice: Notice | None = None) -> Benchmark:
    """One split of JudgeBench from its file, from a folder with both, or from ``hub:ScalerLab/JudgeBench``.

    Without `split`, a file may be either split, and a folder or the hub gives the GPT-4o pairs. Raises SourceError for a
    file of another split, and for several files.
    """
    if data.startswith(HUB):
        raw = rows.read_hub(data.removeprefix(HUB), subset=None, split=split or "gpt", revision=None)
    else:
        files = files_of(data, NAME, [f"dataset=judgebench,response_model={SPLITS[split or 'gpt']}.jsonl"])
        if len(files) > 1:
            raise SourceError(
                f"{data}: {len(files)} files, but a benchmark is one split: name its file, or the folder of both"
            )
        raw = rows.read_file(str(files[0]))
    items = list(read_items(raw, lambda row, _: _item(row, split), notice))
    return Benchmark(NAME, AB_ORDERS, tuple(CATEGORIES.values()), tuple(items))


def _item(row: Row, split: str | None) -> Item:
    model = row.get("response_model")
    if split is not None and model is not None and model != SPLITS[split]:
        raise RecordError("response_model", f"is {model!r}, but the split {split!r} has {SPLITS[split]!r}")
    source, label = text_at(row, "source"), reach(row, "label")
    category = next((name for prefix, name in CATEGORIES.items() if source.startswith(prefix)), None)
    if category is None:
        raise RecordError("source", f"must begin with one of {', '.join(CATEGORIES)}, got {source!r}")
    if label not in ("A>B", "B>A"):
        raise RecordError("label", f"must be 'A>B' or 'B>A', got {got(label)}")
    responses = (text_at(row, "response_A"), text_at(row, "response_B"))
    right = (label == "A>B", label == "B>A")
    identity = as_id(reach(row, "pair_id"), "pair_id")
    return Item(identity, category, prompt_of(reach(row, "question"), "question"), responses, right, _CELL)
