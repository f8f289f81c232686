"""Rationales and proofs: there and back, and what is checked of them."""

from __future__ import annotations

import json
import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data.records import Label
from data.sources.formats.helpsteer3 import name_by_position
from prompts.judge import COMPACT, GRAM_R2, HEADINGS, conclusion, join_headings, split_headings
from prompts.prove import PROVE, ProverPrompt
from tests.conftest import real_file
from tests.support.prompts import LABELS, PROVERS

# ---- rationale ↔ proof -----------------------------------------------------------------------------------------------


@PROVERS
@given(rationale=st.text())
def test_a_proof_turns_back_into_its_rationale(prover: ProverPrompt, rationale: str) -> None:
    assert prover.to_rationale(prover.to_proof(rationale)) == rationale
    # Even where the rationale opens as proofs do.
    twice = prover.to_proof(prover.to_proof(rationale))
    assert prover.to_rationale(twice) == prover.to_proof(rationale)


@PROVERS
@given(text=st.text())
@example(text="because a")
@example(text="Here is my justification for why the selected response is the better one.")
def test_a_text_without_the_opening_is_no_proof(prover: ProverPrompt, text: str) -> None:
    rationale = prover.to_rationale(text)
    assert (rationale is None) == (not text.startswith(prover.opening))
    assert rationale is None or prover.to_proof(rationale) == text


def real_rationales() -> list[str]:
    texts = [
        str(row["gpt_reason"]) for row in json.loads(real_file("pandalm/gpt-3.5-turbo-testset-v1.json").read_text())
    ]
    for name in ("Adversarial_GPTInst", "Adversarial_GPTOut", "Adversarial_Manual", "Adversarial_Neighbor", "Natural"):
        for row in json.loads(real_file(f"llmbar/results_GPT-4_CoT/{name}.json").read_text()):
            texts += [order["completion"][0] for orders in row["results"] for order in orders.values()]
    return [text for text in texts if text.strip()]


def test_real_rationales_come_through_proof_target_and_checks() -> None:
    texts = real_rationales()
    assert len(texts) > 1500
    for text in texts:
        assert PROVE.to_rationale(PROVE.to_proof(text)) == text
        whole = join_headings(text, text, "Response B is better.")
        judgement = GRAM_R2.parse(GRAM_R2.target(whole, "B"))
        assert (judgement.verdict, judgement.rationale) == ("B", whole)
        assert GRAM_R2.check_rationale(whole, "B") is None
        assert GRAM_R2.check_rationale(whole, "A") == "concludes_for_other"


def test_real_conclusions_are_read_as_their_writers_meant_them() -> None:
    """Of the reasons that name a better response in words we read, all but two name the one that their row names.

    Both (rows where the text says B and the row says 1) are contradictions of the data set's own.
    """
    read = wrong = 0
    for row in json.loads(real_file("pandalm/gpt-3.5-turbo-testset-v1.json").read_text()):
        text = name_by_position(str(row["gpt_reason"]))
        concluded = conclusion(join_headings("f", "c", text), "headings") if text.strip() else None
        read += concluded is not None
        wrong += concluded is not None and concluded != {"1": "A", "2": "B"}.get(str(row["gpt_result"]))
    assert (read, wrong) == (254, 2)


# ---- the checks on a rationale ---------------------------------------------------------------------------------------


F, C, Z = "Feedback:\nA is terse.\n\n", "Comparision:\nTerse wins.\n\n", "Conclusion:\nResponse A is better."


@pytest.mark.parametrize(
    ("rationale", "reason"),
    [
        (F + C + Z, None),
        (f"\n{F}{C}{Z}\n", None),
        ("Feedback:\nf\nComparision:\nc\nConclusion:\nResponse A is better.", None),
        ("Feedback:\n\n f\n g\n\n\nComparision:\nc\n\n \nConclusion:\n\nResponse A is better.", None),
        (F + "Comparision:\nConclusion: B, one might think.\n\n" + Z, None),
        ("", "empty"),
        (" \n", "empty"),
        ("Response A is better.", "missing_headings"),
        (C + Z, "missing_headings"),
        (F + Z, "missing_headings"),
        (F + C, "missing_headings"),
        (F + F + C + Z, "missing_headings"),
        (F + C + C + Z, "missing_headings"),
        (F + C + Z + "\n\n" + Z, "missing_headings"),
        (C + F + Z, "missing_headings"),
        (F + Z + "\n\n" + C, "missing_headings"),
        (Z + "\n\n" + F + C, "missing_headings"),
        ("Feedback:\n\n" + C + Z, "missing_headings"),
        (F + "Comparision:\n\n" + Z, "missing_headings"),
        (F + C + "Conclusion:\n \n", "missing_headings"),
        ("Sure.\n" + F + C + Z, "missing_headings"),
        (F.replace("Feedback:\n", "Feedback: ") + C + Z, "missing_headings"),
        (F + C.replace("Comparision", "Comparison") + Z, "missing_headings"),
        (F.replace("Feedback", "feedback") + C + Z, "missing_headings"),
        (F + C + Z + "\n<answer>A</answer>", "contains_reply_tags"),
        (F.replace("terse", "<think>") + C + Z, "contains_reply_tags"),
    ],
)
def test_a_rationale_has_each_heading_once_in_order_with_text_under_it(rationale: str, reason: str | None) -> None:
    assert GRAM_R2.check_rationale(rationale, "A") == reason


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("Response A is better.", None),
        ("Response A is better than Response B.", None),
        ("Response A is the better response.", None),
        ("Response A is clearly better, although Response B is good.", None),
        ("Assistant A is preferred.", None),
        ("I prefer Response A over Response B.", None),
        ("The better response is Response A.", None),
        ("Response A is better. Again: Response A is better.", None),
        ("Response B is better.", "concludes_for_other"),
        ("Response B is superior to Response A.", "concludes_for_other"),
        ("Response A is better in tone, yet Response B is better.", "no_conclusion"),
        ("Neither is better.", "no_conclusion"),
        ("Both are equally good.", "no_conclusion"),
        ("Response A is not better.", "no_conclusion"),
        ("Response A is no better than Response B.", "no_conclusion"),
        ("Response A isn't better.", "no_conclusion"),
        ("The better response is not Response A.", "no_conclusion"),
        ("Response A.", "no_conclusion"),
    ],
)
def test_a_rationale_concludes_for_its_label_and_only_for_it(said: str, reason: str | None) -> None:
    assert GRAM_R2.check_rationale(join_headings("f", "c", said), "A") == reason


