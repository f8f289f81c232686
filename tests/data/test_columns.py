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


# ---- several columns, lists and conversations ------------------------------------------------------------------------


def test_several_label_columns_vote_and_a_draw_is_a_tie(tmp_path: Path) -> None:
    votes = [(1, 1, 2), (2, 0, 2), (1, 2, 0), (1, 0, 1.0), (0, 0, 1)]
    rows = [{"q": "Why?", "one": "a", "two": "b", "x": x, "y": y, "z": z} for x, y, z in votes]
    columns = {**LABELED, "label": ["x", "y", "z"]}
    truths = read(tmp_path, rows, "pair_with_truth", **by_map(columns))
    assert [truth for _, truth in truths] == ["A", "B", None, "A", None]
    assert reasons(read(tmp_path, rows, **by_map(columns))) == {"kept": 3, "tie": 2}
    with pytest.raises(SourceError, match="field 'y': has a value that the map does not list: int 7"):
        read(tmp_path, [{**rows[0], "y": 7}], **by_map(columns))


def test_a_column_for_each_outcome(tmp_path: Path) -> None:
    marks: list[tuple[Any, Any, Any]] = [
        (1, 0, 0),
        (False, True, False),
        (0, 0, 1),
        (None, None, None),
        ("1", "", "False"),
    ]
    rows = [{"q": "Why?", "one": "a", "two": "b", "x": x, "y": y, "z": z} for x, y, z in marks]
    columns = {**AB, "is_a": "x", "is_b": "y", "is_tie": "z"}
    items = read(tmp_path, rows, **by_map(columns))
    assert [getattr(item, "label", None) or item.reason for item in items] == ["A", "B", "tie", "no_label", "A"]
    for wrong, message in (
        ({"y": 1}, "field 'y': is marked, and so is 'x'"),
        ({"x": 2}, "field 'x': must be true or false, 1 or 0, or null, got int 2"),
        ({"x": "yes"}, "field 'x': must be true or false"),
    ):
        with pytest.raises(SourceError, match=message):
            read(tmp_path, [{**rows[0], **wrong}], **by_map(columns))


def test_scores_say_which_is_better_and_equal_ones_are_a_tie(tmp_path: Path) -> None:
    rows = [{"q": "Why?", "one": "a", "two": "b", "s": s, "t": t} for s, t in [(3, 1), (1, 2.5), (2, 2.0)]]
    scores = {"score_a": "s", "score_b": "t"}
    items = read(tmp_path, rows, **by_map({**AB, **scores}))
    assert [getattr(item, "label", None) or item.reason for item in items] == ["A", "B", "tie"]
    named = {"prompt": "q", "chosen": "one", "rejected": "two", **scores}
    items = read(tmp_path, [rows[0], rows[2]], **by_map(named))
    assert [chosen_of(items[0]), items[1].reason] == ["a", "tie"]
    with pytest.raises(SourceError, match="field 's': is lower than 't', but belongs to 'one', the better response"):
        read(tmp_path, [rows[1]], **by_map(named))
    assert reasons(read(tmp_path, [rows[1]], "pair", **by_map(named))) == {"kept": 1}
    with pytest.raises(SourceError, match="field 't': must be a number, got str 'high'"):
        read(tmp_path, [{**rows[0], "t": "high"}], **by_map({**AB, **scores}))


def test_each_of_several_rejected_responses_makes_a_pair(tmp_path: Path) -> None:
    row = {"q": "Why?", "best": "a", "worse": ["b", "c"], "n": 7}
    columns = {"prompt": "q", "chosen": "best", "rejected": "worse", "id": "n"}
    items = read(tmp_path, [row, {**row, "worse": "d", "n": 8}], **by_map(columns))
    assert [chosen_of(item) for item in items] == ["a", "a", "a"]
    assert [item.pair.id for item in items] == ["7/0", "7/1", "8"]
    assert {text for item in items for text in (item.pair.response_a, item.pair.response_b)} == {"a", "b", "c", "d"}


def test_cells_of_json_text(tmp_path: Path) -> None:
    row = {"q": '[{"role": "user", "content": "Why?"}]', "one": '["not", "parsed"]', "two": "b"}
    [item] = read(tmp_path, [row], "pair", **by_map({**AB, "json_columns": ["q"]}))
    assert item.prompt == (Message("user", "Why?"),)
    assert item.response_a == '["not", "parsed"]'
    with pytest.raises(SourceError, match=r"field 'two': must be JSON written as text \(.*\), got str 'b'"):
        read(tmp_path, [row], "pair", **by_map({**AB, "json_columns": ["q", "two"]}))


def test_lists_of_what_the_user_says_and_of_what_each_model_answers(tmp_path: Path) -> None:
    """The form of Chatbot Arena's games on Kaggle."""
    columns = by_map({**AB, "json_columns": ["q", "one", "two"]})
    rows = [
        {"q": '["Why?"]', "one": '["a"]', "two": '["b"]'},
        {"q": '["Hi", "Why?"]', "one": '["Ho", "a"]', "two": '["Ho", "b"]'},
        {"q": '["Hi", "Why?"]', "one": '["Ho", "a"]', "two": '["Hey", "b"]'},
    ]
    items = read(tmp_path, rows, "pair", **columns)
    assert items[0].prompt == (Message("user", "Why?"),)
    assert items[1].prompt == (Message("user", "Hi"), Message("assistant", "Ho"), Message("user", "Why?"))
    assert [(item.response_a, item.response_b) for item in items[:2]] == [("a", "b"), ("a", "b")]
    assert (items[2].reason, items[2].detail) == (
        "prompts_differ",
        "one and two differ in turn 2, before their last answers",
    )
    for wrong in ('["a"]', '["a", null]', '"a"'):
        with pytest.raises(SourceError, match="field 'two': must be a list of 2 texts, as many as 'q' has"):
            read(tmp_path, [{**rows[1], "two": wrong}], "pair", **columns)


