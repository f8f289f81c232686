"""What two responses' replies come to as a reward: a reply without a verdict counts for nothing."""

from __future__ import annotations

from typing import Literal

import pytest

from tasks.model.judging import JudgeAnswer
from tasks.rank.results import Judged, compare_answers
from tasks.reward.judging import Compared

WON, LOST, TIE = 0, 1, None
Winner = Literal[0, 1] | None


def verdict(order: int, winner: Winner) -> Judged:
    shown = "tie" if winner is None else "A" if winner == order else "B"
    return Judged(order, winner, JudgeAnswer(shown))  # type: ignore[arg-type]


def null(order: int, reason: str, failed: bool = False) -> Judged:
    return Judged(order, None, JudgeAnswer(None, malformed=reason, failed=failed))


def compared(*answers: Judged) -> Compared:
    return Compared(compare_answers(answers), tokens=0)


@pytest.mark.parametrize(
    ("answers", "orders", "share", "reason"),
    [
        ([verdict(0, WON), verdict(1, LOST)], (1.0, 0.0), 0.5, None),
        ([verdict(0, WON), verdict(0, WON), verdict(1, WON), null(1, "no_answer")], (1.0, 1.0), 1.0, None),
        ([verdict(0, WON), verdict(0, LOST), null(0, "cut_off"), verdict(1, WON)], (0.5, 1.0), 0.75, None),
        ([verdict(0, WON), null(1, "no_answer")], (1.0, None), None, "no_answer"),
        ([null(0, "no_answer"), null(1, "cut_off")], (None, None), None, "no_answer"),
        ([null(0, "no_answer"), null(1, "deadline", failed=True)], (None, None), None, "deadline"),
    ],
)
def test_a_reply_without_a_verdict_is_not_half_a_win(
    answers: list[Judged], orders: tuple[float | None, ...], share: float | None, reason: str | None
) -> None:
    found = compared(*answers)
    assert (found.comparison.orders, found.share, found.reason) == (orders, share, reason)
