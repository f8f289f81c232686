"""PPE's best-of-n sets: candidates of one model to a prompt with a known answer, each known to be correct or not.

A row of ``lmarena-ai/PPE-MMLU-Pro-Best-of-K``, shortened from 32 candidates to two::

    {"question_id": "70", "prompt": "Which of …?", "scores": [true, false], "mean_score": 0.5,
     "response_1": "The answer is B, …", "response_2": "Let us see …"}

A judge that compares two responses picks among n by a knockout; which cells are played depends on the winners.
"""

from __future__ import annotations

from pathlib import Path

from data.benchmarks.items import AB_ORDERS, HUB, Benchmark, Item, Notice, files_of, prompt_of, read_items, round_robin
from data.records import RecordError
from data.sources import rows
from data.sources.fields import Row, as_id, as_text, got, reach

NAME = "ppe"


def load(data: str, notice: Notice | None = None) -> Benchmark:
    """PPE's best-of-n from a set's file, a folder of such files, or a set's hub name. Each set is a group."""
    items: list[Item] = []
    if data.startswith(HUB):
        name = data.removeprefix(HUB)
        raw = rows.read_hub(name, subset=None, split="train", revision=None)
        items += read_items(raw, lambda row, _: _item(row, Path(name).name), notice)
    else:
        for file in files_of(data, NAME):
            group = rows.data_set_name(str(file))
            items += read_items(rows.read_file(str(file)), lambda row, _, group=group: _item(row, group), notice)  # type: ignore[misc]
    return Benchmark(NAME, AB_ORDERS, tuple(dict.fromkeys(item.group for item in items)), tuple(items))


def _item(row: Row, group: str) -> Item:
    scores = reach(row, "scores")
    if not isinstance(scores, list) or len(scores) < 2 or not all(isinstance(score, bool) for score in scores):
        raise RecordError("scores", f"must be a list of at least two booleans, got {got(scores)}")
    columns = [f"response_{i + 1}" for i in range(len(scores))]
    responses = tuple(as_text(reach(row, column), column) for column in columns)
    identity = f"{group}/{as_id(reach(row, 'question_id'), 'question_id')}"
    prompt = prompt_of(reach(row, "prompt"), "prompt")
    return Item(identity, group, prompt, responses, tuple(scores), round_robin(len(scores)))
