"""Answers become gold labels: the order shown is undone, the majority decides, and agreement is as published."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.trust.review_answers import Answer
from tasks.trust.review_files import Destination, ReviewError
from tasks.trust.review_gold import (
    check_destination,
    gold_rows,
    in_the_run,
    krippendorff_alpha,
    merged,
    outcome,
    report,
    run_named_in,
)
from tests.support.reviewing import queue_line

QUEUE = {line["id"]: line for line in (queue_line(1), queue_line(2, "ba"), queue_line(3), queue_line(4, "ba"))}
NOW = "2026-11-26T20:00:00+00:00"


def given(number: int, answer: str, who: str = "anna", time: str | None = None) -> Answer:
    return Answer(f"demo-0123abcd-{number:04d}", who, answer, time, f"line {number}")


def rows(*answers: Answer, into: Destination = "labeled") -> list[dict[str, Any]]:
    return in_the_run(answers, QUEUE, into, NOW)


def test_an_answer_is_for_the_response_that_was_shown_first_and_the_gold_label_for_the_pair_of_the_run() -> None:
    found = gold_rows(rows(given(1, "A"), given(2, "A"), given(3, "B"), given(4, "B")), QUEUE.values())
    assert {row["id"]: row[f"response_{row['label'].lower()}"] for row in found} == {
        "p1": "first 1",
        "p2": "second 2",  # what was shown first
        "p3": "second 3",
        "p4": "first 4",
    }
    assert all(row["response_a"].startswith("first") for row in found), "as the run has them"
    assert {row["id"]: row["label"] for row in found} == {"p1": "A", "p2": "B", "p3": "B", "p4": "A"}
    assert found[1]["review"] == {
        "annotators": ["anna"],
        "answers": {"B": 1},
        "time": NOW,
        "reasons": ["near_threshold"],
        "round": 1,
    }


@pytest.mark.parametrize(
    ("answers", "result"),
    [
        (["A"], "A"),
        (["A", "B"], "no majority"),
        (["A", "A", "B"], "A"),
        (["A", "tie"], "no majority"),
        (["A", "skip"], "A"),
        (["tie", "tie", "B"], "tie"),
        (["A", "B", "tie"], "no majority"),
        (["skip", "skip"], "skip"),
        (["A", "A", "B", "B", "tie"], "no majority"),
    ],
)
def test_more_than_half_of_those_who_did_not_skip_decide(answers: list[str], result: str) -> None:
    assert outcome(answers) == result


def test_only_pairs_with_a_majority_for_a_response_get_a_label() -> None:
    said = rows(given(1, "A"), given(1, "B", "ben"), given(2, "tie"), given(3, "skip"), given(4, "A"))
    assert [row["id"] for row in gold_rows(said, QUEUE.values())] == ["p4"]
    assert report(said, QUEUE.values())[:2] == [
        "answers: 5, by 2 annotators; pairs: 4",
        "gold labels: 1 (0 A, 1 B); left out: 1 tied, 1 skipped, 1 without a majority",
    ]


def test_a_gold_label_is_for_a_response_also_if_the_run_has_exchanged_them_since() -> None:
    """As when its seed was changed between two exports: the same pair has its responses the other way round."""
    exchanged = queue_line(1, response_1="second 1", response_2="first 1") | {"id": "demo-89abcdef-0001"}
    both = {**QUEUE, exchanged["id"]: exchanged}
    said = in_the_run([given(1, "A"), Answer("demo-89abcdef-0001", "ben", "B", None, "line 2")], both, "labeled", NOW)
    for queue in ([*both.values()], [exchanged, *QUEUE.values()]):
        [row] = gold_rows(said, queue)
        assert row[f"response_{row['label'].lower()}"] == "first 1"
        assert row["review"]["answers"] == {row["label"]: 2}
        assert report(said, queue)[2].startswith("annotators agree in 1 of 1")


def test_reasons_round_and_the_judges_label_are_those_of_the_export_that_was_answered() -> None:
    later = queue_line(1, reasons=["at_random"], round=2, judge_label="B") | {"id": "demo-89abcdef-0001"}
    both = {**QUEUE, later["id"]: later}
    for item, reasons, round, agree in (
        ("demo-0123abcd-0001", ["near_threshold"], 1, "1 of 1"),
        ("demo-89abcdef-0001", ["at_random"], 2, "0 of 1"),
    ):
        answers = [Answer(item, "anna", "A", None, "line 1")]
        other = next(line["id"] for line in (QUEUE["demo-0123abcd-0001"], later) if line["id"] != item)
        answers.append(Answer(other, "ben", "skip", "2026-11-27T00:00:00+00:00", "line 2"))
        said = in_the_run(answers, both, "labeled", NOW)
        for queue in ([*both.values()], [later, *QUEUE.values()]):
            [row] = gold_rows(said, queue)
            assert (row["review"]["reasons"], row["review"]["round"]) == (reasons, round)
            assert report(said, queue)[-1].startswith(f"the judge's labels agree with the gold ones in {agree}")


# ---- several imports -------------------------------------------------------------------------------------------------------


def test_the_same_answers_once_more_change_nothing() -> None:
    once, _ = merged([], rows(given(1, "A"), given(2, "B")))
    later = in_the_run([given(2, "B"), given(1, "A")], QUEUE, "labeled", "2026-11-27T00:00:00+00:00")
    assert merged(once, later) == (once, 0)


def test_an_annotator_s_latest_answer_counts_whichever_is_imported_first() -> None:
    early, late = given(1, "A", time="2026-11-26T10:00:00+00:00"), given(1, "B", time="2026-11-26T11:00:00+00:00")
    for first, second, replaced in ((early, late, 1), (late, early, 0)):
        once, _ = merged([], rows(first))
        twice, n = merged(once, rows(second))
        assert ([row["answer"] for row in twice], n) == (["B"], replaced)
    assert len(merged(rows(given(1, "A")), rows(given(1, "B", "ben")))[0]) == 2


def test_a_pair_is_in_the_labeled_or_in_the_calibration_pairs_never_in_both() -> None:
    known = rows(given(1, "A"), given(3, "skip"), given(4, "tie"))
    check_destination(known, rows(given(1, "B", "ben"), given(2, "A")))
    check_destination(known, rows(given(3, "A"), into="calibration"))
    with pytest.raises(ReviewError, match=r"demo-0123abcd-0001 cannot join the calibration pairs: .* the labeled ones"):
        check_destination(known, rows(given(2, "A"), given(1, "A"), into="calibration"))
    with pytest.raises(ReviewError, match="demo-0123abcd-0004 cannot join the calibration pairs"):
        check_destination(known, rows(given(4, "A", "ben"), into="calibration"))


def test_answers_must_be_about_one_run_and_about_its_queues() -> None:
    assert run_named_in([given(1, "A")]) == "demo"
    with pytest.raises(ReviewError, match=r"^line 1: the id 'x' is none of a review queue"):
        run_named_in([Answer("x", "anna", "A", None, "line 1")])
    with pytest.raises(ReviewError, match=r"^line 2: is about another run than the lines before: demo, other"):
        run_named_in([given(1, "A"), Answer("other-0123abcd-0001", "anna", "A", None, "line 2")])
    with pytest.raises(ReviewError, match=r"^line 9: the id 'demo-0123abcd-0009' is in no review queue of this run"):
        rows(given(1, "A"), given(9, "A"))


# ---- agreement -------------------------------------------------------------------------------------------------------------


def columns(*observers: str) -> list[list[str]]:
    return [[value for value in unit if value != "."] for unit in zip(*observers, strict=True)]


def test_alpha_is_as_krippendorff_computes_it() -> None:
    """The examples A (binary, two observers) and C (nominal, four observers, missing values) of his paper of 2011."""
    assert krippendorff_alpha(columns("0100000000", "1110010100")) == pytest.approx(0.095, abs=0.001)
    nominal = columns("123321412...", "1233224125.3", ".3332342251.", "12332441251.")
    assert krippendorff_alpha(nominal) == pytest.approx(0.743, abs=0.001)


def test_alpha_is_not_defined_where_nothing_could_have_differed() -> None:
    assert krippendorff_alpha([["A", "A"], ["A", "A"]]) is None
    assert krippendorff_alpha([["A"], []]) is None
    assert krippendorff_alpha([["A", "A"], ["B", "B"]]) == 1.0


def test_agreement_between_annotators_and_with_the_judge_is_reported() -> None:
    said = rows(
        given(1, "A"), given(1, "A", "ben"), given(2, "B"), given(2, "skip", "ben"), given(3, "A"), given(3, "B", "ben")
    )
    _, _, between, with_judge = report(said, QUEUE.values())
    assert between.startswith(
        "annotators agree in 1 of 2 (50.0%), Krippendorff's alpha 0.00; pairs on which they differ: 1"
    )
    # The judge preferred what was shown first: so did they on pair 1, and not on pair 2.
    assert with_judge.startswith("the judge's labels agree with the gold ones in 1 of 2 (50.0%), Krippendorff's alpha ")
