"""Votes on a pair: a judge's answers in both orders, combined into a label and its confidence.

One chain of reasoning reveals little about its own reliability: after a rationale that ends "Response A is better", the
probability of A is about 1, right or wrong. So confidence is the share of votes for the winner, over sampled chains in
both orders; a vote that could not be parsed stays in the denominator.

A judge that gives only the label is not sampled: its confidence is the softmax over the two label tokens, averaged over
both orders (GRAM's reward).

With memory, what earlier rounds voted on the pair enters both, see `Remembered`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from data.records import Label, ResponsePair, flip
from tasks.model.judging import JudgeQuery, read_answer
from tasks.model.orders import ORDERS

UNGROUNDED = "ungrounded_quote"
"""Why a vote does not count whose rationale quotes what the pair does not say."""
CHANGES = ("pairs", "flips", "majority_flips")
"""What is counted of pairs that earlier rounds voted on too: see `changes_of`."""


@dataclass(frozen=True)
class Vote:
    """One judgment. `verdict` and `p_a` refer to the pair as given, whichever order was shown.

    `p_a` is the probability of A, if the judge gives one instead of being sampled.
    """

    order: str
    seed: int
    verdict: Label | None
    malformed: str | None
    n_tokens: int
    p_a: float | None = None


@dataclass(frozen=True)
class Tally:
    """The result of the votes on one pair. `label` None is a tie.

    `confidence` is the winner's share: its votes ÷ all votes, unreadable ones included, or its mean probability over both
    orders. With memory, label and share are those of all rounds; the rest is about the votes given.
    """

    label: Label | None
    confidence: float
    orders_agree: bool
    for_a: int
    for_b: int
    null: int


@dataclass(frozen=True)
class Remembered:
    """What earlier rounds voted on a pair: the mean shares of A and of B, and their weight beside the shares of the votes now.

    After ConsistRM (arXiv:2604.07484), which adds the mean of a pair's earlier pseudo-labels, as −1, 0 or 1, to that of the
    votes now. Shares instead of labels: 5 votes of 8 are remembered as less than 8 of 8.
    """

    weight: float
    for_a: float
    for_b: float

    @classmethod
    def of(cls, row: Mapping[str, Any], weight: float) -> Remembered | None:
        """That of a row with its votes in "earlier" rounds, as `tasks.trust.memory` writes them; None if it has none."""
        earlier = row.get("earlier", ())
        if not weight or not earlier:
            return None
        for_a, for_b = (sum(one[side] for one in earlier) / len(earlier) for side in ("A", "B"))
        return cls(weight, for_a, for_b)

    def beside(self, for_a: float, for_b: float) -> tuple[float, float]:
        """The shares of A and of B with memory, for these of the votes now."""
        now = 1 - self.weight
        # Rounded, or 0.7 × 0.75 + 0.3 × 0.75 would be below 0.75.
        return round(now * for_a + self.weight * self.for_a, 9), round(now * for_b + self.weight * self.for_b, 9)


def read_votes(
    query: JudgeQuery, requests: Sequence[Mapping[str, Any]], grounded_in: ResponsePair | None = None
) -> list[Vote]:
    """The votes in the completions generated for one pair.

    With `grounded_in`, the pair itself, a vote whose rationale quotes what is not there is as one that can't be read.
    """
    votes = []
    for request in requests:
        swapped = request["name"] == "ba"
        for j, completion in enumerate(request["completions"]):
            answer = read_answer(query, completion)
            if grounded_in is not None and _is_ungrounded(query, answer.rationale or "", grounded_in):
                answer = replace(answer, verdict=None, malformed=UNGROUNDED)
            verdict = flip(answer.verdict) if answer.verdict and swapped else answer.verdict
            p_a = 1 - answer.p_first if answer.p_first is not None and swapped else answer.p_first
            votes.append(Vote(request["name"], request["seed"] + j, verdict, answer.malformed, answer.n_tokens, p_a))
    return votes


def _is_ungrounded(query: JudgeQuery, rationale: str, pair: ResponsePair) -> bool:
    return query.judge_prompt.ungrounded_quote(rationale, pair) is not None


def tally(votes: Sequence[Vote], remembered: Remembered | None = None) -> Tally:
    """The label with the larger share, its confidence, and whether both orders have a majority for it."""
    total = Counter(vote.verdict for vote in votes)
    by_order = [Counter(v.verdict for v in votes if v.order == order) for order in ORDERS]
    for_a, for_b = _shares(votes) if remembered is None else remembered.beside(*_shares(votes))
    label: Label | None = None if for_a == for_b else "A" if for_a > for_b else "B"
    agree = label is not None and all(_majority(counter) == label for counter in by_order)
    confidence = max(for_a, for_b) if label is not None else 0.0
    return Tally(label, confidence, agree, total["A"], total["B"], total[None])


def _shares(votes: Sequence[Vote]) -> tuple[float, float]:
    """The shares of A and of B: of the votes, or their probabilities."""
    p_a = mean_probability(votes)
    if p_a is not None:
        return p_a, 1 - p_a
    total, n = Counter(vote.verdict for vote in votes), len(votes) or 1
    return total["A"] / n, total["B"] / n


def changes_of(row: Mapping[str, Any], votes: Sequence[Vote], label: Label | None) -> list[str]:
    """Which of `CHANGES` to count for a pair that has this label now; none if no earlier round voted on it.

    "flips" if the label is no longer that of the round before, "majority_flips" if the majority of the votes, memory aside,
    is no longer that of the votes then. A tie is no other label.
    """
    if "earlier" not in row:
        return []
    before, now = row["earlier"][-1], tally(votes).label
    then = None if before["A"] == before["B"] else "A" if before["A"] > before["B"] else "B"
    flips = {"flips": (before["label"], label), "majority_flips": (then, now)}
    return ["pairs", *(name for name, sides in flips.items() if set(sides) == {"A", "B"})]


def mean_probability(votes: Sequence[Vote]) -> float | None:
    """The mean probability of A over both orders; None unless every vote has one."""
    known = [vote.p_a for vote in votes if vote.p_a is not None]
    return sum(known) / len(known) if known and len(known) == len(votes) else None


def _majority(counter: Counter[Label | None]) -> Label | None:
    if counter["A"] == counter["B"]:
        return None
    return "A" if counter["A"] > counter["B"] else "B"
