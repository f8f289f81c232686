"""What `gram-r2 init` takes given rationales for: which response they argue for, and what it makes of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from data.files import write_jsonl
from data.records import Label
from flows.config.parameters import SelfTrainConfig
from flows.starting.columns import guess_columns
from flows.starting.conclusions import argues_for
from flows.starting.files import find
from tests.flows.cli.test_init import JUDGE, MODELS, loaded, run
from tests.flows.cli.test_init_columns import FIRST, OWN, PROMPTS, SECOND, N, rows

NUMBERS: Mapping[str, Label] = {"1": "A", "2": "B"}


@pytest.mark.parametrize(
    "text",
    [
        "Response B is better formatted and a bit friendlier. However, only Response A gives the right sum.",
        "Response B is better written",
        "Response B is better at sums.",
        "I prefer Response B's tone.",
        "The rejected response is better formatted, but wrong. B is better structured.",
        "It is unclear if Response A is better. I went with B.",
        "It is unclear that A is better.",
        "Whether A is better depends on taste.",
        "If one likes brevity, A is better.",
        "Although Response A is better, I went with B.",
        "Some may say Response A is better. I disagree.",
        "Vitamin A is better absorbed with fat. Vitamin A is better.",
        "Response 1 chose option B, which is right: option B is better.",
        "Response A is not better.",
        "Response 1.5 is better than answer 3.",
    ],
)
def test_what_is_better_in_one_thing_or_in_others_eyes_is_not_argued_for(text: str) -> None:
    assert argues_for(text, NUMBERS) is None


@pytest.mark.parametrize(
    "text",
    [
        "Response A is clearly better: it says more.",
        "Response B is better written, but Response A is better.",
        "Although B is friendlier, Response A is better because it asks if B is.",
        "B does not answer, so A is better.",
        "I think that A is better overall.",
        "A is the better answer to it.",
        "The better response is **A**.",
        "I prefer A.",
        "A is superior to B.",
        "The first one wins.",
        "Answer 2 is worse. Answer 1 is better.",
        "Response #1 is better than response #2.",
        "I prefer model_a.",
        "So assistant_1 is better.",
        "Model-1 is better.",
        "<think> B is shorter. </think><answer>A</answer>",
        "<think> B is shorter. </think> A is better.",
    ],
)
def test_what_is_called_better_is_argued_for(text: str) -> None:
    assert argues_for(text, NUMBERS) == "A"


def argued(path: Path, rationales: Sequence[str], labels: str = "AB") -> str:
    """A file of 20 records with these labels in turn, each with one of the rationales, in turn too."""
    rows = [{"prompt": f"{i}?", "response_a": "Yes.", "response_b": "No.", "label": labels[i % 2]} for i in range(20)]
    write_jsonl(path, [{**row, "rationale": rationales[i % len(rationales)]} for i, row in enumerate(rows)])
    return str(path)


def test_reversed_labels_are_asked_about_where_the_rationales_are_read_and_can_be_said(tmp_path: Path) -> None:
    pairs = argued(tmp_path / "pairs.jsonl", ["So A is better.", "So B is better."], labels="BA")
    said = run(str(tmp_path / "own"), "--labeled", pairs, *MODELS)
    assert said.exit_code == 2
    assert "say what they mean with --columns label=COLUMN, label_a=VALUE and label_b=VALUE" in said.stderr
    columns = ("--columns", "label=label", "--columns", "label_a=B", "--columns", "label_b=A")
    assert run(str(tmp_path / "own"), "--labeled", pairs, *columns, *MODELS).exit_code == 0
    said = run(str(tmp_path / "two"), "--labeled", pairs, *columns[2:], *MODELS)
    assert "no file is read with a label column: add label=COLUMN" in said.stderr
    for flow in ("gram", "benchmark"):
        given = ("--labeled", pairs, "--judge", JUDGE, "--gpus", "0", "--flow", flow)
        assert run(str(tmp_path / flow), *given).exit_code == 0


@pytest.mark.parametrize("numbers", ["12", "01"])
def test_rationales_that_name_responses_by_number_are_checked(tmp_path: Path, numbers: str) -> None:
    rows = [
        {"question": f"{i}?", f"answer_{numbers[0]}": "Yes.", f"answer_{numbers[1]}": "No.",
         "winner": f"answer_{numbers[i % 2]}", "why": f"Answer {numbers[(i + (i < 4)) % 2]} is better."} for i in range(20)
    ]  # fmt: skip
    write_jsonl(tmp_path / "pairs.jsonl", rows)
    said = run(str(tmp_path / "own"), "--labeled", str(tmp_path / "pairs.jsonl"), *MODELS)
    assert "4 that conclude for the other response were left out" in " ".join(said.output.split())


HEADED = "Feedback:\nBoth are short.\n\nComparision:\nOne is right.\n\nConclusion:\nResponse {} is better."


@pytest.mark.parametrize(
    ("texts", "copied"),
    [
        (["It is right. So {} is better."], None),
        ([HEADED], None),
        ([HEADED, HEADED, HEADED, "It is right."], None),
        (["It is right. So {} is better.", "It is right"], ["It is right. So A is better.", "It is right. So B is better."]),
        (["<think> It is right. </think><answer>{}</answer>"], ["It is right. So A is better.", "It is right. So B is better."]),
        (["<think>\n" + HEADED + "\n</think>\n<answer>\n{}\n</answer>"], [HEADED.format("A"), HEADED.format("B")]),
        (["It is right.", HEADED], ["It is right. So A is better.", HEADED.format("B") + " So B is better."]),
    ],
)  # fmt: skip
def test_a_rationale_in_the_right_form_does_not_make_the_others_useless(
    tmp_path: Path, texts: list[str], copied: list[str] | None
) -> None:
    pairs = argued(tmp_path / "pairs.jsonl", [text.replace("{}", "AB"[i % 2]) for i, text in enumerate(texts * 2)])
    assert run(str(tmp_path / "own"), "--labeled", pairs, *MODELS).exit_code == 0
    config = loaded(tmp_path / "own")
    assert isinstance(config, SelfTrainConfig)
    assert config.models.judge_prompt == ("gram-r2" if HEADED in texts[0] else "compact")
    path = Path(config.data.rationale[0].path)
    assert (path.parent.name == "prepared") is (copied is not None)
    if copied is not None:
        assert [json.loads(line)["rationale"] for line in path.read_text().splitlines()] == copied * 10


@pytest.mark.parametrize(
    ("name", "value", "is_one"),
    [
        ("reason", ["accuracy", "more helpful"], False),
        ("reasoning_effort", "high", False),
        ("feedback_source", [f"Annotator number {i}" for i in range(N)], False),
        ("comment_id", [f"c-{i}" for i in range(N)], False),
        ("reason", [f"Sum {i} is right" for i in range(N)], True),
        ("feedback", "It is right.", True),
        ("model_feedback", [f"It says {i} more." for i in range(N)], True),
    ],
)
def test_a_code_is_no_rationale(tmp_path: Path, name: str, value: object, is_one: bool) -> None:
    own = guess_columns(rows(**OWN, better=[1, 2], **{name: value}))
    assert (own.columns.get("rationale") == name, own.complete) == (is_one, True)
    write_jsonl(tmp_path / "a.jsonl", rows(prompt=PROMPTS, chosen=FIRST, rejected=SECOND, **{name: value}))
    source = find(str(tmp_path / "a.jsonl"), labeled=True).source
    assert source.format == ("columns" if is_one else "chosen-rejected")


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({}, "no column has rationales: name it with --columns rationale=COLUMN"),
        ({"critique": "Response A is right."}, "no rationale can be used; the first: "),
    ],
)
def test_a_file_given_for_its_rationales_must_have_some(tmp_path: Path, row: dict[str, str], why: str) -> None:
    path = tmp_path / "argued.jsonl"
    write_jsonl(path, [{"prompt": f"{i}?", "chosen": "Yes.", "rejected": "No.", **row} for i in range(8)])
    labeled = argued(tmp_path / "pairs.jsonl", [""])
    said = run(str(tmp_path / "own"), "--labeled", labeled, "--rationale", str(path), *MODELS)
    assert (said.exit_code, f"{path}: {why}" in said.stderr) == (2, True)
    assert ("no rationale 8 pairs; the first: argued.jsonl:1: " in " ".join(said.output.split())) is bool(row)
