"""Votes on a pair: a judge's answers in both orders, combined into a label and its confidence.

One chain of reasoning reveals little about its own reliability: after a rationale that ends "Response A is better", the
probability of A is about 1, right or wrong. So confidence is the share of votes for the winner, over sampled chains in
both orders; a vote that could not be parsed stays in the denominator.

A judge that gives only the label is not sampled: its confidence is the softmax over the two label tokens, averaged over
both orders (GRAM's reward).
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

    `confidence` is the winner's votes ÷ all votes, unreadable ones included, or its mean probability over both orders.
    """

    label: Label | None
    confidence: float
    orders_agree: bool
    for_a: int
    for_b: int
    null: int


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


def tally(votes: Sequence[Vote]) -> Tally:
    """Majority, confidence and agreement between the orders. An order without a majority agrees with nothing.

    Votes with probabilities are averaged instead.
    """
    total = Counter(vote.verdict for vote in votes)
    by_order = [Counter(v.verdict for v in votes if v.order == order) for order in ORDERS]
    label = _majority(total)
    agree = label is not None and all(_majority(counter) == label for counter in by_order)
    confidence = total[label] / len(votes) if label is not None else 0.0
    p_a = mean_probability(votes)
    if p_a is not None:
        label = None if p_a == 0.5 else "A" if p_a > 0.5 else "B"
        agree = label is not None and all(_majority(counter) == label for counter in by_order)
        confidence = max(p_a, 1 - p_a) if label is not None else 0.0
    return Tally(label, confidence, agree, total["A"], total["B"], total[None])


def mean_probability(votes: Sequence[Vote]) -> float | None:
    """The mean probability of A over both orders; None unless every vote has one."""
    known = [vote.p_a for vote in votes if vote.p_a is not None]
    return sum(known) / len(known) if known and len(known) == len(votes) else None


def _majority(counter: Counter[Label | None]) -> Label | None:
    if counter["A"] == counter["B"]:
        return None
    return "A" if counter["A"] > counter["B"] else "B"
