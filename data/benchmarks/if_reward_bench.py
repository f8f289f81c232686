"""IF-RewardBench: several responses to an instruction, and which of them follows it better than which other.

A row of ``data/if_rewardbench.json`` in the authors' repository, shortened from eight responses to three::

    {"id": 0, "instruction_type": "Single_Turn", "response_generation_model": "one",
     "messages": [{"role": "user", "content": "Name three …"}], "checklist": ["Are there three?", …], "constraint_type": […],
     "responses": [{"response": "Here are …"}, {"response": "Some …"}, {"response": "No."}],
     "preference_graph": [{"chosen": {"response_id": 0}, "rejected": {"response_id": 2}}, …]}

An id in the graph is the response's place in the list. Some pairs have no preference: neither is better in every constraint.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from data.benchmarks.items import AB_ORDERS, HUB, Benchmark, Item, Notice, files_of, prompt_of, read_items, round_robin
from data.records import RecordError
from data.sources import rows
from data.sources.fields import Row, as_id, got, objects_at, reach, text_at
from data.sources.rows import SourceError

NAME = "if-reward-bench"
FILE = "if_rewardbench.json"

# Of thu-coai/IF-RewardBench at c192fe96 (2026-03-09), metrics/analysis_overall_assessment.py.
TYPES = ("Single_Turn", "Multi_Turn", "System_Prompt")
"""The types of instructions, whose means are averaged."""


def load(data: str, notice: Notice | None = None) -> Benchmark:
    """IF-RewardBench from the authors' repository or its file. Instructions without any preference are dropped and counted."""
    if data.startswith(HUB):
        raise SourceError(f"{data}: IF-RewardBench's authors publish a file, not a hub data set; give data/{FILE}")
    items: list[Item] = []
    dropped: Counter[str] = Counter()
    for file in files_of(path_of(data), NAME):
        for item in read_items(rows.read_file(str(file)), lambda row, _: _item(row), notice):
            if item.better:
                items.append(item)
            else:
                dropped["no_preference"] += 1
    return Benchmark(NAME, AB_ORDERS, TYPES, tuple(items), dropped=dropped)


def path_of(data: str) -> str:
    """The path of the file itself, if `data` is the authors' repository or the folder that the file is in."""
    folder = Path(rows.expand_path(data))
    return next((f"{data.rstrip('/')}/{file}" for file in (f"data/{FILE}", FILE) if (folder / file).is_file()), data)


def _item(row: Row) -> Item:
    group = text_at(row, "instruction_type")
    if group not in TYPES:
        raise RecordError("instruction_type", f"must be one of {', '.join(TYPES)}, got {group!r}")
    n = objects_at(row, "responses")
    if n < 2:
        raise RecordError("responses", f"must contain at least two responses, got {n}")
    responses = tuple(text_at(row, f"responses.{i}.response") for i in range(n))
    better = _graph(row, n)
    worse = {second for _, second in better}
    prompt = prompt_of(reach(row, "messages"), "messages")
    right = tuple(i not in worse for i in range(n))
    return Item(as_id(reach(row, "id")), group, prompt, responses, right, round_robin(n), better)


def _graph(row: Row, n: int) -> tuple[tuple[int, int], ...]:
    """The preferences, each as (better, worse). Raises RecordError for an unknown response and for a cycle."""
    edges = range(objects_at(row, "preference_graph"))
    ends = [(f"preference_graph.{i}.chosen.response_id", f"preference_graph.{i}.rejected.response_id") for i in edges]
    better = tuple((_place(row, chosen, n), _place(row, rejected, n)) for chosen, rejected in ends)
    worse_of: dict[int, set[int]] = defaultdict(set)
    for first, second in better:
        worse_of[first].add(second)
    try:
        TopologicalSorter(worse_of).prepare()
    except CycleError as error:
        cycle = " > ".join(map(str, reversed(error.args[1])))
        raise RecordError("preference_graph", f"has a cycle of preferences among the responses: {cycle}") from error
    return better


def _place(row: Row, path: str, n: int) -> int:
    value = reach(row, path)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < n:
        raise RecordError(path, f"must be the number of a response, 0 to {n - 1}, got {got(value)}")
    return value
