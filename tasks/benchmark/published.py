"""Runs as JudgeBench's and LLMBar's authors store them, as rows of games.

A row of JudgeBench's ``outputs/*.jsonl`` (ScalerLab/JudgeBench at e2c52c28, run_judge.py): a judgment per order, each in
terms of the responses as they were shown, or null if the judge failed::

    {"pair_id": "e302b0a0-…", "label": "A>B", "judgments": [{"judgment": {…}, "decision": "A>B"}, null], …}

A row of LLMBar's ``evaluators/*/result.json`` (princeton-nlp/LLMBar at 900616bf, LLMEvaluator/evaluate.py): the last result
has the winner, output 1 or 2 of the file in both orders, or null for a reply without a verdict::

    {"input": "…", "output_1": "…", "output_2": "…", "label": 1,
     "results": [{"swap = False": {"winner": "1", …}, "swap = True": {"winner": "2", …}}]}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data.benchmarks import judgebench, llmbar
from data.benchmarks.items import Benchmark, Item
from data.records import RecordError
from data.sources.fields import Row, got, reach, text_at

_VERDICTS = {"A>B": "A", "B>A": "B", "A=B": "tie", None: None}


def games_in(benchmark: Benchmark, row: Row, number: int) -> list[dict[str, Any]] | None:
    """The games of a row that the benchmark's authors stored, or None for any other row. `number` counts rows from 0.

    Raises RecordError, naming the field, for a stored row that cannot be read or is not of this data.
    """
    if benchmark.name == judgebench.NAME and "judgments" in row:
        return _judgebench_games(benchmark, row)
    if benchmark.name == llmbar.NAME and "results" in row:
        return _llmbar_games(benchmark, row, number)
    return None


def _judgebench_games(benchmark: Benchmark, row: Row) -> list[dict[str, Any]]:
    identity, judgments = text_at(row, "pair_id"), reach(row, "judgments")
    item = benchmark.by_id.get(identity)
    if item is None:
        split = next((name for name, model in judgebench.SPLITS.items() if model == row.get("response_model")), None)
        hint = f"; it is a row of the split {split!r}: give --split {split}" if split else ""
        raise RecordError("pair_id", f"the data has no {identity!r}{hint}")
    _check_label(row, item, ("A>B", "B>A"))
    if not isinstance(judgments, list) or not 1 <= len(judgments) <= len(benchmark.orders):
        raise RecordError("judgments", f"must be a list of one or two judgments, got {got(judgments)}")
    games = []
    for i, (order, judgment) in enumerate(zip(benchmark.orders, judgments, strict=False)):
        decision = None if judgment is None else reach(row, f"judgments.{i}.decision")
        games.append({"id": identity, "order": order, **_said(decision, _VERDICTS)})
    return games


def _llmbar_games(benchmark: Benchmark, row: Row, number: int) -> list[dict[str, Any]]:
    item = _llmbar_item(benchmark, row, number)
    _check_label(row, item, (1, 2))
    [cell] = item.cells
    games = []
    for swapped, shown in ((False, ("1", "2")), (True, ("2", "1"))):
        winner = reach(row, f"results.-1.swap = {swapped}.winner")
        order = benchmark.orders[0 if shown[0] == str(cell.first + 1) else 1]
        games.append({"id": item.id, "order": order, **_said(winner, {shown[0]: "A", shown[1]: "B", None: None})})
    return games


def _llmbar_item(benchmark: Benchmark, row: Row, number: int) -> Item:
    """The item with the row's texts. The file's name does not say which subset it is of."""
    texts = (text_at(row, "input"), text_at(row, "output_1"), text_at(row, "output_2"))
    for subset in {item.group: None for item in benchmark.items}:
        item = benchmark.by_id.get(f"{subset}/{number}")
        if item is not None and (item.prompt[-1].content, *item.responses) == texts:
            return item
    raise RecordError("input", f"no subset in the data has this input and these outputs as its row {number} (from 0)")


def _check_label(row: Row, item: Item, labels: tuple[object, object]) -> None:
    expected = labels[item.right.index(True)]
    if reach(row, "label") != expected:
        raise RecordError("label", f"is {got(row['label'])}, but {expected!r} in the data; was it changed since?")


def _said(given: object, verdicts: Mapping[Any, str | None]) -> dict[str, Any]:
    """Anything else is no verdict, as in the authors' code; it is counted by what it is."""
    if given is None or (isinstance(given, str) and given in verdicts):
        return {"verdict": verdicts[given]}
    return {"verdict": None, "malformed": f"unknown decision {given!r}"}
