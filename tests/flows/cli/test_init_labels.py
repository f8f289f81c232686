"""What `gram-r2 init` takes a label's name and values for: never a guess where they can be read in two ways."""

from __future__ import annotations

import pytest

from flows.starting.columns import guess_columns
from tests.flows.cli.test_init_columns import FIRST, PROMPTS, SECOND, rows


@pytest.mark.parametrize(
    ("name", "is_about_a"),
    [
        ("preferred_by_a_human", False),
        ("is_a_preferred_text", False),
        ("a_human_preferred", False),
        ("a_is_better", True),
        ("better_a", True),
        ("is_summary_a_better", True),
        ("model_a_wins", True),
    ],
)
def test_an_article_in_a_name_is_no_side(name: str, is_about_a: bool) -> None:
    guess = guess_columns(
        rows(prompt=PROMPTS, summary_a=FIRST, summary_b=SECOND, **{name: [True, False]}), {"label": [name]}
    )
    assert (guess.columns.get("label_a"), guess.unclear) == (([True], []) if is_about_a else (None, [True, False]))


@pytest.mark.parametrize(
    "value", ["A (tie-break)", "B (no tie)", "2: equal but for style", "not equal", "the first of both"]
)
def test_a_value_with_a_side_or_a_negation_is_no_tie(value: str) -> None:
    labels = ["A", "B", value, "tie (both bad)", "neither one is better"]
    guess = guess_columns(rows(prompt=PROMPTS, summary_a=FIRST, summary_b=SECOND, winner=labels))
    assert guess.unclear == [value]
    assert guess.columns["label_tie"] == ["tie (both bad)", "neither one is better"]


@pytest.mark.parametrize(
    ("names", "values"),
    [
        (("annotator_1_winner", "annotator_2_winner"), [0, 1]),
        (("first_annotator_winner", "second_annotator_winner"), [0, 1]),
        (("preferred_by_rater_a", "preferred_by_rater_b"), [0, 1]),
        (("judge_1_score", "judge_2_score"), [3, 5, 4]),
        (("gpt4_1_rating", "gpt4_2_rating"), [3, 5, 4]),
    ],
)
def test_numbers_of_annotators_are_no_sides(names: tuple[str, str], values: list[int]) -> None:
    marks = {name: values[i:] + values[:i] for i, name in enumerate(names)}
    guess = guess_columns(rows(prompt=PROMPTS, response_1=FIRST, response_2=SECOND, **marks))
    assert guess.columns == {"prompt": "prompt", "response_a": "response_1", "response_b": "response_2"}
    assert [missing.keys for missing in guess.missing] == [("label",)]


@pytest.mark.parametrize(
    "name", ["annotator_1_preferred", "preferred_by_human_1", "first_rater_chosen", "preferred_v2", "is_better_than_2"]
)
def test_a_number_of_something_else_in_a_name_is_no_side(name: str) -> None:
    guess = guess_columns(
        rows(prompt=PROMPTS, response_1=FIRST, response_2=SECOND, **{name: [0, 1]}), {"label": [name]}
    )
    assert guess.unclear == [0, 1]


@pytest.mark.parametrize("name", ["response_1_human_score", "human_score_1", "1_score"])
def test_scores_that_a_person_gave_each_response_are_taken(name: str) -> None:
    columns = {name: [3, 5, 4], name.replace("1", "2"): [4, 1, 2]}
    guess = guess_columns(rows(prompt=PROMPTS, response_1=FIRST, response_2=SECOND, **columns))
    assert (guess.columns["score_a"], guess.columns["score_b"]) == tuple(columns)
