"""What a judge refuses to be asked, alone and among many, and how its work is counted."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import pytest

from data.records import RecordError
from tasks.model.chat import ChatEncoder
from tasks.model.engine import Completion, FakeEngine, Request
from tasks.model.judging import JudgeQuery
from tasks.rank import Judge
from tests.tasks.test_rank import judge_of

BAD = [
    ("Why?", "x", "y\ud83d", "field 'response_b': is not Unicode text: half a surrogate pair at character 1"),
    ("Why\ud83d?", "x", "y", "field 'prompt': is not Unicode text"),
    ([{"role": "user", "content": " "}], "x", "y", "field 'prompt': is empty"),
    ("", "x", "y", "field 'prompt': is empty"),
    ("Why?", None, "y", "field 'response_a': must be a string, or an assistant's message, got nothing"),
]


@pytest.mark.parametrize(("prompt", "a", "b", "message"), BAD)
def test_what_is_wrong_with_one_pair_is_said(encoder: ChatEncoder, prompt: Any, a: Any, b: Any, message: str) -> None:
    judge, engine = judge_of(encoder)
    for ask in (judge.compare, judge.reward, lambda *pair: judge.vote(*pair, k=2)):
        with pytest.raises(RecordError, match=re.escape(message)):
            ask(prompt, a, b)
    assert not engine.batches


def test_a_bad_response_among_others_is_named_by_its_place(encoder: ChatEncoder) -> None:
    judge, engine = judge_of(encoder)
    for ask in (judge.best_of_n, judge.rank):
        with pytest.raises(RecordError, match=r"field 'responses\[2\]': is not Unicode text"):
            ask("Why?", ["x", "y", "\ud83d"])
    assert not engine.batches


def test_among_many_a_bad_pair_fails_alone(encoder: ChatEncoder) -> None:
    judge, engine = judge_of(encoder)
    good, bad, last = judge.compare_many([("Why?", "x", "y"), ("Why?", "x", "\ud83d"), ("How?", "y", "x")])
    assert (good.winner, last.winner) == (1, 0)
    assert (bad.winner, bad.failed, bad.is_undecided) == (None, {"invalid_input": 2}, True)
    assert "field 'response_b': is not Unicode text" in bad.answers[0].answer.detail
    assert judge.usage.failures == {"invalid_input": bad.answers[0].answer.detail}
    assert [len(batch) for batch in engine.batches] == [4]
    assert judge.reward_many([("Why?", "x", "\ud83d"), ("Why?", "y", "x")]) == [None, 1.0]
    lost, found = judge.best_of_n_many([("Why?", ["x", "\ud83d"]), ("Why?", ["x", "y"])])
    assert (lost.failed, lost.undecided, found.index) == ({"invalid_input": 2}, ((0, 1),), 1)


def test_every_reply_that_was_asked_for_counts(encoder: ChatEncoder) -> None:
    """Those that are cut off go on to twice the length, and are cut off again."""

    class Limited(FakeEngine):
        def _complete(self, request: Request, j: int) -> Completion:
            ids = [0] * (request.begun + request.sampling.max_tokens)
            return replace(super()._complete(request, j), finished=False, token_ids=ids)

    judge = Judge(Limited(lambda request, j: "<think> x"), encoder, JudgeQuery("compact", 20, 512))
    found = judge.compare("Why?", "x", "y")
    assert [one.answer.n_tokens for one in found.answers] == [40, 40]
    assert (judge.usage.generations, judge.usage.tokens, judge.usage.nulls, judge.usage.ties) == (4, 80, 2, 0)


@pytest.mark.parametrize("temperature", [-0.5, math.inf, math.nan])
def test_a_temperature_that_is_none_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="the temperature must be 0"):
        JudgeQuery("compact", 20, 512, temperature=temperature)
