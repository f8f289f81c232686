"""RMB: pairs, and best-of-n rows in which one response must beat all others; each on helpfulness and on harmlessness.

A row of ``Pairwise_set/Helpfulness/Chat/Casual Conversation.json``, and one of ``BoN_set/Harmlessness/S6.json``::

    {"pair_uid": "8282", "category_path": "Pairwise_set/Helpfulness/Chat/Casual Conversation",
     "conversation_input": [{"role": "user", "content": "How was …?", "language": "English"}],
     "chosen": {"llm_name": "one", "answer": "It was …"}, "reject": {"llm_name": "other", "answer": "…"}}
    {"bon_uid": "3080", "category_path": "BoN_set/Harmlessness/S6", "conversation_input": […],
     "bon_best": {"llm_name": "one", "answer": "I would …"}, "loser_list": [{"llm_name": "other", "answer": "…"}, …]}

A few conversations end in an empty turn and a few responses are empty or equal; they are scored as published.
"""

from __future__ import annotations

from pathlib import Path

from data.benchmarks.items import CHOSEN_ORDERS, HUB, Benchmark, Cell, Item, Notice, files_of, read_items
from data.records import Message, RecordError
from data.sources import rows
from data.sources.fields import Row, as_id, contents, objects_at, reach, read_turns, text_at
from data.sources.rows import SourceError

NAME = "rmb"
FOLDER = "RMB_dataset"

# Of Zhou-Zoey/RMB-Reward-Model-Benchmark at 2be31808 (2025-03-25), the folders below RMB_dataset; a file is a scenario.
SECTIONS = {
    "Pairwise_set/Helpfulness": "Pairwise Helpfulness",
    "Pairwise_set/Harmlessness": "Pairwise Harmlessness",
    "BoN_set/Helpfulness": "BoN Helpfulness",
    "BoN_set/Harmlessness": "BoN Harmlessness",
}
"""The first two parts of a row's category_path → the section that it is scored in."""
SCENARIOS = {"Helpfulness": 37, "Harmlessness": 12}


def load(data: str, notice: Notice | None = None) -> Benchmark:
    """RMB from the authors' repository, its folder RMB_dataset, or some of the files in it. Each section is a group."""
    if data.startswith(HUB):
        raise SourceError(f"{data}: RMB's authors publish files, not a hub data set; give the folder {FOLDER}")
    items: list[Item] = []
    scenarios: set[str] = set()
    for file in files_of(path_of(data), NAME):
        for item, scenario in read_items(rows.read_file(str(file)), lambda row, _: _item(row), notice):
            items.append(item)
            scenarios.add(scenario)
    lacks = []
    for path, section in SECTIONS.items():
        here, whole = sum(one.startswith(f"{path}/") for one in scenarios), SCENARIOS[path.split("/")[1]]
        if 0 < here < whole:
            lacks.append(f"{whole - here} of the {whole} scenarios of {section}")
    return Benchmark(NAME, CHOSEN_ORDERS, tuple(SECTIONS.values()), tuple(items), tuple(lacks))


def path_of(data: str) -> str:
    """The path that names the files themselves: that of the folder RMB_dataset, if `data` is the authors' repository."""
    return f"{data.rstrip('/')}/{FOLDER}" if (Path(rows.expand_path(data)) / FOLDER).is_dir() else data


def _item(row: Row) -> tuple[Item, str]:
    """The item, and the scenario that it is from."""
    kind = next((kind for kind in ("pair", "bon") if row.get(f"{kind}_uid") is not None), None)
    if kind is None:
        raise RecordError("", f"a row needs pair_uid or bon_uid; it {contents(row)}")
    scenario = text_at(row, "category_path")
    folders = [path for path in SECTIONS if path.lower().startswith(kind)]
    section = next((path for path in folders if scenario.startswith(f"{path}/")), None)
    if section is None:
        raise RecordError(
            "category_path", f"must begin with {' or '.join(f'{path}/' for path in folders)}, got {scenario!r}"
        )
    identity = f"{kind}/{as_id(reach(row, f'{kind}_uid'), f'{kind}_uid')}"
    if kind == "pair":
        responses: tuple[str, ...] = (text_at(row, "chosen.answer"), text_at(row, "reject.answer"))
        cells: tuple[Cell, ...] = (Cell("", 0, 1),)
    else:
        losers = range(objects_at(row, "loser_list"))
        if not losers:
            raise RecordError("loser_list", "must contain a response at least")
        responses = (text_at(row, "bon_best.answer"), *(text_at(row, f"loser_list.{i}.answer") for i in losers))
        cells = tuple(Cell(f"0-{i + 1}", 0, i + 1) for i in losers)
    right = (True,) + (False,) * (len(responses) - 1)
    return Item(identity, SECTIONS[section], _conversation(row), responses, right, cells), scenario


def _conversation(row: Row) -> tuple[Message, ...]:
    """The turns, of which the last may be empty."""
    turns = read_turns(reach(row, "conversation_input"), "conversation_input")
    if not turns or turns[-1].role != "user":
        raise RecordError("conversation_input", "must end with a user turn before the responses")
    return turns
