"""Messages as people have them: parts of text, roles under other names, and what no judge can be shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data.records import Message
from data.sources.sources import SourceError
from tests.support.sources import answer, chosen_of, read, reasons

Row = dict[str, Any]
CALL = {"type": "function", "function": {"name": "weather", "arguments": "{}"}}


def row_of(*prompt: Row) -> Row:
    return {"prompt": list(prompt), "chosen": [answer("12 °C")], "rejected": [answer("No idea")]}


def user(content: object, **more: object) -> Row:
    return {"role": "user", "content": content, **more}


def part(text: str, kind: str = "text") -> Row:
    return {"type": kind, "text": text}


@pytest.mark.parametrize(
    ("role", "meant"),
    [
        ("User", "user"),
        ("HUMAN", "user"),
        ("Assistant", "assistant"),
        ("model", "assistant"),
        ("GPT", "assistant"),
        ("developer", "system"),
        ("System", "system"),
    ],
)
def test_roles_under_other_names(tmp_path: Path, role: str, meant: str) -> None:
    turns = {"user": [], "assistant": [user("Hi")], "system": []}[meant]
    after = [] if meant == "user" else [user("Bye")]
    [item] = read(tmp_path, [row_of(*turns, {"role": role, "content": "x"}, *after)], format="chosen-rejected")
    assert Message(meant, "x") in item.pair.prompt  # type: ignore[arg-type]


def test_the_answer_of_a_model(tmp_path: Path) -> None:
    row = {"prompt": "Why?", "chosen": [{"role": "model", "content": "a"}], "rejected": [{"from": "Gpt", "value": "b"}]}
    [item] = read(tmp_path, [row], format="chosen-rejected")
    assert chosen_of(item) == "a"


def test_a_list_of_text_parts_is_text(tmp_path: Path) -> None:
    rows = [
        {**row_of(user([part("Why?")])), "chosen": [answer([part("a")])], "rejected": [answer([part("b")])]},  # type: ignore[arg-type]
        row_of(user([part("One.", "input_text"), {"type": "text", "text": "Two.", "image_url": None}])),
    ]
    one, two = read(tmp_path, rows, format="chosen-rejected")
    assert one.pair.prompt == (Message("user", "Why?"),)
    assert chosen_of(one) == "a"
    assert two.pair.prompt == (Message("user", "One.\nTwo."),)


@pytest.mark.parametrize(
    ("row", "reason", "detail"),
    [
        (
            row_of(user([part("What is it?"), {"type": "image_url", "image_url": {"url": "x"}}])),
            "not_text",
            "field 'prompt[0].content[1]': is a part of type 'image_url', but a judge is shown text only",
        ),
        (row_of(user([{"type": "input_audio", "input_audio": {}}])), "not_text", "field 'prompt[0].content[0]': "),
        (row_of(user("What is it?", images=["x.png"])), "not_text", "field 'prompt[0].images': is not empty"),
        (
            row_of(user("Weather?"), {"role": "assistant", "content": None, "tool_calls": [CALL]}, user("Well?")),
            "tools",
            "field 'prompt[1].tool_calls': calls a tool, but a judge's prompt has no form for tools",
        ),
        (
            row_of(user("Weather?"), {"role": "Tool", "content": "12"}, user("Well?")),
            "tools",
            "field 'prompt[1].role': is a turn of 'Tool'",
        ),
        (row_of(user("?"), {"from": "observation", "value": "12"}), "tools", "field 'prompt[1].from': "),
        (row_of(user("?"), {"from": "function_call", "value": "{}"}), "tools", "field 'prompt[1].from': "),
        (row_of(user("?"), {"role": "function", "content": "12"}), "tools", "field 'prompt[1].role': "),
        (row_of(user([{"type": "tool_result", "content": "12"}])), "tools", "field 'prompt[0].content[0]': "),
        (
            {**row_of(user("?")), "chosen": [{"role": "assistant", "content": None, "tool_calls": [CALL]}]},
            "tools",
            "field 'chosen[0].tool_calls': ",
        ),
    ],
)
def test_what_no_judge_can_be_shown_is_dropped_with_its_reason(
    tmp_path: Path, row: Row, reason: str, detail: str
) -> None:
    [item] = read(tmp_path, [row], format="chosen-rejected")
    assert (item.reason, item.detail[: len(detail)]) == (reason, detail)


def test_columns_of_parquet_that_a_message_does_not_fill_mean_nothing(tmp_path: Path) -> None:
    row = row_of(user("Why?", tool_calls=None, images=[]), answer("So?") | {"tool_calls": []}, user("Well?"))
    assert reasons(read(tmp_path, [row], format="chosen-rejected")) == {"kept": 1}


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        ({"role": "narrator", "content": "x"}, r"'prompt\[0\].role': must be one of system, developer, .*'narrator'"),
        ({"role": "assistant", "content": None}, r"'prompt\[0\].content': must be a string, got nothing"),
        (user([]), r"'prompt\[0\].content': must be a string, got list"),
        (user(["x"]), r"'prompt\[0\].content\[0\]': must be a part with a type, such as text, got str 'x'"),
        (user([{"text": "x"}]), r"'prompt\[0\].content\[0\]': must be a part with a type"),
        (user([part("x") | {"text": None}]), r"'prompt\[0\].content\[0\].text': must be a string, got nothing"),
    ],
)
def test_messages_that_are_none_are_malformed(tmp_path: Path, turn: Row, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read(tmp_path, [row_of(turn, user("Well?"))], format="chosen-rejected")
