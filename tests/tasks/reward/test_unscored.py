"""What a response without a verdict becomes for trainers that call the service by themselves, and take no null."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from tasks.model.chat import ChatEncoder
from tasks.reward.limits import UnscorableError, UnscoredError
from tasks.reward.trainer_shapes import without_nulls
from tests.support.rewarding import said
from tests.support.vllm_server import StandIn, gateway, post


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 30))


def test_a_missing_reward_is_the_mean_of_its_siblings_or_none_is_given() -> None:
    assert without_nulls([0.5, None, 1.0], [None, "deadline", None]) == [0.5, 0.75, 1.0]
    with pytest.raises(UnscoredError, match=r"none of the 2 responses has a verdict: 2 by deadline"):
        without_nulls([None, None], ["deadline"] * 2)


@pytest.mark.parametrize(
    ("reasons", "kind", "words"),
    [
        (["no_answer", "server_lost"], UnscoredError, "Try again"),
        (["server_429"], UnscoredError, "Try again"),
        (["server_400"], UnscorableError, "same again"),
        (["prompt_too_long", "prompt_too_long", "no_answer"], UnscorableError, "2 by prompt_too_long, .* --context"),
        (["truncated"], UnscorableError, "more --max-tokens"),
        ([None], UnscorableError, "1 by no_verdict. .*--votes 4"),
    ],
)
def test_only_what_may_pass_is_to_be_tried_again(reasons: list[str | None], kind: type, words: str) -> None:
    with pytest.raises(UnscoredError, match=words) as found:
        without_nulls([None] * len(reasons), reasons)
    assert found.type is kind


def test_what_cannot_be_scored_is_an_error_for_a_trainer_and_never_a_number(encoder: ChatEncoder) -> None:
    async def scenario() -> None:
        stand_in = StandIn(encoder, say=lambda a, b: "no verdict")
        async with gateway(stand_in, strategy="all-pairs", deadline_s=0.3) as client:
            history = [{"role": "user", "content": "Why?"}]
            one = {"query": ["Why?c"], "prompts": ["Why?"], "labels": ["b"]}
            group = {"conversation_history": history, "response_objs": [said("b"), said("c")]}
            sample = {"prompt": "Why?", "response": "c", "label": "b"}
            for path, body in (("/get_reward", one), ("/slime", sample), ("/compare", group)):
                assert "--votes 4" in (await post(client, path, 422, **body))["detail"]
                stand_in.faults = ["hang", "hang"]
                assert "by deadline" in (await post(client, path, 503, **body))["detail"]
            metrics = (await client.get("/metrics")).text
            assert 'gram_r2_null_rewards_total{reason="deadline"} 4.0' in metrics

    run(scenario())


def test_openrlhf_s_file_is_answered_by_its_own_deadline(encoder: ChatEncoder) -> None:
    """Before it leaves and asks again: the service's is far longer."""

    async def scenario() -> None:
        async with gateway(StandIn(encoder, faults=["hang"] * 2), deadline_s=600) as client:
            body = {"query": ["Why?c"], "prompts": ["Why?"], "labels": ["b"], "deadline_s": 0.3}
            assert "1 by deadline" in (await post(client, "/get_reward", 503, **body))["detail"]

    run(scenario())


def test_a_group_with_some_verdicts_is_completed_for_nemo_gym(encoder: ChatEncoder) -> None:
    async def scenario() -> None:
        stand_in = StandIn(encoder, say=lambda a, b: "?" if "x" in (a, b) else StandIn(encoder).say(a, b))
        async with gateway(stand_in, strategy="all-pairs") as client:
            history = [{"role": "user", "content": "Why?"}]
            texts = [said("a"), said("x"), said("b")]
            found = await post(client, "/compare", conversation_history=history, response_objs=texts)
            assert found["rewards"] == [0.0, 0.5, 1.0]
            assert len(found["comparison_results"]) == 1
            assert found["metrics"]["comparisons_without_verdict"] == 2

    run(scenario())
