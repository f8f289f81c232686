"""Columns beside chosen and rejected that are part of the prompt; rows that cannot be shown; and columns that nothing reads."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from data.records import Message
from data.sources.adapters import adapt, columns_read
from data.sources.catalog import DATASETS, DatasetName
from data.sources.fields import UNSHOWN
from data.sources.sources import Source, SourceError
from data.sources.unread import unread_columns
from tests.support.data_sets import ROWS
from tests.support.known_sets import each_set
from tests.support.sources import answer, by_map, read, reasons, share_gpt, simple_rows, write

USER, BRIEF = Message("user", "Sum 2 and 2"), Message("system", "Be brief.")
ANSWERS = {"chosen": "4", "rejected": "5"}
NAN = float("nan")
ASKED = {"role": "user", "content": "Sum 2 and 2"}
EARLIER = (Message("user", "Hi"), Message("assistant", "Hello"))


def prompt_of(tmp_path: Path, row: dict[str, Any], **config: Any) -> tuple[Message, ...]:
    [item] = read(tmp_path, [row], **({"format": "chosen-rejected"} | config))
    prompt: tuple[Message, ...] = item.pair.prompt
    return prompt


# ---- system, history, input ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"system": "Be brief.", "prompt": "Sum 2 and 2"}, (BRIEF, USER)),
        ({"system": "Be brief.", "conversations": [share_gpt(ASKED)]}, (BRIEF, USER)),
        ({"system": "Be brief.", "prompt": [BRIEF.to_json(), ASKED]}, (BRIEF, USER)),  # said twice is said once
        ({"system": None, "prompt": "Sum 2 and 2", "input": "", "history": None}, (USER,)),
        ({"system": " ", "prompt": "Sum 2 and 2", "input": None, "history": []}, (USER,)),
        ({"prompt": "Sum", "input": "2 and 2"}, (Message("user", "Sum\n\n2 and 2"),)),
        ({"instruction": "Sum 2 and 2"}, (USER,)),
        ({"instruction": "Sum", "input": "2 and 2"}, (Message("user", "Sum\n\n2 and 2"),)),
        ({"instruction": None, "input": "Sum 2 and 2"}, (USER,)),
        (
            {"prompt": NAN, "instruction": "Sum 2 and 2", "input": NAN, "system": NAN, "history": NAN, "id": NAN},
            (USER,),
        ),
        ({"prompt": [{"role": NAN, "from": "human", "value": "Sum 2 and 2"}]}, (USER,)),
        ({"prompt": [{**ASKED, "from": NAN, "value": NAN}]}, (USER,)),
        ({"instruction": "", "input": "Sum 2 and 2"}, (USER,)),
        ({"prompt": "Sum 2 and 2", "history": [["Hi", "Hello"]]}, (*EARLIER, USER)),
        (
            {"instruction": "Sum 2 and 2", "history": [["Hi", "Hello"]], "system": "Be brief."},
            (BRIEF, *EARLIER, USER),
        ),
        ({"prompt": [BRIEF.to_json(), ASKED], "history": [["Hi", "Hello"]]}, (BRIEF, *EARLIER, USER)),
    ],
)
def test_what_other_columns_add_to_the_prompt(tmp_path: Path, row: dict[str, Any], prompt: tuple[Message, ...]) -> None:
    assert prompt_of(tmp_path, {**row, **ANSWERS}) == prompt


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"system": "Be brief."}, (BRIEF, USER)),
        ({"history": [["Hi", "Hello"]]}, (*EARLIER, USER)),
        ({"input": "2 and 2"}, (USER,)),  # the conversation has it already
        ({"instruction": "Sum", "input": "2 and 2"}, (USER,)),
        ({"instruction": " Sum 2 and 2\n"}, (USER,)),
    ],
)
def test_beside_whole_conversations(tmp_path: Path, row: dict[str, Any], prompt: tuple[Message, ...]) -> None:
    sides = {"chosen": [ASKED, answer("4")], "rejected": [ASKED, answer("5")]}
    assert prompt_of(tmp_path, {**row, **sides}) == prompt


def test_a_history_that_the_conversation_begins_with_is_not_said_twice(tmp_path: Path) -> None:
    earlier = [turn.to_json() for turn in EARLIER]
    sides = {"chosen": [*earlier, ASKED, answer("4")], "rejected": [*earlier, ASKED, answer("5")]}
    assert prompt_of(tmp_path, {"history": [["Hi", "Hello"]], **sides}) == (*EARLIER, USER)


def test_an_empty_prompt_stays_empty(tmp_path: Path) -> None:
    rows = [
        {"system": "Be brief.", "prompt": " ", **ANSWERS},
        {"prompt": "", "history": [["Hi", "Hello"]], **ANSWERS},
    ]
    assert reasons(read(tmp_path, rows, format="chosen-rejected")) == {"empty_prompt": 2}


SIDES = {"chosen": [ASKED, answer("4")], "rejected": [ASKED, answer("5")]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "p", "system": 3, **ANSWERS}, r"field 'system': must be a string, got int 3"),
        ({"prompt": "p", "input": ["x"], **ANSWERS}, r"field 'input': must be a string, got list"),
        (
            {"prompt": "p", "history": "Hi", **ANSWERS},
            r"'history': must be a list of \[user, assistant\] pairs, got str",
        ),
        ({"prompt": "p", "history": [["Hi"]], **ANSWERS}, r"'history\[0\]': must be a pair of texts"),
        ({"prompt": "p", "history": [["Hi", None]], **ANSWERS}, r"'history\[0\]\[1\]': must be a string, got nothing"),
        (
            {"prompt": [{"role": "system", "content": "Be long."}, ASKED], "system": "Be brief.", **ANSWERS},
            r"field 'system': is a second system turn: 'prompt' already begins with one",
        ),
        (
            {"prompt": [EARLIER[0].to_json(), EARLIER[1].to_json(), ASKED], "history": [["Ho", "Hello"]], **ANSWERS},
            r"'history': is not how the row's conversation begins",
        ),
        ({"input": "Translate this.", **SIDES}, r"'chosen': is a conversation that does not contain the row's own"),
        ({"instruction": "Translate.", **SIDES}, r"does not contain the row's own prompt"),
        (ANSWERS, r"field 'prompt': is missing, and 'chosen' is only an answer"),
    ],
)
def test_columns_that_contradict_the_conversation_are_malformed(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        read(tmp_path, [row], format="chosen-rejected")


# ---- what cannot be shown ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", UNSHOWN)
@pytest.mark.parametrize("format", ["chosen-rejected", "records", "columns"])
def test_a_row_with_more_than_text_is_dropped_by_name(tmp_path: Path, column: str, format: str) -> None:
    rows: list[dict[str, Any]] = [
        {**row, "response_a": row["chosen"], "response_b": row["rejected"], "label": "A"} for row in simple_rows(7)
    ]
    for row, nothing in zip(rows, [None, "", [], "[]", {}, {"bytes": None, "path": None}], strict=False):
        row[column] = nothing
    rows[6][column] = ["a.png"]
    columns = (
        {"columns": {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}} if format == "columns" else {}
    )
    items = read(tmp_path, rows, format=format, **columns)
    assert reasons(items) == {"kept": 6, UNSHOWN[column]: 1}
    assert items[6].detail.startswith(f"field '{column}': is not empty, but a judge")


def test_a_column_map_may_name_such_a_column_as_text(tmp_path: Path) -> None:
    row = {**simple_rows(1)[0], "tools": "hammer, saw"}
    columns = {"prompt": "prompt", "prompt_extra": "tools", "chosen": "chosen", "rejected": "rejected"}
    assert prompt_of(tmp_path, row, **by_map(columns)) == (Message("user", "Question 0?\n\nhammer, saw"),)


def test_malformed_comes_before_what_cannot_be_shown(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "chosen": 3, "rejected": "b", "images": ["a.png"]}]
    assert reasons(read(tmp_path, rows, format="chosen-rejected", max_malformed=1)) == {"malformed": 1}


# ---- what nothing reads ------------------------------------------------------------------------------------------------


class Watched(dict[str, Any]):
    """A row that knows which of its columns were looked at."""

    def __init__(self, row: dict[str, Any]) -> None:
        super().__init__(copy.deepcopy(row))
        self.seen: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.seen.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.seen.add(key)
        return super().get(key, default)


@each_set
def test_the_columns_that_are_said_to_be_read_are(name: DatasetName) -> None:
    known = DATASETS[name]
    row = Watched({"id": "x", **ROWS[name][0]})
    adapt(row, known.format, None, "rationale" if "rationale" in known.gives else "preference")
    assert row.seen & row.keys() == columns_read(row, known.format, None)


def test_columns_that_nothing_reads_are_named(tmp_path: Path) -> None:
    rows = [
        {**simple_rows(1)[0], "instruction": "i", "context": "c", "empty": None, "score_chosen": 3, "system": "s"},
        {**simple_rows(1)[0], "late": 1, "images": []},
        "no row",
    ]
    source = Source(path=write(tmp_path / "rows.jsonl", rows), format="chosen-rejected")
    assert unread_columns(source) == ["instruction", "context", "score_chosen", "late"]
    assert "late" not in unread_columns(source.model_copy(update={"where": {"late": (1,)}}))


def test_a_column_map_reads_what_it_names(tmp_path: Path) -> None:
    row = {"q": "?", "best": {"value": "a", "from": "gpt"}, "worst.value": "b", "worst": {}, "w": 1, "note": "n"}
    columns = {"prompt": "q", "chosen": "best.value", "rejected": "worst.value", "id": "w"}
    source = Source(path=write(tmp_path / "rows.jsonl", [row]), **by_map(columns))
    assert unread_columns(source) == ["note"]
