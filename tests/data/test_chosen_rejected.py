"""Chosen and rejected responses: every shape in which they are published, and the order in which they are shown."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.records import Message, PreferencePair, flip
from data.sources.sources import (
    Dropped,
    Source,
    SourceError,
    assign_order,
    read_source,
)
from tests.support.sources import (
    CONVERSATION,
    SHAPES,
    TURNS,
    answer,
    chosen_of,
    read,
    reasons,
    simple_rows,
)

# ---- the order of chosen and rejected --------------------------------------------------------------------------------


@given(st.integers(), st.integers(0, 10**9))
def test_neighbouring_rows_get_opposite_places(seed: int, k: int) -> None:
    assert assign_order(2 * k, seed) == flip(assign_order(2 * k + 1, seed))


def test_the_order_is_balanced_seeded_and_not_alternating() -> None:
    orders = [[assign_order(i, seed) for i in range(1000)] for seed in (0, 1)]
    assert [order.count("A") for order in orders] == [500, 500]
    assert orders[0] != orders[1]
    assert orders[0] == [assign_order(i, 0) for i in range(1000)]
    assert 200 < sum(order == "A" for order in orders[0][::2]) < 300  # which of two comes first is a coin


def test_seeds_change_order_and_label_together_and_nothing_else(tmp_path: Path) -> None:
    one, two = (read(tmp_path, simple_rows(40), seed=seed, format="chosen-rejected") for seed in (1, 2))
    assert one != two
    for left, right in zip(one, two, strict=True):
        assert right in (left, left.swapped())
        assert left.pair.id == right.pair.id
        assert chosen_of(left) == chosen_of(right)
    assert Counter(item.label for item in one) == {"A": 20, "B": 20}
    assert one == read(tmp_path, simple_rows(40), seed=1, format="chosen-rejected")


def test_exchanging_chosen_and_rejected_flips_the_label_of_the_same_pair(tmp_path: Path) -> None:
    rows = simple_rows(20)
    exchanged = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]
    there = read(tmp_path, rows, format="chosen-rejected")
    back = read(tmp_path, exchanged, format="chosen-rejected")
    for i, (left, right) in enumerate(zip(there, back, strict=True)):
        assert (right.pair.response_a, right.pair.response_b) == (left.pair.response_b, left.pair.response_a)
        assert right.label == left.label == assign_order(i, 0)  # so, by content, it is the flipped one
        assert chosen_of(right) == rows[i]["rejected"]


def test_a_dropped_row_does_not_move_the_others(tmp_path: Path) -> None:
    rows = simple_rows(10)
    rows[3]["chosen"] = ""
    full = read(tmp_path, simple_rows(10), format="chosen-rejected")
    assert [item for item in read(tmp_path, rows, format="chosen-rejected") if not isinstance(item, Dropped)] == [
        item for i, item in enumerate(full) if i != 3
    ]


def test_unlabeled_pairs_of_chosen_and_rejected_have_seeded_places_too(tmp_path: Path) -> None:
    labeled = read(tmp_path, simple_rows(8), "preference", format="chosen-rejected")
    assert read(tmp_path, simple_rows(8), "pair", format="chosen-rejected") == [item.pair for item in labeled]
    truths = read(tmp_path, simple_rows(8), "pair_with_truth", format="chosen-rejected")
    assert truths == [(item.pair, item.label) for item in labeled]


# ---- chosen and rejected: the shapes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_of_chosen_and_rejected(tmp_path: Path, shape: str) -> None:
    [item] = read(tmp_path, [SHAPES[shape]], format="chosen-rejected")
    assert item.pair.prompt == CONVERSATION
    assert {item.pair.response_a, item.pair.response_b} == {"4", "5"}
    assert chosen_of(item) == "4"


def test_transcripts(tmp_path: Path) -> None:
    before = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Sum 2 and 2,\n\nplease"
    rows = [{"chosen": f"{before}\n\nAssistant: It's 4.\n\nSure.", "rejected": f"{before}\n\nAssistant:  5"}]
    [item] = read(tmp_path, rows, format="chosen-rejected")
    assert item.pair.prompt == (
        Message("user", "Hi"),
        Message("assistant", "Hello"),
        Message("user", "Sum 2 and 2,\n\nplease"),
    )
    assert chosen_of(item) == "It's 4.\n\nSure."
    assert chosen_of(PreferencePair(item.pair, flip(item.label))) == " 5"  # one space is the separator's


def test_each_of_several_rejected_responses_makes_a_pair(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Why?", "chosen": "a", "rejected": ["b", "c"], "id": "x"},
        {"chosen": [*TURNS, answer("4")], "rejected": [[*TURNS, answer("5")], [TURNS[1], answer("6")]]},
    ]
    items = read(tmp_path, rows, format="chosen-rejected")
    assert reasons(items) == {"kept": 3, "prompts_differ": 1}
    assert [chosen_of(item) for item in items[:3]] == ["a", "a", "4"]
    assert [{item.pair.response_a, item.pair.response_b} for item in items[:2]] == [{"a", "b"}, {"a", "c"}]
    assert [item.pair.id for item in items[:2]] == ["x/0", "x/1"]
    assert items[3].detail == "chosen and rejected.1 differ in turn 1, before their last answers"


def test_pairs_that_differ_before_the_last_answer_are_dropped(tmp_path: Path) -> None:
    rows = [
        {"chosen": "\n\nHuman: Hi\n\nAssistant: a", "rejected": "\n\nHuman: Ho\n\nAssistant: b"},
        {"chosen": "\n\nHuman: Hi\n\nAssistant: a\n\nAssistant: b", "rejected": "\n\nHuman: Hi\n\nAssistant: c"},
        {"chosen": [*TURNS, answer("4")], "rejected": [TURNS[1], answer("5")], "id": 7},
    ]
    items = read(tmp_path, rows, format="chosen-rejected")
    assert reasons(items) == {"prompts_differ": 3}
    assert items[1].detail == "chosen and rejected differ in turn 2, before their last answers"
    assert items[2].id == "7"
    assert items[2].where == f"{tmp_path / 'rows.jsonl'}:3"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"chosen": "a", "rejected": "b"}, r"field 'prompt': is missing, .* the row has the columns chosen, rejected"),
        ({"prompt": "p", "chosen": "a"}, r"field 'rejected': is missing: the row has the columns prompt, chosen"),
        ({"prompt": "p", "chosen": "a", "rejected": 3}, r"field 'rejected': must be a string or a list .*, got int 3"),
        ({"prompt": "p", "chosen": "a", "rejected": None}, r"field 'rejected': .* got nothing \(null\)"),
        ({"prompt": "p", "chosen": "a", "rejected": ["b", None]}, r"field 'rejected.1': .* got nothing \(null\)"),
        ({"prompt": "p", "chosen": "a", "rejected": []}, r"field 'rejected': must end with the assistant's answer, is"),
        (
            {"prompt": [{"role": "narrator", "content": "x"}], "chosen": "a", "rejected": "b"},
            r"field 'prompt\[0\].role': must be one of system, .*user, .* got str 'narrator'",
        ),
        (
            {"prompt": [{"from": "human"}], "chosen": "a", "rejected": "b"},
            r"field 'prompt\[0\].value': must be a string, got nothing",
        ),
        ({"prompt": TURNS[:3], "chosen": "a", "rejected": "b"}, r"must end with a user turn .*ends with 'assistant'"),
        ({"chosen": TURNS, "rejected": [*TURNS, answer("5")]}, r"field 'chosen': must end with the assistant's answer"),
        ({"chosen": [], "rejected": []}, r"field 'chosen': must end with the assistant's answer, is empty"),
        (
            {"prompt": "Other?", "chosen": [*TURNS, answer("4")], "rejected": [*TURNS, answer("5")]},
            r"field 'chosen': is a conversation that does not contain the row's own prompt",
        ),
        (
            {
                "prompt": "Other?",
                "chosen": "\n\nHuman: Hi\n\nAssistant: a",
                "rejected": "\n\nHuman: Hi\n\nAssistant: b",
            },
            r"does not contain the row's own prompt",
        ),
        ({"prompt": "p", "chosen": "a", "rejected": "b", "id": [1]}, r"field 'id': must be a non-empty string"),
        (["p", "a", "b"], r"row 2: the row must be an object with columns, got list"),
    ],
)
def test_malformed_rows_name_file_row_field_and_what_to_do(tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        read(tmp_path, [simple_rows(1)[0], row], format="chosen-rejected")
    assert str(caught.value).startswith(f"{tmp_path / 'rows.jsonl'}, row 2: ")
    assert "max_malformed" in str(caught.value)
    items = read(tmp_path, [simple_rows(1)[0], row], format="chosen-rejected", max_malformed=1)
    assert reasons(items) == {"kept": 1, "malformed": 1}
    assert items[1].where.endswith("rows.jsonl:2")


def test_half_a_surrogate_pair_is_malformed_and_not_a_crash_later(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "p", "chosen": "a\\ud83d", "rejected": "b"}\n')
    with pytest.raises(SourceError, match="field 'chosen': is not Unicode text: half a surrogate pair at character 1"):
        list(read_source(Source(path=str(path), format="chosen-rejected"), "preference", 0))