@pytest.mark.parametrize(
    "said",
    [
        "Response A is clearly not better.",
        "Response A is certainly not better; I would choose Response B.",
        "Response A is less preferred.",
        "I do not prefer Response A.",
        "It is not true that Response A is better.",
    ],
)
def test_a_negated_claim_is_no_conclusion(said: str) -> None:
    assert GRAM_R2.check_rationale(join_headings("f", "c", said), "A") == "no_conclusion"


def test_a_claim_above_the_conclusion_does_not_count() -> None:
    assert GRAM_R2.check_rationale(join_headings("Response B is better.", "Response B is better.", "Both."), "B") == (
        "no_conclusion"
    )


@pytest.mark.parametrize(
    ("rationale", "reason"),
    [
        ("a b c. So A is better.", None),
        ("So A is better.", None),
        ("a b c. So A is better. \n", None),
        ("So B is better. No. So A is better.", None),
        ("a b c. So B is better.", "concludes_for_other"),
        ("So A is better. So B is better.", "concludes_for_other"),
        ("a b c. So A is better", "no_conclusion"),
        ("a b c. So A is better. Or not.", "no_conclusion"),
        ("a b c. So A is not better.", "no_conclusion"),
        ("a b c. So C is better.", "no_conclusion"),
        ("a b c. Also A is better.", "no_conclusion"),
        ("  ", "empty"),
        ("</think> So A is better.", "contains_reply_tags"),
    ],
)
def test_a_compact_rationale_ends_with_its_conclusion(rationale: str, reason: str | None) -> None:
    assert COMPACT.check_rationale(rationale, "A") == reason


@given(text=st.text(min_size=1), label=LABELS)
def test_a_rationale_made_of_any_text_under_its_headings_passes_or_says_why(text: str, label: Label) -> None:
    whole = join_headings(text, "c", f"Response {label} is better.")
    clean = text.strip() and not re.search(
        r"</?(?:think|answer)>|^\s*(?:Feedback|Comparision|Conclusion):\s*$", text, re.MULTILINE
    )
    assert (GRAM_R2.check_rationale(whole, label) is None) == bool(clean)


@pytest.mark.parametrize(
    "rationale",
    [
        pytest.param(
            "Feedback:\n" + "word " * 100 + "\n\nComparision:\n" + "word " * 100 + "\n\nConclusion:\n",
            id="empty conclusion",
        ),
        pytest.param("Feedback:\n" + "\n" * 1000 + "Comparision:\nc\n\nConclusion:\n", id="blank lines"),
        pytest.param(F + C + "Conclusion:\n" + "Response A is " * 1000, id="repeated claim"),
        pytest.param("Conclusion:\nFeedback:\n" * 200, id="repeated headings"),
        pytest.param("word " * 2000, id="no headings"),
    ],
)
def test_a_degenerate_rationale_is_checked_in_no_time(rationale: str) -> None:
    started = time.process_time()
    assert GRAM_R2.check_rationale(rationale, "A") is not None
    assert time.process_time() - started < 0.25


heading_lines = st.sampled_from(
    [*(f"{name}:" for name in HEADINGS), " Feedback: ", "\tConclusion:", "Feedback", "a:", "b", "", " ", "\r"]
)


@given(st.lists(heading_lines, max_size=9))
def test_headings_are_lines_of_their_own(lines: list[str]) -> None:
    text = "\n".join(lines).strip()
    found = list(re.finditer(r"^[ \t]*(Feedback|Comparision|Conclusion):[ \t]*$", text, re.MULTILINE))
    ends = [*(match.start() for match in found[1:]), len(text)]
    parts = [text[match.end() : end].strip() for match, end in zip(found, ends, strict=False)]
    whole = tuple(match[1] for match in found) == HEADINGS and found[0].start() == 0 and all(parts)
    assert split_headings("\n".join(lines)) == (tuple(parts) if whole else None)
