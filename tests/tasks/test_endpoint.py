"""What an endpoint's answers become, without a server; with one, see tests/engine/test_judge_engines.py."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from data.records import parse_pair
from prompts.judge import COMPACT
from tasks.model.endpoint import MessageEncoder, _completion, is_endpoint
from tasks.model.engine import Completion, Failure
from tasks.model.judging import JudgeQuery, read_answer


def reply(text: str | None, finish: str = "stop", alternatives: dict[str, float] | None = None) -> Any:
    """A chat completion as the protocol has it; `alternatives` are the first token's logprobs."""
    top = [SimpleNamespace(token=token, logprob=logprob) for token, logprob in (alternatives or {}).items()]
    logprobs = SimpleNamespace(content=[SimpleNamespace(top_logprobs=top)]) if alternatives is not None else None
    choice = SimpleNamespace(finish_reason=finish, message=SimpleNamespace(content=text), logprobs=logprobs)
    return SimpleNamespace(choices=[choice], usage=SimpleNamespace(completion_tokens=7))


def test_a_reply_is_a_completion() -> None:
    made = _completion(reply("<think> x </think><answer>A</answer>"), [])
    assert isinstance(made, Completion)
    assert (made.finished, len(made.token_ids)) == (True, 7)
    assert read_answer(JudgeQuery("compact", 9, 99), made).verdict == "A"


def test_a_reply_that_was_cut_off_is_not_finished() -> None:
    made = _completion(reply("<think> x", "length"), [])
    assert isinstance(made, Completion)
    assert read_answer(JudgeQuery("compact", 9, 99), made).malformed == "truncated"


def test_an_empty_reply_is_no_verdict() -> None:
    made = _completion(reply(None), [])
    assert isinstance(made, Completion)
    assert read_answer(JudgeQuery("compact", 9, 99), made).malformed == "empty_reply"


def test_a_reply_that_was_filtered_is_a_failure() -> None:
    assert _completion(reply("", "content_filter"), []) == Failure("endpoint_content_filter")


@pytest.mark.parametrize(
    "odd",
    [
        SimpleNamespace(choices=[]),
        SimpleNamespace(choices=None),
        "<html>",
        SimpleNamespace(choices=[SimpleNamespace(message=None)]),
    ],
)
def test_a_reply_that_is_none_is_a_failure_of_its_own(odd: Any) -> None:
    made = _completion(odd, [])
    assert isinstance(made, Failure)
    assert made.reason == "endpoint_bad_reply"


@pytest.mark.parametrize(
    "token", ["<|im_end|>", "<|eot_id|>", "</s>", "<end_of_turn>", "[/INST]", "<｜end▁of▁sentence｜>"]
)
def test_what_looks_like_a_special_token_does_not_reach_the_server(token: str) -> None:
    pair = parse_pair({"prompt": "Why?", "response_a": f"x{token}y", "response_b": "z"})
    [message] = MessageEncoder().judge_ids(COMPACT, pair, 99, "drop").messages
    assert token not in message.content
    assert message.content.replace("\u200b", "") == COMPACT.render(pair)[0].content.replace("\u200b", "")


@pytest.mark.parametrize(
    ("alternatives", "p_first"),
    [
        ({"A": math.log(0.8), "B": math.log(0.2)}, 0.8),
        ({"x": math.log(0.9), "A": math.log(0.06), "B": math.log(0.02)}, 0.75),  # over the two labels alone
        ({"A": math.log(0.9), "x": math.log(0.0001)}, 0.9999),  # B is at most as likely as x
        ({"A": math.log(0.5), "x": math.log(0.4)}, None),  # B may be nearly as likely as A
        ({"x": -0.1, "y": -3.0}, None),
        ({}, None),
        (None, None),
    ],
)
def test_labels_are_read_from_the_alternatives(alternatives: dict[str, float] | None, p_first: float | None) -> None:
    made = _completion(reply("A", "length", alternatives), ["A", "B"])
    assert isinstance(made, Completion)
    said = read_answer(JudgeQuery("gram", 1, 99), made)
    assert said.p_first == (None if p_first is None else pytest.approx(p_first, abs=2e-4))
    assert said.malformed == ("no_label_probability" if p_first is None else None)


@pytest.mark.parametrize(
    ("name", "endpoint"), [("http://h/v1", True), ("https://h/v1#m", True), ("org/m", False), ("/a/b", False)]
)
def test_endpoints_are_named_by_their_url(name: str, endpoint: bool) -> None:
    assert is_endpoint(name) == endpoint
