"""Votes on a pair, and what they come to: majority, confidence, agreement of the orders."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from data.records import flip
from data.world import taste
from tasks.model.judging import JudgeQuery
from tasks.model.votes import Tally, read_votes, tally
from tasks.model.voting import verdict_on
from tasks.settings import LabelSettings
from tests.support.voting import LETTERS, votes

ASKING = JudgeQuery("compact", 64, 128)


# ---- votes ------------------------------------------------------------------------------------------------------------


def said(text: str, finished: bool = True) -> dict[str, Any]:
    return {"text": text, "finished": finished, "n_tokens": len(text)}


def reply(verdict: str) -> dict[str, Any]:
    return said(f"<think> z </think><answer>{verdict}</answer>")


def test_votes_are_in_terms_of_the_pair_as_it_is_whichever_order_was_shown() -> None:
    votes = read_votes(
        ASKING,
        [
            {"name": "ab", "seed": 10, "completions": [reply("A"), reply("B"), said("A")]},
            {"name": "ba", "seed": 70, "completions": [reply("A"), reply("B"), said("<think> z", finished=False)]},
        ],
    )
    assert [(v.order, v.seed, v.verdict, v.malformed) for v in votes] == [
        ("ab", 10, "A", None),
        ("ab", 11, "B", None),
        ("ab", 12, None, "no_think_open"),
        ("ba", 70, "B", None),
        ("ba", 71, "A", None),
        ("ba", 72, None, "truncated"),
    ]


def test_a_cut_off_reply_is_no_vote_even_where_it_reads_as_one() -> None:
    [vote] = read_votes(ASKING, [{"name": "ab", "seed": 0, "completions": [{**reply("A"), "finished": False}]}])
    assert (vote.verdict, vote.malformed) == (None, "truncated")


def test_a_vote_that_quotes_what_is_not_there_counts_only_where_it_may() -> None:
    pair = taste.draw_pairs(1, 0)[0].pair
    there, elsewhere = (
        said(f"<think> « {word} » is better. </think><answer>A</answer>")
        for word in (pair.response_b.split()[0], "zzz")
    )
    requests = [{"name": order, "seed": 0, "completions": [there, elsewhere]} for order in ("ab", "ba")]
    assert [vote.verdict for vote in read_votes(ASKING, requests)] == ["A", "A", "B", "B"]
    votes = read_votes(ASKING, requests, grounded_in=pair)
    assert [(vote.verdict, vote.malformed) for vote in votes] == [
        ("A", None),
        (None, "ungrounded_quote"),
        ("B", None),
        (None, "ungrounded_quote"),
    ]
    assert tally(votes) == Tally(None, 0.0, False, 1, 1, 2)


# ---- tally ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ab", "ba", "expected"),
    [
        ("AAAA", "AAAA", Tally("A", 1.0, True, 8, 0, 0)),
        ("BBBB", "BBBB", Tally("B", 1.0, True, 0, 8, 0)),
        ("AAAA", "AABB", Tally("A", 0.75, False, 6, 2, 0)),  # a tie in one order agrees with nothing
        ("AAAA", "ABBB", Tally("A", 0.625, False, 5, 3, 0)),
        ("AAAB", "AAAB", Tally("A", 0.75, True, 6, 2, 0)),
        ("AAAA", "BBBB", Tally(None, 0.0, False, 4, 4, 0)),
        ("AABB", "AABB", Tally(None, 0.0, False, 4, 4, 0)),
        ("AAA-", "AAA-", Tally("A", 0.75, True, 6, 0, 2)),  # nulls stay in the denominator
        ("A---", "----", Tally("A", 0.125, False, 1, 0, 7)),
        ("B---", "B---", Tally("B", 0.25, True, 0, 2, 6)),
        ("----", "----", Tally(None, 0.0, False, 0, 0, 8)),
        ("A-", "-B", Tally(None, 0.0, False, 1, 1, 2)),
    ],
)
def test_a_tally_by_hand(ab: str, ba: str, expected: Tally) -> None:
    assert tally(votes(ab, ba)) == expected


@given(LETTERS)
def test_a_tally_is_sound_and_flips_with_its_votes(letters: tuple[str, str]) -> None:
    counted = tally(votes(*letters))
    n = len(letters[0]) * 2
    assert counted.for_a + counted.for_b + counted.null == n
    assert 0 <= counted.confidence <= 1
    assert (counted.label is None) == (counted.for_a == counted.for_b)
    assert counted.confidence == (max(counted.for_a, counted.for_b) / n if counted.label else 0)
    # The same pair stored the other way round: its orders change places, and every verdict with them.
    turned = tally(votes(*(side.translate(str.maketrans("AB", "BA")) for side in reversed(letters))))
    assert turned.label == (flip(counted.label) if counted.label else None)
    assert (turned.confidence, turned.orders_agree) == (counted.confidence, counted.orders_agree)


@pytest.mark.parametrize(
    ("ab", "ba", "orders_agree", "reason"),
    [
        ("AAAA", "AAAA", True, None),
        ("AAAA", "AABB", False, None),
        ("AAAA", "AABB", True, "orders_disagree"),
        ("AAAA", "ABBB", True, "low_confidence"),
        ("AAA-", "AA--", False, "low_confidence"),
        ("AABB", "AABB", True, "tie"),
        ("A---", "B---", True, "tie"),
        ("----", "----", True, "no_valid_vote"),
    ],
)
def test_why_a_label_is_dropped(ab: str, ba: str, orders_agree: bool, reason: str | None) -> None:
    settings = LabelSettings(min_confidence=0.75, orders_agree=orders_agree)
    assert verdict_on(tally(votes(ab, ba)), settings) == reason
