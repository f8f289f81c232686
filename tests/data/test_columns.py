"""Column maps: files of any shape, read as the map says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from data.records import Message
from data.sources.sources import (
    ColumnMap,
    SourceError,
)
from tests.support.sources import (
    AB,
    CONVERSATION,
    LABELED,
    TURNS,
    by_map,
    chosen_of,
    read,
    reasons,
)


def test_columns_with_label_values(tmp_path: Path) -> None:
    rows = [{"q": "Why?", "one": "a", "two": "b", "winner": winner, "n": i} for i, winner in enumerate([1, 2, 0])]
    items = read(tmp_path, rows, **by_map({**LABELED, "id": "n"}))
    assert [getattr(item, "label", None) for item in items] == ["A", "B", None]
    assert [item.pair.id for item in items[:2]] == ["0", "1"]
    assert (items[2].reason, items[2].id) == ("tie", "2")
    truths = read(tmp_path, rows, "pair_with_truth", **by_map(LABELED))
    assert [truth for _, truth in truths] == ["A", "B", None]
    assert reasons(read(tmp_path, rows, "pair", **by_map(AB))) == {"kept": 3}


def test_true_is_not_one_among_label_values(tmp_path: Path) -> None:
    row = {"q": "Why?", "one": "a", "two": "b", "winner": True}
    with pytest.raises(
        SourceError, match=r"'winner': has a value that the map does not list: bool True; .* \[1\] for A"
    ):
        read(tmp_path, [row], **by_map(LABELED))
    booleans = {**AB, "label": "winner", "label_a": [True], "label_b": [False]}
    assert [item.label for item in read(tmp_path, [row, {**row, "winner": False}], **by_map(booleans))] == ["A", "B"]


def test_columns_reach_into_nested_fields(tmp_path: Path) -> None:
    row = {
        "turns": [{"text": "x"}, {"text": "Why?"}],
        "best": {"value": "a"},
        "worst.value": "b",
        "worst": {"value": "not this one"},
    }
    columns = {"prompt": "turns.-1.text", "chosen": "best.value", "rejected": "worst.value"}
    [item] = read(tmp_path, [row], **by_map(columns))
    assert item.pair.prompt == (Message("user", "Why?"),)
    assert chosen_of(item) == "a"
    assert {item.pair.response_a, item.pair.response_b} == {"a", "b"}
    for path, message in {
        "turns.2.text": r"field 'turns.2.text': is missing: 'turns' has 2 items",
        "turns.0.body": r"is missing: 'turns.0' has the columns text",
        "best.value.x": r"is missing: 'best.value' is str 'a'",
        "question": r"is missing: the row has the columns turns, best, worst.value, worst",
    }.items():
        with pytest.raises(SourceError, match=message):
            read(tmp_path, [row], **by_map({**columns, "prompt": path}))


def test_columns_with_extra_prompt_and_system(tmp_path: Path) -> None:
    columns = {**AB, "prompt_extra": "more", "system": "sys"}
    rows: list[dict[str, Any]] = [
        {"q": "Sort:", "more": "3 1 2", "sys": "Be brief.", "one": "1 2 3", "two": "3 2 1"},
        {"q": "Sort:", "more": "", "sys": None, "one": "1 2 3", "two": "3 2 1"},
        {"q": "", "more": "Sort 3 1 2", "sys": " ", "one": "1 2 3", "two": "3 2 1"},
        {"q": TURNS[1:], "more": "and 3", "sys": "Be brief.", "one": "9", "two": "7"},
        {"q": "", "more": "", "sys": "Be brief.", "one": "9", "two": "7"},
    ]
    items = read(tmp_path, rows, "pair", **by_map(columns))
    assert [item.prompt for item in items[:3]] == [
        (Message("system", "Be brief."), Message("user", "Sort:\n\n3 1 2")),
        (Message("user", "Sort:"),),
        (Message("user", "Sort 3 1 2"),),
    ]
    assert items[3].prompt == (*CONVERSATION[:-1], Message("user", "Sum 2 and 2\n\nand 3"))
    assert items[4].reason == "empty_prompt"
    [twice] = read(tmp_path, [{**rows[3], "q": TURNS, "more": ""}], "pair", **by_map(columns))
    assert twice.prompt == CONVERSATION  # what is said twice is said once
    with pytest.raises(SourceError, match="field 'sys': is a second system turn: 'q' already begins with one"):
        read(tmp_path, [{**rows[3], "q": TURNS, "sys": "Be long."}], "pair", **by_map(columns))


def test_columns_with_a_rationale(tmp_path: Path) -> None:
    rows = [{"q": "Why?", "one": "a", "two": "b", "winner": 2, "why": why} for why in ("B says more.", "", None)]
    items = read(tmp_path, rows, "rationale", **by_map({**LABELED, "rationale": "why"}))
    assert (items[0].label, items[0].rationale) == ("B", "B says more.")
    assert reasons(items) == {"kept": 1, "no_rationale": 2}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"prompt": "q"}, "name either both response_a and response_b or both chosen and rejected"),
        ({"prompt": "q", "response_a": "one"}, "name either both"),
        ({**AB, "chosen": "c"}, "not a mix"),
        ({**AB, "chosen": "c", "rejected": "r"}, "not a mix"),
        ({"prompt": "q", "chosen": "c", "rejected": "r", "label": "l"}, "chosen and rejected already are the label"),
        ({**AB, "rationale": "why"}, "a rationale needs response_a, response_b and label"),
        ({**AB, "label": "l", "label_a": [1]}, "label needs label_a and label_b"),
        ({**AB, "label_a": [1]}, "label is not given"),
        ({**LABELED, "label_tie": [2]}, "the label value 2 is given twice"),
        ({**LABELED, "label_a": [float("nan")]}, "finite number"),
        ({**LABELED, "label_a": [1], "label_b": [1.0]}, "the label value 1.0 is given twice"),
        ({**AB, "answer": "x"}, "Extra inputs are not permitted"),
    ],
)
def test_column_maps_that_make_no_sense(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ColumnMap(**columns)
