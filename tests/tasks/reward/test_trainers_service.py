"""trainers.py and the service understand each other: over HTTP, without a stand-in between them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from data.records import Message, prompt_key
from tasks.model.chat import ChatEncoder
from tasks.reward.trainers import (
    AsyncJudgeReward,
    Judge,
    JudgeReward,
    RewardError,
    Scored,
    compute_score,
    reward_func,
    slime_reward,
)
from tests.support.reward_service import reward_service
from tests.support.vllm_server import StandIn

CHATML = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
"""To the judge of these tests, what is later in the alphabet is better."""


def test_groups_and_references(encoder: ChatEncoder) -> None:
    with reward_service(StandIn(encoder), "key", strategy="all-pairs"):
        prompts, completions = ["Why?", "Why?", "How?", "How?"], ["a", "b", "d", "c"]
        assert JudgeReward()(prompts, completions) == [0, 1, 1, 0]
        assert asyncio.run(AsyncJudgeReward(strategy="circular", votes=1)(prompts, completions)) == [0, 1, 1, 0]
        assert JudgeReward()(["Why?"] * 2, ["a", "c"], reference=["b", "b"]) == [0, 1]
        assert Judge().score("Why?", ["a", "b", "c"]) == Scored([0, 0.5, 1], [None] * 3, 3, 54)


def test_one_response_at_a_time(encoder: ChatEncoder) -> None:
    with reward_service(StandIn(encoder), "key"):
        assert reward_func([CHATML + "c<|im_end|>"], [CHATML], ["b"])["rewards"] == [1]
        assert asyncio.run(compute_score("set", "a", "b", {"prompt": "Why?"}))["score"] == 0
        sample = SimpleNamespace(prompt="Why?", response="c<|im_end|>", label="b", metadata={})
        assert asyncio.run(slime_reward(SimpleNamespace(group_rm=False), sample)) == 1


def test_references_that_the_service_has(encoder: ChatEncoder) -> None:
    """With the strategy "reference"; a response that is alone can be compared with one."""
    with reward_service(StandIn(encoder), references={prompt_key((Message("user", "Why?"),)): "b"}):
        assert JudgeReward(strategy="reference")(["Why?"] * 3, ["a", "b", "c"]) == [0, 0.5, 1]
        assert JudgeReward(strategy="reference")(["Why?"], ["c"]) == [1]
        found = asyncio.run(compute_score("set", "c", None, {"prompt": "Why?"}, strategy="reference"))
        assert found["score"] == 1
        with pytest.raises(RewardError, match=r"\(422\).*none for this prompt"):
            Judge(strategy="reference").score("How?", ["a"])


def test_no_verdict_and_refusals(encoder: ChatEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = StandIn(encoder, say=lambda a, b: "hm")
    with reward_service(stand_in, "key", strategy="all-pairs") as url:
        assert Judge().score("Why?", ["a", "b"]).rewards == [None, None]
        assert Judge().score("Why?", ["a"]).reasons == ["group_of_one"]
        with pytest.raises(RewardError, match=r"refuses the request \(422\)"):
            Judge(strategy="best").score("Why?", ["a", "b"])
        with pytest.raises(RewardError, match=r"refuses the request \(401\).*key"):
            Judge(url, api_key="other").score("Why?", ["a", "b"])
