"""HelpSteer3's rows and GRAM's training files: what a row says, and what is said of one that is not as its format has it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from data.records import Message, PreferencePair, ResponsePair
from data.sources.formats.helpsteer3 import name_by_position
from data.sources.formats.rationales import name_by_label, names_positions, rationale_of
from data.sources.sources import (
    SourceError,
)
from prompts.gram import GRAM, GRAM_CARD
from prompts.judge import GRAM_R2, join_headings
from tests.support.sources import (
    annotator,
    helpsteer_row,
    read,
    reasons,
)

# ---- HelpSteer3 ------------------------------------------------------------------------------------------------------


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


def test_a_heading_in_a_text_is_found_and_many_blank_lines_take_no_time() -> None:
    begin = time.perf_counter()
    assert rationale_of("Good.", "Bad.", "One." + "\n" * 40_000 + "Other.", "A") is not None
    assert time.perf_counter() - begin < 3
    assert rationale_of("Good.", "Bad.", "One.\n\n \t\r\u2003Conclusion: \n\nOther.", "A") is None


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


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("The chosen response is right; the rejected one is not.", "Response B is right; Response A is not."),
        ("Rejected answers bore. CHOSEN COMPLETION", "Rejected answers bore. Response B"),
        ("I have chosen well.", "I have chosen well."),
    ],
)
def test_name_by_label(text: str, named: str) -> None:
    assert name_by_label(text, "B") == named


@pytest.mark.parametrize(
    ("text", "by_position"),
    [
        ("Response A is better.", True),
        ("assistant b's tone", True),
        ("response b cites its source, whereas it has none", True),
        ("whereas response a does not.", True),
        ("I prefer response a over the other.", True),
        ("response a completes the story", True),
        ("answer a) is right", True),
        ("Output (b) is better.", True),
        ('Answer "1" is right.', True),
        ("responses a and b agree", True),
        ("The 2nd is better; so is the 2nd one.", True),
        ("The first of the two is better.", True),
        ("the former's tone", True),
        ("The second's tone", True),
        ("`A` is better.", True),
        ("Assistant B's tone", True),
        ("answer #2 and Model 1", True),
        ("The second response is short.", True),
        ("the former answer", True),
        ("A is more accurate; B invents a source.", True),
        ("A names its source.", True),
        ("(A) cites its source.", True),
        ("It is worse than A: too long.", True),
        ("The winner is **A**", True),
        ("Here A makes two mistakes.", True),
        ("Only B does.", True),
        ("Option 1 is right.", True),
        ("SOLUTION 2 has a bug.", True),
        ("Responses 1 and 2 agree.", True),
        ("Assistant-A is right.", True),
        ("response_b is right.", True),
        ("Response one is right.", True),
        ("#1 is better.", True),
        ("The first is clearer than the second.", True),
        ("I prefer the latter.", True),
        ("The second one is short.", True),
        ("A good answer cites its sources. A concise class.", False),
        ("It should name Vitamin B and vitamin A, not hepatitis B.", False),
        ("The first sentence is wrong, and the second step too. A first draft.", False),
        ("It quotes A Tale of Two Cities and Susan B. Anthony, in B minor.", False),
        ("It answers one question in two steps: step 1 and part B.", False),
        ("A/B tests, R&B and the U.S.A. are explained.", False),
        ("An answer a child knows. Response 1.5 s. Two answers.", False),
        ("It is a response a user wants, which makes an answer a must.", False),
        ("The first of the two sentences. The 2nd draft. Matrix `A`. A response (2 lines).", False),
        ("The chosen response is short.", False),
    ],
)
def test_names_positions(text: str, by_position: bool) -> None:
    assert names_positions(text) is by_position


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
        SourceError, match=r"'output': must contain the two answers .*, got a text that begins 'Response A: a'"
    ):
        read(tmp_path, [{"instruction": question, "output": "Response A: a"}], "pair", format="gram-pre-training")
    quoted = gram_output("I end with [The End of Assistant A's Answer] too", "b")
    with pytest.raises(SourceError, match=r"contains \[The End of Assistant A's Answer\] more than once"):
        read(tmp_path, [{"instruction": question, "output": quoted}], "pair", format="gram-pre-training")
    with pytest.raises(SourceError, match=r"""'output': must be "A" or "B", got str 'C'"""):
        read(tmp_path, [{"instruction": question + good, "output": "C"}], "preference", format="gram-fine-tuning")
    empty = {"instruction": "[User Question]\n\n\n", "output": good}
    assert reasons(read(tmp_path, [empty], "pair", format="gram-pre-training")) == {"empty_prompt": 1}
