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