WHOLE = [*TURNS, {"role": "assistant", "content": "4"}]


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"one": WHOLE, "two": [*TURNS, {"role": "assistant", "content": "5"}]}, {}),
        ({"one": WHOLE, "two": "5"}, {}),
        ({"one": WHOLE, "two": {"from": "gpt", "value": "5"}}, {}),
        ({"q": "Sum 2 and 2", "one": WHOLE, "two": "5"}, {"prompt": "q"}),
        ({"q": WHOLE, "one": "4", "two": "5"}, {"prompt": "q"}),
        ({"one": WHOLE, "two": "5"}, {"prompt": "one"}),
    ],
)
def test_conversations_that_end_with_the_answer(tmp_path: Path, row: dict[str, Any], columns: dict[str, str]) -> None:
    [item] = read(tmp_path, [row], **by_map({"chosen": "one", "rejected": "two", **columns}))
    assert item.pair.prompt == CONVERSATION
    assert chosen_of(item) == "4"
    assert {item.pair.response_a, item.pair.response_b} == {"4", "5"}


@pytest.mark.parametrize(
    ("row", "columns", "message"),
    [
        ({"one": "4", "two": "5"}, {}, "'prompt': is not in the map, and the responses are only answers"),
        ({"q": WHOLE, "one": "8", "two": "5"}, {"prompt": "q"}, "'q': must end with a user turn"),
        (
            {"q": "Other?", "one": WHOLE, "two": "5"},
            {"prompt": "q"},
            "'one': is a conversation that does not contain 'q'",
        ),
        ({"one": TURNS, "two": "5"}, {}, "'one': must end with the assistant's answer, ends with 'user'"),
    ],
)
def test_conversations_that_do_not_fit(
    tmp_path: Path, row: dict[str, Any], columns: dict[str, str], message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        read(tmp_path, [row], **by_map({"chosen": "one", "rejected": "two", **columns}))


def test_chosen_and_rejected_with_a_rationale(tmp_path: Path) -> None:
    """It is shown with the positions that are drawn; one that names other positions cannot be."""
    why = "The chosen response is right, but the rejected answer is not."
    rows: list[dict[str, Any]] = [{"q": f"Why {i}?", "one": "a", "two": "b", "why": why} for i in range(2)]
    rows += [{**rows[0], "why": text} for text in ("Response A is right.", "The second answer is wrong.", None)]
    columns = {"prompt": "q", "chosen": "one", "rejected": "two", "rationale": "why"}
    items = read(tmp_path, rows, "rationale", **by_map(columns))
    assert {items[0].label, items[1].label} == {"A", "B"}
    for item in items[:2]:
        other = "B" if item.label == "A" else "A"
        assert item.rationale == f"Response {item.label} is right, but Response {other} is not."
    assert [item.reason for item in items[2:]] == ["rationale_by_position"] * 2 + ["no_rationale"]
    assert reasons(read(tmp_path, rows, "preference", **by_map(columns))) == {"kept": 5}


def test_a_map_without_the_newer_keys_is_stored_as_before() -> None:
    assert ColumnMap(**LABELED).model_dump(mode="json") == {
        "prompt": "q",
        "prompt_extra": None,
        "system": None,
        "response_a": "one",
        "response_b": "two",
        "chosen": None,
        "rejected": None,
        "label": "winner",
        "label_a": [1],
        "label_b": [2],
        "label_tie": [0],
        "rationale": None,
        "id": None,
    }


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"prompt": "q"}, "name either both response_a and response_b or both chosen and rejected"),
        ({"prompt": "q", "response_a": "one"}, "name either both"),
        ({**AB, "chosen": "c"}, "not a mix"),
        ({**AB, "chosen": "c", "rejected": "r"}, "not a mix"),
        ({"prompt": "q", "chosen": "c", "rejected": "r", "label": "l"}, "chosen and rejected already are the label"),
        ({**AB, "rationale": "why"}, "a rationale argues for a label"),
        ({**AB, "is_a": "x"}, "is_a and is_b belong together"),
        ({**AB, "is_tie": "x"}, "is_a and is_b belong together"),
        ({**AB, "score_a": "x"}, "score_a and score_b belong together"),
        ({**LABELED, "score_a": "x", "score_b": "y"}, "give one of label, is_a with is_b, and score_a with score_b"),
        ({"chosen": "c", "rejected": "r", "is_a": "x", "is_b": "y"}, "chosen and rejected already are the label"),
        ({**AB, "label": ["l", "m"]}, "label needs label_a and label_b"),
        ({**LABELED, "label_a": [float("nan")]}, "finite number"),
        ({**LABELED, "label_a": [1], "label_b": [1.0]}, "the label value 1.0 is given twice"),
        ({**AB, "label": "l", "label_a": [1]}, "label needs label_a and label_b"),
        ({**AB, "label_a": [1]}, "label is not given"),
        ({**LABELED, "label_tie": [2]}, "the label value 2 is given twice"),
        ({**AB, "answer": "x"}, "Extra inputs are not permitted"),
    ],
)
def test_column_maps_that_make_no_sense(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ColumnMap(**columns)
