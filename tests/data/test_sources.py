"""Public formats → records. Every row here is written for these tests; real files are in test_real_sources.py."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from data.records import Message, PreferencePair, RationalePair, ResponsePair, content_id, flip
from data.sources.formats.helpsteer3 import name_by_position
from data.sources.sources import (
    ColumnMap,
    Dropped,
    Source,
    SourceError,
    assign_order,
    read_source,
    source_files,
    source_fingerprint,
)
from prompts.gram import GRAM, GRAM_CARD
from prompts.judge import GRAM_R2, join_headings

Rows = Sequence[object]


def write(path: Path, rows: Rows) -> str:
    text = "\n".join(json.dumps(row) for row in rows) + "\n"
    if path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return str(path)


def read(tmp_path: Path, rows: Rows, kind: str = "preference", seed: int = 0, **config: Any) -> list[Any]:
    path = write(tmp_path / "rows.jsonl", rows)
    return list(read_source(Source(path=path, **config), kind, seed))  # type: ignore[call-overload]


def reasons(items: Iterable[Any]) -> Counter[str]:
    return Counter(item.reason if isinstance(item, Dropped) else "kept" for item in items)


def chosen_of(item: PreferencePair) -> str:
    return item.pair.response_a if item.label == "A" else item.pair.response_b


# ---- our own records -------------------------------------------------------------------------------------------------

OWN = RationalePair(
    ResponsePair("r1", (Message("user", "Name a prime."),), "Seven.", "Nine.", source="primes"), "A", "Nine is 3 × 3."
)


def test_what_to_json_writes_is_read_back(tmp_path: Path) -> None:
    rows = [OWN.to_json()]
    assert read(tmp_path, rows, "rationale") == [OWN]
    assert read(tmp_path, rows, "preference") == [OWN.preference]
    assert read(tmp_path, rows, "pair") == [OWN.pair]
    assert read(tmp_path, rows, "pair_with_truth") == [(OWN.pair, "A")]
    assert read(tmp_path, [OWN.pair.to_json()], "pair_with_truth") == [(OWN.pair, None)]


def test_records_may_leave_out_id_and_source_and_write_the_prompt_as_text(tmp_path: Path) -> None:
    [pair] = read(tmp_path, [{"prompt": "Hello?", "response_a": "Hi.", "response_b": "Yes?"}], "pair")
    assert pair.prompt == (Message("user", "Hello?"),)
    assert pair.source == "rows"
    assert pair.id == content_id([{"role": "user", "content": "Hello?"}], "Hi.", "Yes?")


def test_a_pair_does_not_look_at_the_label(tmp_path: Path) -> None:
    rows = [{**OWN.to_json(), "label": "neither"}]
    assert read(tmp_path, rows, "pair") == [OWN.pair]
    with pytest.raises(SourceError, match=r"""field 'label': must be "A" or "B", got str 'neither'"""):
        read(tmp_path, rows, "pair_with_truth")


def test_a_record_without_rationale_is_dropped_when_one_is_asked_for(tmp_path: Path) -> None:
    rows = [OWN.preference.to_json(), {**OWN.to_json(), "rationale": "  "}, {**OWN.to_json(), "rationale": None}]
    assert reasons(read(tmp_path, rows, "rationale")) == {"no_rationale": 3}


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


def simple_rows(n: int) -> list[dict[str, Any]]:
    return [{"prompt": f"Question {i}?", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(n)]


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

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Sum 2 and 2"},
]
CONVERSATION = tuple(Message(turn["role"], turn["content"]) for turn in TURNS)  # type: ignore[arg-type]


def answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def share_gpt(turn: dict[str, str]) -> dict[str, str]:
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    return {"from": names[turn["role"]], "value": turn["content"]}


SHAPES: dict[str, dict[str, Any]] = {
    "prompt messages and strings": {"prompt": TURNS, "chosen": "4", "rejected": "5"},
    "whole conversations": {"chosen": [*TURNS, answer("4")], "rejected": [*TURNS, answer("5")]},
    "prompt and whole conversations": {
        "prompt": TURNS,
        "chosen": [*TURNS, answer("4")],
        "rejected": [*TURNS, answer("5")],
    },
    "one turn as prompt and whole conversations": {
        "prompt": "Sum 2 and 2",
        "chosen": [*TURNS, answer("4")],
        "rejected": [*TURNS, answer("5")],
    },
    "prompt messages and answers": {"prompt": TURNS, "chosen": [answer("4")], "rejected": [answer("5")]},
    "ShareGPT": {
        "conversations": [share_gpt(turn) for turn in TURNS],
        "chosen": {"from": "gpt", "value": "4"},
        "rejected": {"from": "gpt", "value": "5"},
    },
    "keys of both kinds, as Parquet gives them": {
        "prompt": None,
        "conversations": [{"role": None, "content": None, **share_gpt(turn)} for turn in TURNS],
        "chosen": {"role": "assistant", "content": "4", "from": None, "value": None},
        "rejected": {"role": "assistant", "content": "5", "from": None, "value": None},
    },
}


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
        (
            {"prompt": [{"role": "tool", "content": "x"}], "chosen": "a", "rejected": "b"},
            r"field 'prompt\[0\].role': must be one of system, user, .* got str 'tool'",
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
            r"field 'chosen': is a conversation in which the row's own prompt is not found",
        ),
        (
            {
                "prompt": "Other?",
                "chosen": "\n\nHuman: Hi\n\nAssistant: a",
                "rejected": "\n\nHuman: Hi\n\nAssistant: b",
            },
            r"the row's own prompt is not found",
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


# ---- drop reasons and bounds -----------------------------------------------------------------------------------------


def test_rows_that_are_no_pairs_are_dropped_with_their_reason(tmp_path: Path) -> None:
    prompt = "Which?"
    rows = [
        {"prompt": " \n", "chosen": "a", "rejected": "b"},
        {"prompt": [], "chosen": "a", "rejected": "b"},
        {"prompt": [*TURNS[:3], {"role": "user", "content": ""}], "chosen": "a", "rejected": "b"},
        {"prompt": prompt, "chosen": "", "rejected": "b"},
        {"prompt": prompt, "chosen": "a", "rejected": " "},
        {"prompt": prompt, "chosen": "same", "rejected": "same\n"},
        {"prompt": prompt, "chosen": "a" * 50, "rejected": "b" * 45},
        {"prompt": prompt, "chosen": "a" * 50, "rejected": "b" * 44},
    ]
    items = read(tmp_path, rows, format="chosen-rejected", max_chars=100)
    assert [item.reason for item in items[:-1]] == [
        *["empty_prompt"] * 3,
        *["empty_response"] * 2,
        "equal_responses",
        "too_long",
    ]
    assert isinstance(items[-1], PreferencePair)
    assert items[-2].detail == "101 characters, at most 100 are allowed"
    assert items[3].id == content_id([{"role": "user", "content": prompt}], "", "b")


def test_one_malformed_row_too_many_raises_and_names_it(tmp_path: Path) -> None:
    rows: list[object] = [*simple_rows(3), 1, 2, 3]
    assert reasons(read(tmp_path, rows, format="chosen-rejected", max_malformed=3)) == {"kept": 3, "malformed": 3}
    with pytest.raises(
        SourceError, match=r"row 6: .*\(the 2 malformed rows that max_malformed allows came before it\)"
    ):
        read(tmp_path, rows, format="chosen-rejected", max_malformed=2)


def test_limit_counts_rows_read_not_rows_kept(tmp_path: Path) -> None:
    rows = simple_rows(10)
    rows[1]["chosen"] = ""
    items = read(tmp_path, rows, format="chosen-rejected", limit=4)
    assert reasons(items) == {"kept": 3, "empty_response": 1}
    assert items == read(tmp_path, rows, format="chosen-rejected")[:4]


def test_a_broken_row_behind_the_limit_is_not_read(tmp_path: Path) -> None:
    assert len(read(tmp_path, [*simple_rows(2), "no row"], format="chosen-rejected", limit=2)) == 2


texts = st.text(max_size=6)
values = st.one_of(texts, st.none(), st.integers(), st.lists(st.fixed_dictionaries({"role": texts, "content": texts})))
any_row = st.one_of(
    st.fixed_dictionaries({"prompt": texts, "chosen": texts, "rejected": texts}),
    st.dictionaries(st.sampled_from(["prompt", "conversations", "chosen", "rejected", "id"]), values),
    values,
)


@settings(deadline=None)  # it writes files
@given(st.lists(any_row, max_size=12), st.integers(0, 3), st.sampled_from(["chosen-rejected", "records", "helpsteer3"]))
def test_every_row_of_a_file_comes_out_once_in_order(rows: list[object], seed: int, format: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        items = read(Path(folder), rows, seed=seed, format=format, max_malformed=100)
        assert len(items) == len(rows)
        for number, item in enumerate(items, start=1):
            assert not isinstance(item, Dropped) or item.where.endswith(f":{number}")
        if all(item.reason != "malformed" for item in items if isinstance(item, Dropped)):
            assert reasons(read(Path(folder), rows, seed=seed, format=format)) == reasons(items)


# ---- HelpSteer3 ------------------------------------------------------------------------------------------------------


def annotator(score: int, mark: str = "", **texts: str | None) -> dict[str, Any]:
    return {
        "score": score,
        "reasoning": f"@Response 1 is shorter than Response 2.{mark}",
        "feedback1": "The response is short.",
        "feedback2": "Longer than @Response 1.",
        **texts,
    }


def helpsteer_row(overall: int, *individuals: dict[str, Any]) -> dict[str, Any]:
    return {
        "domain": "general",
        "language": "english",
        "context": [turn for turn in TURNS if turn["role"] != "system"],
        "response1": "4",
        "response2": "The sum is four.",
        "overall_preference": overall,
        "individual_preference": list(individuals),
    }


def test_helpsteer3_keeps_its_order_and_reads_the_sign(tmp_path: Path) -> None:
    rows = [helpsteer_row(score, annotator(score)) for score in (-3, -1, 0, 1, 3)]
    items = read(tmp_path, rows, "preference", format="helpsteer3")
    assert [getattr(item, "label", None) for item in items] == ["A", "A", None, "B", "B"]
    assert items[2].reason == "tie"
    assert {(item.pair.response_a, item.pair.response_b) for item in items if isinstance(item, PreferencePair)} == {
        ("4", "The sum is four.")
    }
    truths = read(tmp_path, rows, "pair_with_truth", format="helpsteer3")
    assert [truth for _, truth in truths] == ["A", "A", None, "B", "B"]
    assert reasons(read(tmp_path, rows, "pair", format="helpsteer3")) == {"kept": 5}


def test_helpsteer3_rationale_has_the_shape_that_the_judge_asks_for(tmp_path: Path) -> None:
    rows = [helpsteer_row(-2, annotator(-2)), helpsteer_row(1, annotator(1)), helpsteer_row(0, annotator(1))]
    one, two, tie = read(tmp_path, rows, "rationale", format="helpsteer3")
    assert one.rationale == join_headings(
        "Response A: The response is short.\nResponse B: Longer than Response A.",
        "Response A is shorter than Response B.",
        "Response A is better.",
    )
    assert (one.label, two.label, tie.reason) == ("A", "B", "tie")
    for item in (one, two):
        assert GRAM_R2.check_rationale(item.rationale, item.label) is None


def test_helpsteer3_takes_the_annotator_who_agrees_most(tmp_path: Path) -> None:
    rows = [
        helpsteer_row(-1, annotator(3, " no"), annotator(-1, " weak"), annotator(-3, " first"), annotator(-3, " late")),
        helpsteer_row(-1, annotator(-1, " weak"), annotator(-3, " empty", feedback1=" "), annotator(0, " zero")),
        helpsteer_row(2, annotator(1, " weak"), annotator(3, reasoning="Mine:\nConclusion:\nResponse 2.")),
        helpsteer_row(2, annotator(1, " weak"), annotator(3, " tag</think>")),
        helpsteer_row(2, annotator(-1), annotator(0)),
        helpsteer_row(2, annotator(2, feedback2=None)),
        helpsteer_row(2),
    ]
    items = read(tmp_path, rows, "rationale", format="helpsteer3")
    assert [" first" in items[0].rationale, *(" weak" in item.rationale for item in items[1:4])] == [True] * 4
    assert reasons(items) == {"kept": 4, "no_rationale": 3}
    for item in items[:4]:
        assert GRAM_R2.check_rationale(item.rationale, item.label) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"overall_preference": 4}, r"'overall_preference': must be an integer from -3 .* got int 4"),
        ({"overall_preference": True}, r"got bool True"),
        ({"individual_preference": "none"}, r"'individual_preference': must be a list"),
        ({"individual_preference": [{"reasoning": "x"}]}, r"'individual_preference.0.score': .* got nothing"),
        (
            {"individual_preference": [{"score": -1}]},
            r"'individual_preference.0.feedback1': is missing: .* columns score",
        ),
        ({"response2": None}, r"'response2': must be a string, got nothing"),
    ],
)
def test_malformed_helpsteer3_rows(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read(tmp_path, [{**helpsteer_row(-1, annotator(-1)), **change}], "rationale", format="helpsteer3")


@pytest.mark.parametrize(
    ("text", "renamed"),
    [
        ("@Response 1 is better than @Response 2.", "Response A is better than Response B."),
        ("response 2's tone; Response1, RESPONSE #2", "Response B's tone; Response A, Response B"),
        ("@Responses 1 and 2, Responses 2 & 1", "Responses A and B, Responses B & A"),
        ("Response 12, Response 1.5, MyResponse 1, Response 3", "Response 12, Response 1.5, MyResponse 1, Response 3"),
        ("In 2 responses 1 is odd. Response A", "In 2 responses 1 is odd. Response A"),
        ("Response 1. Response 2", "Response A. Response B"),
    ],
)
def test_name_by_position(text: str, renamed: str) -> None:
    assert name_by_position(text) == renamed
    assert name_by_position(renamed) == renamed


# ---- GRAM's training files -------------------------------------------------------------------------------------------

PAIR = ResponsePair("g1", (Message("user", "Why\n\nso?"),), "Because [a] {x}.\n\nYes.", "\\nabla, no reason.")


def gram_output(a: str, b: str, line_break: str = "\n") -> str:
    return line_break.join(
        [
            "[The Start of Assistant A's Answer]",
            a,
            "[The End of Assistant A's Answer]",
            "",
            "[The Start of Assistant B's Answer]",
            b,
            "[The End of Assistant B's Answer]",
        ]
    )


@pytest.mark.parametrize("line_break", ["\n", "\\n"])
def test_gram_pre_training_rows(tmp_path: Path, line_break: str) -> None:
    row = {
        "instruction": f"[User Question]{line_break}{PAIR.prompt[0].content}{line_break * 2}",
        "input": "",
        "output": gram_output(PAIR.response_a, PAIR.response_b, line_break),
    }
    cut = {**row, "output": row["output"].replace(f"{line_break}[The End", "[The End"), "input": "More."}
    one, two = read(tmp_path, [row, cut], "pair", format="gram-pre-training")
    assert (one.prompt, one.response_a, one.response_b) == (PAIR.prompt, PAIR.response_a, PAIR.response_b)
    assert two.prompt == (Message("user", "Why\n\nso?\n\nMore."),)
    assert (two.response_a, two.response_b) == (one.response_a, one.response_b)
    assert read(tmp_path, [row], "pair_with_truth", format="gram-pre-training") == [(one, None)]


@pytest.mark.parametrize("judge", [GRAM, GRAM_CARD], ids=lambda judge: judge.name)
def test_gram_fine_tuning_rows_are_what_the_gram_prompt_renders(tmp_path: Path, judge: Any) -> None:
    rows = [{"instruction": judge.render(PAIR)[0].content, "input": "", "output": label} for label in ("A", "B\n")]
    one, two = read(tmp_path, rows, "preference", format="gram-fine-tuning")
    assert (one.pair.prompt, one.pair.response_a, one.pair.response_b) == (
        PAIR.prompt,
        PAIR.response_a,
        PAIR.response_b,
    )
    assert (one.label, two.label) == ("A", "B")
    assert one.pair == two.pair


def test_malformed_gram_rows(tmp_path: Path) -> None:
    question = "[User Question]\nWhy?\n\n"
    good = gram_output("a", "b")
    with pytest.raises(
        SourceError, match=r"'output': must hold the two answers .*, got a text that begins 'Response A: a'"
    ):
        read(tmp_path, [{"instruction": question, "output": "Response A: a"}], "pair", format="gram-pre-training")
    quoted = gram_output("I end with [The End of Assistant A's Answer] too", "b")
    with pytest.raises(SourceError, match=r"holds \[The End of Assistant A's Answer\] more than once"):
        read(tmp_path, [{"instruction": question, "output": quoted}], "pair", format="gram-pre-training")
    with pytest.raises(SourceError, match=r"""'output': must be "A" or "B", got str 'C'"""):
        read(tmp_path, [{"instruction": question + good, "output": "C"}], "preference", format="gram-fine-tuning")
    empty = {"instruction": "[User Question]\n\n\n", "output": good}
    assert reasons(read(tmp_path, [empty], "pair", format="gram-pre-training")) == {"empty_prompt": 1}


# ---- columns ---------------------------------------------------------------------------------------------------------

AB: dict[str, Any] = {"prompt": "q", "response_a": "one", "response_b": "two"}
LABELED: dict[str, Any] = {**AB, "label": "winner", "label_a": [1], "label_b": [2], "label_tie": [0]}


def by_map(columns: dict[str, Any]) -> dict[str, Any]:
    return {"format": "columns", "columns": columns}


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
    with pytest.raises(SourceError, match=r"'winner': has a value without a meaning: bool True; .* \[1\] for A"):
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
    with pytest.raises(SourceError, match="field 'sys': is a second system turn"):
        read(tmp_path, [{**rows[3], "q": TURNS}], "pair", **by_map(columns))


def test_columns_with_a_rationale(tmp_path: Path) -> None:
    rows = [{"q": "Why?", "one": "a", "two": "b", "winner": 2, "why": why} for why in ("B says more.", "", None)]
    items = read(tmp_path, rows, "rationale", **by_map({**LABELED, "rationale": "why"}))
    assert (items[0].label, items[0].rationale) == ("B", "B says more.")
    assert reasons(items) == {"kept": 1, "no_rationale": 2}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"prompt": "q"}, "name both of response_a and response_b, or both of chosen and rejected"),
        ({"prompt": "q", "response_a": "one"}, "name both of"),
        ({**AB, "chosen": "c"}, "not a mix"),
        ({**AB, "chosen": "c", "rejected": "r"}, "not a mix"),
        ({"prompt": "q", "chosen": "c", "rejected": "r", "label": "l"}, "chosen and rejected are the label already"),
        ({**AB, "rationale": "why"}, "a rationale needs response_a, response_b and label"),
        ({**AB, "label": "l", "label_a": [1]}, "label needs label_a and label_b"),
        ({**AB, "label_a": [1]}, "label is not given"),
        ({**LABELED, "label_tie": [2]}, "the label value 2 is given twice"),
        ({**AB, "answer": "x"}, "Extra inputs are not permitted"),
    ],
)
def test_column_maps_that_make_no_sense(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ColumnMap(**columns)


# ---- the configuration -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"format": "columns"}, "format 'columns' needs a column map"),
        ({"columns": AB}, "a column map is for format 'columns' only, the format is 'records'"),
        ({"subset": "preference"}, "split, subset and revision are of hub data sets"),
        ({"path": "hub:"}, "hub: must be followed by"),
        ({"limit": 0}, "greater than or equal to 1"),
        ({"max_malformed": -1}, "greater than or equal to 0"),
        ({"fmt": "records"}, "Extra inputs"),
    ],
)
def test_sources_that_make_no_sense(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Source(**{"path": "rows.jsonl", **config})


@pytest.mark.parametrize("model", [Source, ColumnMap])
def test_every_field_is_explained_and_survives_json(model: type[BaseModel]) -> None:
    assert all(field.title and field.description for field in model.model_fields.values())
    source = Source(path="x.jsonl", format="columns", columns=ColumnMap(**{**LABELED, "label_a": [1, "1", 1.5]}))
    assert Source.model_validate_json(source.model_dump_json()) == source
    with pytest.raises(ValidationError, match="frozen"):
        source.path = "y.jsonl"


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("preference", {"format": "gram-pre-training"}, "labeled rows were asked for"),
        ("preference", by_map(AB), "give label, or chosen and rejected, in the column map"),
        ("rationale", {"format": "chosen-rejected"}, "rationales were asked for"),
        ("rationale", by_map(LABELED), "give rationale in the column map"),
    ],
)
def test_what_a_format_cannot_give_is_refused_before_reading(kind: Any, config: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read_source(Source(path="not-there.jsonl", **config), kind, 0)


# ---- files -----------------------------------------------------------------------------------------------------------


def prompts_of(path: object) -> list[str]:
    items = read_source(Source(path=str(path), format="chosen-rejected"), "preference", 0)
    return [item.pair.prompt[0].content for item in items if isinstance(item, PreferencePair)]


def test_every_type_of_file_gives_the_same_records(tmp_path: Path) -> None:
    rows = simple_rows(5)
    write(tmp_path / "data.jsonl", rows)
    write(tmp_path / "data.jsonl.gz", rows)
    (tmp_path / "data.json").write_text(json.dumps(rows, indent=1))
    (tmp_path / "data.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data.parquet", row_group_size=2)
    (tmp_path / "notes.txt").write_text("not rows")
    (tmp_path / ".hidden.jsonl").write_text("not rows")
    files = source_files(Source(path=str(tmp_path)))
    assert [Path(file).name for file in files] == [
        "data.json",
        "data.json.gz",
        "data.jsonl",
        "data.jsonl.gz",
        "data.parquet",
    ]
    read_files = [list(read_source(Source(path=file, format="chosen-rejected"), "preference", 3)) for file in files]
    assert all(items == read_files[0] for items in read_files)
    assert {item.pair.source for item in read_files[0] if isinstance(item, PreferencePair)} == {"data"}


def test_folders_and_globs_are_read_in_sorted_order_and_rows_count_on(tmp_path: Path) -> None:
    folder = tmp_path / "pairs"
    folder.mkdir()
    rows = simple_rows(6)
    write(folder / "b.jsonl", rows[3:])
    write(folder / "a.jsonl", rows[:3])
    questions = [row["prompt"] for row in rows]
    assert prompts_of(folder) == prompts_of(folder / "*.jsonl") == prompts_of(tmp_path / "**" / "*.jsonl") == questions
    items = list(read_source(Source(path=str(folder / "*"), format="chosen-rejected"), "preference", 0))
    assert [item.label for item in items if isinstance(item, PreferencePair)] == [assign_order(i, 0) for i in range(6)]
    assert {item.pair.source for item in items if isinstance(item, PreferencePair)} == {"pairs"}


def test_blank_lines_are_no_rows_and_the_row_is_the_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(simple_rows(1)[0]) + "\n\n  \n{}\n")
    with pytest.raises(
        SourceError, match=r"rows.jsonl, row 4: field 'chosen': is missing: the row has the columns \(none\)"
    ):
        prompts_of(path)


def test_paths_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "rows.jsonl", simple_rows(2))
    monkeypatch.setenv("GRAM_R2_TEST_DATA", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in ("${GRAM_R2_TEST_DATA}/rows.jsonl", "$GRAM_R2_TEST_DATA/*.jsonl", "~/rows.jsonl"):
        assert len(prompts_of(path)) == 2
    monkeypatch.delenv("GRAM_R2_TEST_DATA")
    with pytest.raises(SourceError, match="the environment variable GRAM_R2_TEST_DATA is not set"):
        prompts_of("${GRAM_R2_TEST_DATA}/rows.jsonl")


def test_paths_that_hold_nothing(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not rows")
    for path, message in {
        tmp_path: "the folder holds no file",
        tmp_path / "*.jsonl": "the pattern matches no file",
        tmp_path / "rows.jsonl": "there is no such file or folder",
        tmp_path / "notes.txt": r"notes.txt: is not of a type that can be read; rows come as .jsonl,",
        "s3://bucket/rows.jsonl": "is a URL",
    }.items():
        with pytest.raises(SourceError, match=message) as caught:
            prompts_of(path)
        assert str(path) in str(caught.value)


def test_files_that_are_not_what_their_name_says(tmp_path: Path) -> None:
    row = json.dumps(simple_rows(1)[0])
    broken: dict[str, tuple[bytes, str]] = {
        "text.jsonl": (b"once upon a time\n", r"text.jsonl, row 1: the line is not JSON"),
        "cut.jsonl": (f'{row}\n{{"prompt": '.encode(), r"cut.jsonl, row 2: the line is not JSON"),
        "latin.jsonl": (row.encode() + b'\n{"prompt": "caf\xe9"}\n', r"latin.jsonl, row 2: the line is not JSON"),
        "text.json": (b"[\n1,\nonce", r"text.json, line 3: is not JSON"),
        "lines.json": (f"{row}\n{row}\n".encode(), r"lines.json, line 2: .* must be named .jsonl"),
        "latin.json": (b'[\n"caf\xe9"]', r"latin.json, line 2: is not UTF-8"),
        "object.json": (b'{"train": [], "n": 0}', r"must be a list of rows, is an object with the keys 'train', 'n'"),
        "plain.jsonl.gz": (b"no gzip", r"plain.jsonl.gz: cannot be read .*is the file complete\?"),
        "cut.jsonl.gz": (gzip.compress(row.encode() * 99)[:40], r"cut.jsonl.gz: cannot be read"),
        "no.parquet": (b"no parquet at all", r"no.parquet: cannot be read as Parquet after row 0"),
    }
    for name, (content, message) in broken.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SourceError, match=message):
            prompts_of(tmp_path / name)


def test_the_fingerprint_is_the_content_not_the_place(tmp_path: Path) -> None:
    prints = []
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        write(tmp_path / place / "a.jsonl", simple_rows(1))
        write(tmp_path / place / "b.jsonl", simple_rows(2))
        prints.append(source_fingerprint(Source(path=str(tmp_path / place))))
    assert prints[0] == prints[1]
    assert list(prints[0]) == ["a.jsonl", "b.jsonl"]
    assert list(source_fingerprint(Source(path=str(tmp_path / "*" / "a.jsonl")))) == ["one/a.jsonl", "two/a.jsonl"]
    assert list(source_fingerprint(Source(path=str(tmp_path / "one" / "a.jsonl")))) == ["a.jsonl"]
    write(tmp_path / "two" / "b.jsonl", simple_rows(3))
    changed = source_fingerprint(Source(path=str(tmp_path / "two")))
    assert [changed[name] == prints[0][name] for name in changed] == [True, False]


# ---- the hub, offline: a folder stands for a data set ----------------------------------------------------------------


@pytest.fixture
def hub_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "tiny-preferences"
    folder.mkdir()
    write(folder / "train.jsonl", [helpsteer_row(score, annotator(score)) for score in (-2, 0, 3)])
    write(folder / "validation.jsonl", [helpsteer_row(1, annotator(1))])
    return folder


def test_a_hub_data_set_is_streamed_by_split(hub_folder: Path) -> None:
    source = Source(path=f"hub:{hub_folder}", format="helpsteer3")
    items = list(read_source(source, "rationale", 0))
    assert reasons(items) == {"kept": 2, "tie": 1}
    assert isinstance(items[0], RationalePair)
    assert items[0].pair.source == "tiny-preferences"
    assert GRAM_R2.check_rationale(items[0].rationale, items[0].label) is None
    assert isinstance(items[1], Dropped)
    assert items[1].where == f"hub:{hub_folder}:2"
    validation = source.model_copy(update={"split": "validation"})
    assert reasons(read_source(validation, "rationale", 0)) == {"kept": 1}
    assert reasons(read_source(source.model_copy(update={"limit": 1}), "rationale", 0)) == {"kept": 1}
    with pytest.raises(SourceError, match="cannot be opened with subset=None, split='test'"):
        list(read_source(source.model_copy(update={"split": "test"}), "rationale", 0))


def test_the_fingerprint_of_a_hub_data_set_is_its_coordinates() -> None:
    source = Source(path="hub:owner/name", subset="preference", split="validation", revision="abc")
    assert source_fingerprint(source) == {
        "hub": "owner/name",
        "subset": "preference",
        "split": "validation",
        "revision": "abc",
    }
    assert source_files(source) == []
