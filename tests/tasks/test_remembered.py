"""Votes of earlier rounds on a pair: how they enter its label, and what is counted as a flip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.records import Label, flip
from tasks.model.votes import Remembered, changes_of, tally
from tests.support.voting import LETTERS, votes


def earlier(*shares: tuple[float, float], label: Label | None = "A") -> dict[str, Any]:
    return {"earlier": [{"round": i, "A": a, "B": b, "label": label} for i, (a, b) in enumerate(shares, start=1)]}


@pytest.mark.parametrize(
    ("ab", "ba", "row", "weight", "label", "confidence"),
    [
        ("AAAA", "AABB", earlier((0.25, 0.75)), 0.0, "A", 0.75),
        ("AAAA", "AABB", {}, 0.5, "A", 0.75),
        ("AAAA", "AABB", earlier((0.25, 0.75)), 0.4, "A", 0.55),
        ("AAAA", "AABB", earlier((0.25, 0.75)), 0.5, None, 0.0),
        ("AAAA", "AABB", earlier((0.25, 0.75)), 0.6, "B", 0.55),
        ("AAAA", "AABB", earlier((0.25, 0.75), (0.75, 0.25)), 0.5, "A", 0.625),
        # Votes that could not be read are for neither, then and now.
        ("AAAA", "A---", earlier((0.5, 0.0)), 0.5, "A", 0.5625),
        ("----", "----", earlier((1.0, 0.0)), 0.5, "A", 0.5),
        # As a float, 0.7 × 0.75 + 0.3 × 0.75 is below 0.75; and thirds do not add up to equal shares.
        ("AAAA", "AABB", earlier((0.75, 0.25)), 0.3, "A", 0.75),
        ("AAB", "ABB", earlier((2 / 3, 1 / 3), (1 / 6, 5 / 6), (4 / 6, 2 / 6)), 0.3, None, 0.0),
    ],
)
def test_shares_of_earlier_rounds_enter_label_and_confidence(
    ab: str, ba: str, row: Mapping[str, Any], weight: float, label: Label | None, confidence: float
) -> None:
    counted = tally(votes(ab, ba), Remembered.of(row, weight))
    assert (counted.label, counted.confidence) == (label, confidence)
    assert (counted.for_a, counted.for_b) == ((ab + ba).count("A"), (ab + ba).count("B"))


def test_the_orders_of_the_votes_now_agree_only_on_the_label_with_memory() -> None:
    remembered = Remembered(0.75, 0.0, 1.0)
    assert tally(votes("AAAB", "AAAB")).orders_agree
    assert (tally(votes("AAAB", "AAAB"), remembered).label, tally(votes("AAAB", "AAAB"), remembered).orders_agree) == (
        "B",
        False,
    )


SHARES = st.lists(st.integers(0, 8).map(lambda n: (n / 8, (8 - n) / 8)), min_size=1, max_size=3)


@given(LETTERS, SHARES, st.sampled_from([0.1, 0.3, 0.5, 0.9]))
def test_the_label_of_a_swapped_pair_is_the_flipped_label(
    letters: tuple[str, str], shares: list[tuple[float, float]], weight: float
) -> None:
    turned = [text.translate(str.maketrans("AB", "BA")) for text in letters]
    one = tally(votes(*letters), Remembered.of(earlier(*shares), weight))
    other = tally(votes(*turned), Remembered.of(earlier(*[(b, a) for a, b in shares]), weight))
    assert other.label == (one.label and flip(one.label))
    assert (other.confidence, other.orders_agree) == (one.confidence, one.orders_agree)
    assert 0 <= one.confidence <= 1


@pytest.mark.parametrize(
    ("row", "ab", "label", "expected"),
    [
        ({}, "AA", "A", []),
        (earlier((0.75, 0.25)), "AA", "A", ["pairs"]),
        (earlier((0.75, 0.25)), "BB", "A", ["pairs", "majority_flips"]),
        (earlier((0.75, 0.25)), "BB", "B", ["pairs", "flips", "majority_flips"]),
        # Held against the round before, not against the first.
        (earlier((0.25, 0.75), (0.75, 0.25)), "AA", "A", ["pairs"]),
        # A tie is no other label.
        (earlier((0.75, 0.25)), "AB", None, ["pairs"]),
        (earlier((0.5, 0.5), label=None), "AA", "A", ["pairs"]),
    ],
)
def test_what_is_counted_as_a_flip(
    row: Mapping[str, Any], ab: str, label: Label | None, expected: Sequence[str]
) -> None:
    assert changes_of(row, votes(ab, ab), label) == expected
