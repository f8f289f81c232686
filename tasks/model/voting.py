"""Votes as needed: the votes on a pair are cast in rounds of two, one in each order, until the others no longer matter.

Vote j of an order is sampled with the same seed whether or not it is cast alone, so it is the same vote either way.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from data.records import Label, flip
from tasks.model.orders import ORDERS
from tasks.model.strictness import Strictness
from tasks.model.votes import Tally, Vote
from tasks.settings import LabelSettings

_ENOUGH = 0.95
"""The probability at which "beta" stops, as in adaptive consistency (Aggarwal et al., 2023)."""


@dataclass(frozen=True)
class VotingRule:
    """When the votes on a pair end: `planned` is the most that are cast, half of them in each order.

    "all" casts them all. "exact" stops when the outcome, which is the label or why it is dropped, can no longer change;
    "beta" stops also when the majority is probably right.
    """

    voting: Literal["exact", "all", "beta"]
    planned: int
    min_confidence: float
    orders_agree: bool

    @classmethod
    def of(cls, params: Mapping[str, Any], row: Mapping[str, Any]) -> VotingRule | None:
        """The rule for a row's votes in the parameters of their requests, which name none if all votes are cast.

        None if no label of the row's domain is kept, so that none of its votes is needed.
        """
        if "voting" not in params:
            return cls("all", params["votes"], 0.0, False)
        least = Strictness.read(params["min_confidence"]).of(row)
        return None if least is None else cls(params["voting"], params["votes"], least, params["orders_agree"])


def rounds_wanted(votes: Sequence[Vote], rule: VotingRule) -> int:
    """How many more rounds to cast at once; 0 if the votes have ended.

    They are the fewest after which the votes could end, so each is also cast where rounds are cast one by one.
    """
    left = (rule.planned - len(votes)) // 2
    if rule.voting == "all" or left == 0:
        return left
    if is_settled(votes, rule):
        return 0
    total = Counter(vote.verdict for vote in votes)
    more, fewer = max(total["A"], total["B"]), min(total["A"], total["B"])
    wanted = _rounds_to_settle(more, fewer, left, rule)
    if rule.voting == "beta":
        if majority_probability(more, fewer) >= _ENOUGH:
            return 0
        wanted = next((n for n in range(1, wanted) if majority_probability(more + 2 * n, fewer) >= _ENOUGH), wanted)
    return wanted


@cache
def _rounds_to_settle(more: int, fewer: int, left: int, rule: VotingRule) -> int:
    """The fewest of `left` rounds after which the outcome can be settled; whether the orders agree is left aside.

    What settles it soonest are votes for one label, and unreadable ones if its confidence is to stay low.
    """
    for rounds in range(1, left):
        after = 2 * (left - rounds)
        for for_one, against in ((more, fewer), (fewer, more)):
            for n in range(for_one, for_one + 2 * rounds + 1):
                is_low, is_high = (
                    (n + after) / rule.planned < rule.min_confidence,
                    n / rule.planned >= rule.min_confidence,
                )
                if n - against > after and (is_low or is_high):
                    return rounds
    return left


def verdict_on(counted: Tally, settings: LabelSettings | VotingRule) -> str | None:
    """Why a pair's label is dropped, or None if it is kept."""
    if counted.for_a + counted.for_b == 0:
        return "no_valid_vote"
    if counted.label is None:
        return "tie"
    if counted.confidence < settings.min_confidence:
        return "low_confidence"
    return "orders_disagree" if settings.orders_agree and not counted.orders_agree else None


def is_settled(votes: Sequence[Vote], rule: VotingRule) -> bool:
    """Whether the outcome is the same whatever the votes say that have not been cast: the label, or why it is dropped."""
    total = Counter(vote.verdict for vote in votes)
    left = rule.planned - len(votes)
    if left == 0:
        return True
    if abs(total["A"] - total["B"]) <= left:  # it may still be a tie, or the other label
        return False
    label: Label = "A" if total["A"] > total["B"] else "B"
    least, most = (n / rule.planned for n in (total[label], total[label] + left))
    if most < rule.min_confidence:
        return True
    if least < rule.min_confidence:
        return False
    return not rule.orders_agree or _agreement_is_settled(votes, label, rule)


def _agreement_is_settled(votes: Sequence[Vote], label: Label, rule: VotingRule) -> bool:
    """Whether the orders agree on the label, or do not, whatever the votes say that have not been cast."""
    margins = []
    for order in ORDERS:
        counted = Counter(vote.verdict for vote in votes if vote.order == order)
        margins.append((counted[label] - counted[flip(label)], rule.planned // 2 - counted.total()))
    return all(margin > left for margin, left in margins) or any(margin + left <= 0 for margin, left in margins)


def majority_probability(more: int, fewer: int) -> float:
    """The probability that the leading answer is the more frequent one: P(p > ½) under Beta(more + 1, fewer + 1).

    For whole numbers it is that of at most `more` heads in more + fewer + 1 tosses of a fair coin.
    """
    n = more + fewer + 1
    return float(sum(math.comb(n, heads) for heads in range(more + 1)) / 2**n)


def confidence_bounds(votes: Sequence[Vote], label: Label | None, rule: VotingRule) -> tuple[float, float]:
    """The smallest and the largest share that the label could have of all planned votes; both 0 without a label."""
    if label is None:
        return 0.0, 0.0
    n = sum(vote.verdict == label for vote in votes)
    return n / rule.planned, (n + rule.planned - len(votes)) / rule.planned
