"""A judge as a reward: how much it prefers a response to a reference response."""

from __future__ import annotations

import math

import pytest

from tasks.model.chat import ChatEncoder
from tasks.model.engine import FakeEngine, Request
from tasks.model.judging import JudgeQuery
from tasks.model.scalar import SCALAR
from tasks.rank import Judge
from tests.tasks.test_rank import A, higher, judge_of


def test_a_label_judges_reward_is_its_probability_over_both_orders(encoder: ChatEncoder) -> None:
    """It gives the response 0.9 where it is shown first, and 0.6 where it is shown second."""

    def logprobs(request: Request) -> list[float]:
        first = encoder.tokenizer.decode(list(request.prompt_ids)).split("\nA: ")[1].startswith("yes")
        p = 0.9 if first else 0.4
        return [math.log(p), math.log(1 - p)]

    engine = FakeEngine(lambda request, j: "", id_logprobs=logprobs)
    judge = Judge(engine, encoder, JudgeQuery("compact-label", 64, 256))
    assert judge.reward("Taste?", "yes", "no") == pytest.approx(0.75)
    assert judge.reward("Taste?", "no", "yes") == pytest.approx(0.25)
    assert judge.usage.generations == 4


def test_the_reward_of_a_judge_that_reasons_is_its_share_of_the_votes(encoder: ChatEncoder) -> None:
    judge, _ = judge_of(encoder, higher)
    assert judge.reward_many([("?", "b", "a"), ("?", "a", "b")]) == [1.0, 0.0]
    torn, _ = judge_of(encoder, lambda a, b: A)
    assert torn.reward("?", "b", "a") == 0.5


def test_a_discriminative_models_reward_is_bradley_terrys(encoder: ChatEncoder) -> None:
    engine = FakeEngine(lambda request, j: "", scores=lambda request: float(len(request.prompt_ids)))
    judge = Judge(engine, encoder, JudgeQuery(SCALAR, 1, 256))
    longer, shorter = "yes yes", "yes"
    gap = len(encoder.text_ids(longer)) - len(encoder.text_ids(shorter))
    assert judge.reward("Taste?", longer, shorter) == pytest.approx(1 / (1 + math.exp(-gap)))


def test_where_no_reply_is_a_verdict_there_is_no_reward(encoder: ChatEncoder) -> None:
    judge, _ = judge_of(encoder, lambda a, b: "A")
    assert judge.reward("?", "b", "a") is None
    half, _ = judge_of(encoder, lambda a, b: A if a == "b" else "no verdict")
    assert half.reward("?", "b", "a") is None, "one order alone says which position the judge prefers"
