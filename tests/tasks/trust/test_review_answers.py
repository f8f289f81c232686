"""What people answered, in every format that it comes in; and what is refused, in one line with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data.files import write_jsonl
from tasks.trust.review_answers import Answer, read_answers
from tasks.trust.review_files import ReviewError
from tests.support.reviewing import label_studio_export, potato_export, potato_state

ONE, TWO, THREE = (f"demo-0123abcd-000{i}" for i in (1, 2, 3))
NOON = "2026-11-26T12:00:00.500000+00:00"


def line(item: str, answer: str | None, **more: Any) -> dict[str, Any]:
    return {"id": item, "response_1": "a line\u2028separator", "answer": answer, "annotator": "anna", **more}


def test_lines_with_an_answer_are_read_and_open_ones_counted(tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    write_jsonl(
        file, [line(ONE, "A"), line(TWO, None), line(THREE, "tie", time="2026-11-26 13:00:00.5+01:00", annotator=7)]
    )
    answers, still_open = read_answers(file)
    assert answers == [
        Answer(ONE, "anna", "A", None, f"{file}, line 1"),
        Answer(THREE, "7", "tie", NOON, f"{file}, line 3"),
    ]
    assert still_open == 1


def test_who_answered_may_be_said_for_the_whole_file_but_not_over_what_a_line_says(tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    write_jsonl(file, [line(ONE, "A", annotator=None), line(TWO, "B")])
    answers, _ = read_answers(file, "ben")
    assert [one.annotator for one in answers] == ["ben", "anna"]


def test_label_studio_s_annotations_are_read_with_its_own_skip(tmp_path: Path) -> None:
    file = label_studio_export(tmp_path / "export.json", {ONE: [(1, "A"), (2, "tie")], TWO: [], THREE: [(1, "B")]})
    tasks = json.loads(file.read_text())
    tasks[2]["annotations"][0] |= {
        "was_cancelled": True,
        "result": [],
        "completed_by": {"id": 9, "email": "c@example.org"},
    }
    file.write_text(json.dumps(tasks))
    answers, still_open = read_answers(file)
    assert answers == [
        Answer(ONE, "1", "A", NOON, f"{file}, task 1"),
        Answer(ONE, "2", "tie", NOON, f"{file}, task 1"),
        Answer(THREE, "c@example.org", "skip", NOON, f"{file}, task 3"),
    ]
    assert still_open == 1


def test_potato_s_export_and_its_states_say_the_same(tmp_path: Path) -> None:
    given = {ONE: "A", TWO: "skip"}
    exported, _ = read_answers(potato_export(tmp_path / "annotations.jsonl", given))
    of_state, _ = read_answers(potato_state(tmp_path / "user_state.json", given))
    assert [(one.item, one.annotator, one.answer) for one in exported] == [(ONE, "anna", "A"), (TWO, "anna", "skip")]
    assert [(one.item, one.annotator, one.answer) for one in of_state] == [(ONE, "anna", "A"), (TWO, "anna", "skip")]
    assert {one.time for one in of_state} == {"2027-01-15T08:00:00+00:00"}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", r"holds no answers$"),
        ('{"id": "x", "answer": null}\n', "holds no answers; 1 are still open"),
        ('{"id": "x", "answer": "A", "annotator": "anna"}\n{"id": "x", "answ', "line 2: is not JSON"),
        ('{"id": "x", "answer": "A", "annotator": "anna"}\n\n"A"', "line 3: must be an object, is str"),
        (
            '{"id": "x", "answer": "a", "annotator": "anna"}',
            "line 1: the answer must be one of A, B, tie, skip, is 'a'",
        ),
        ('{"id": "x", "answer": "A"}', "line 1: does not say who answered: .* --annotator NAME"),
        ('{"id": 3, "answer": "A", "annotator": "anna"}', "line 1: has no id of a review queue"),
        ('{"id": "x", "answer": "A", "annotator": "anna", "time": "noon"}', "line 1: 'noon' is not a time"),
        ('{"prompt": "x", "chosen": "y"}', "line 1: has no field 'answer'"),
        ('[{"data": {"id": "x"},\n "annotations": [', "line 2: is not JSON"),
        ('[{"id": 1, "answer": "A", "annotator": 1}]', "task 1: has no data and annotations: .* as JSON"),
        (
            '[{"data": {"id": "x"}, "annotations": [{"completed_by": 1, "result": []}]}]',
            "task 1: .* by 1 has 0 answers",
        ),
        ('[{"data": {"id": "x"}, "annotations": [{"completed_by": 1}]}]', "task 1: is in none of the formats"),
        ('[{"data": {"id": "x"}, "annotations": [{"result": []}]}]', "task 1: .* does not say by whom"),
        ('{"instance_id": "x", "labels": {}}', "line 1: has no user_id and labels"),
        (
            '{"instance_id": "x", "user_id": "u", "labels": {"answer": {"A": "A", "B": "B"}}}',
            r"line 1: has several answers \(A, B\): run `potato repair-annotations`",
        ),
        ('{"instance_id_to_label_to_value": {"x": [["answer", "A"]]}}', "instance 'x': is in none of the formats"),
        ("\ufffe", "is not UTF-8"),
    ],
)
def test_what_is_no_answer_is_refused_with_its_place(tmp_path: Path, content: str, problem: str) -> None:
    file = tmp_path / "answers"
    file.write_bytes(content.encode("utf-16" if content == "\ufffe" else "utf-8"))
    with pytest.raises(ReviewError, match=f"^{file}.*{problem}") as refused:
        read_answers(file)
    assert "\n" not in str(refused.value)
