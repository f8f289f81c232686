"""PPE: best-of-n sets, whose candidates are each known to be correct or not, and pairs that people have judged.

A row of ``lmarena-ai/PPE-MMLU-Pro-Best-of-K``, shortened from 32 candidates to two::

    {"question_id": "70", "prompt": "Which of …?", "scores": [true, false], "mean_score": 0.5,
     "response_1": "The answer is B, …", "response_2": "Let us see …"}

A judge that compares two responses picks among n by a knockout; which cells are played depends on the winners.

A row of ``lmarena-ai/PPE-Human-Preference-V1``, without the columns that are not read::

    {"question_id": "5a1f…", "prompt": "Why is …?", "response_1": "Since …", "response_2": "Because …", "winner": "model_b"}
"""

from __future__ import annotations

from pathlib import Path

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
)
from data.records import RecordError
from data.sources import rows
from data.sources.fields import Row, as_id, as_text, got, reach, text_at

NAME, HUMAN = "ppe", "ppe-human-preference"
_TIES = ("tie", "tie (bothbad)")
_BETTER = {"model_a": Cell("", 0, 1), "model_b": Cell("", 1, 0)}
"""The winner, of whom response_1 or response_2 is → the cell, which has the better response first."""


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


def load_human(data: str, notice: Notice | None = None) -> Benchmark:
    """PPE's human preferences from ``hub:lmarena-ai/PPE-Human-Preference-V1`` or files of it. Ties are dropped and counted."""
    items: list[Item] = []
    ties = 0
    if data.startswith(HUB):
        sources = [rows.read_hub(data.removeprefix(HUB), subset=None, split="test", revision=None)]
    else:
        sources = [rows.read_file(str(file)) for file in files_of(data, HUMAN)]
    for raw in sources:
        for item in read_items(raw, lambda row, _: _preference(row), notice):
            if item is None:
                ties += 1
            else:
                items.append(item)
    return Benchmark(HUMAN, CHOSEN_ORDERS, (HUMAN,), tuple(items), dropped={"tie": ties} if ties else {})


def _preference(row: Row) -> Item | None:
    """The item, or None for a tie."""
    winner = text_at(row, "winner")
    if winner not in (*_BETTER, *_TIES):
        raise RecordError("winner", f"must be one of {', '.join(map(repr, (*_BETTER, *_TIES)))}, got {got(winner)}")
    responses = (text_at(row, "response_1"), text_at(row, "response_2"))
    identity, prompt = as_id(reach(row, "question_id"), "question_id"), prompt_of(reach(row, "prompt"), "prompt")
    if winner in _TIES:
        return None
    return Item(identity, HUMAN, prompt, responses, (winner == "model_a", winner == "model_b"), (_BETTER[winner],))
