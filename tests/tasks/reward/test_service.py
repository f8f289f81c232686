"""The reward service over a stand-in for vLLM's server: what is asked, what is answered, and what is refused."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine
from typing import Any

import pytest

from tasks.model.chat import ChatEncoder
from tasks.model.engine import FakeEngine, Request
from tasks.model.judging import JudgeQuery
from tasks.rank import Judge
from tasks.reward.judging import ServedJudge
from tasks.reward.metrics import Metrics
from tasks.reward.servers import Servers
from tasks.reward.service import Service
from tasks.reward.trainers import LONGEST
from tests.support.vllm_server import A, B, StandIn, gateway, higher, post

QUERY = JudgeQuery("compact", 64, 512, seed=3)
VOTES = JudgeQuery("compact", 64, 512, votes=3, temperature=1.0, seed=3)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 30))


def seed_tells(request: Request, j: int) -> str:
    return A if (request.sampling.seed + j) % 3 else "no verdict"


@pytest.mark.parametrize("query", [QUERY, VOTES])
def test_it_says_what_the_judge_in_one_process_says(encoder: ChatEncoder, query: JudgeQuery) -> None:
    """The same tokens, seeds and limits are asked for, and the replies are read alike."""
    requests: list[Request] = []

    def reply(request: Request, j: int) -> str:
        requests.append(request)
        return seed_tells(request, j)

    texts = ["a", "b", "yes"]
    pairs = list(itertools.combinations(texts, 2))
    here = Judge(FakeEngine(reply), encoder, query).compare_many([("?", a, b) for a, b in pairs])
    known = {(tuple(one.prompt_ids), one.sampling.seed): one for one in requests}

    class Seeded(StandIn):
        def choice(self, body: dict[str, Any], j: int) -> dict[str, Any]:
            request = known[tuple(body["prompt"]), body["seed"]]
            sampling = request.sampling
            assert (body["n"], body["temperature"], body["max_tokens"]) == (
                sampling.n,
                sampling.temperature,
                sampling.max_tokens,
            )
            ids = [*encoder.text_ids(seed_tells(request, j)), encoder.end_id]
            return {"index": j, "token_ids": ids, "finish_reason": "stop"}

    async def scenario() -> None:
        async with gateway(Seeded(encoder), query=query, strategy="all-pairs") as client:
            for (a, b), compared in zip(pairs, here, strict=True):
                there = await post(client, "/v1/compare", prompt="?", a=a, b=b)
                assert there["share"] == compared.reward
                assert there["rationales"] == [one.answer.rationale for one in compared.answers]

    run(scenario())


def test_a_group_gets_rewards_and_all_that_they_are_made_of(encoder: ChatEncoder) -> None:
    async def scenario() -> None:
        async with gateway(StandIn(encoder), strategy="all-pairs") as client:
            found = await post(client, "/v1/rewards", prompt="?", responses=["b", "c", "a"])
            assert found["rewards"] == [0.5, 1.0, 0.0]
            assert found["reasons"] == [None, None, None]
            assert (found["strategy"], found["comparisons_planned"], found["cycles"]) == ("all-pairs", 3, [])
            assert found["tokens"] == 6 * (len(encoder.text_ids(A)) + 1)
            first = {"first": 0, "second": 1, "share": 0.0, "orders": [0.0, 0.0], "reason": None}
            assert found["comparisons"][0] == first
            referred = await post(client, "/v1/rewards", prompt="?", responses=["b", "c", "a"], reference="b")
            assert (referred["strategy"], referred["rewards"]) == ("reference", [0.5, 1.0, 0.0])
            assert [one["second"] for one in referred["comparisons"]] == [None] * 3
            turns = [{"role": "user", "content": "?"}]
            assert await post(client, "/v1/rewards", messages=turns, responses=["b", "c", "a"]) == {
                **found,
                "elapsed_s": pytest.approx(0, abs=5),
            }

    run(scenario())


def test_a_judge_of_labels_is_asked_for_two_probabilities(encoder: ChatEncoder) -> None:
    import math

    def p_first(a: str, b: str) -> list[float]:
        p = 0.9 if a == "yes" else 0.4
        return [math.log(p), math.log(1 - p)]

    stand_in = StandIn(encoder, p_first=p_first)

    async def scenario() -> None:
        async with gateway(stand_in, query=JudgeQuery("compact-label", 64, 512)) as client:
            found = await post(client, "/v1/compare", prompt="?", a="yes", b="no")
            assert (found["winner"], found["share"]) == ("a", pytest.approx(0.75))
            assert found["orders"] == [pytest.approx(0.9), pytest.approx(0.6)]
            assert [(body["max_tokens"], body["logprob_token_ids"]) for body in stand_in.seen] == [
                (1, list(encoder.label_ids))
            ] * 2
            stand_in.p_first = lambda a, b: [-9999.0, -9999.0]
            found = await post(client, "/v1/compare", prompt="?", a="yes", b="no")
            assert (found["share"], found["reason"]) == (None, "no_label_probability")
            problem = await post(client, "/v1/compare", 422, prompt="?", a="yes", b="no", votes=2)
            assert "leave out votes" in problem["detail"]

    run(scenario())


def test_a_reply_that_is_cut_off_goes_on_from_its_tokens(encoder: ChatEncoder) -> None:
    whole = len(encoder.text_ids(A)) + 1

    class Continued(StandIn):
        def choice(self, body: dict[str, Any], j: int) -> dict[str, Any]:
            ids = [*encoder.text_ids(A), encoder.end_id]
            begun = body["prompt"][-5:] == ids[:5]
            return {
                "index": 0,
                "token_ids": ids[5:] if begun else ids[:5],
                "finish_reason": "stop" if begun else "length",
            }

    async def scenario() -> None:
        async with gateway(Continued(encoder), query=JudgeQuery("compact", 5, 512)) as client:
            found = await post(client, "/v1/compare", prompt="?", a="x", b="y")
            assert (found["share"], found["orders"], found["tokens"]) == (0.5, [1.0, 0.0], 2 * whole)

    run(scenario())


def test_what_has_no_verdict_is_null_with_its_reason(encoder: ChatEncoder) -> None:
    stand_in = StandIn(encoder, say=lambda a, b: "no verdict" if "x" in (a, b) else higher(a, b))

    async def scenario() -> None:
        async with gateway(stand_in, strategy="all-pairs") as client:
            found = await post(client, "/v1/rewards", prompt="?", responses=["a", "x", "b"])
            assert found["rewards"] == [0.0, None, 1.0]
            assert found["reasons"] == [None, found["comparisons"][0]["reason"], None]
            assert found["reasons"][1]
            long = await post(client, "/v1/compare", prompt="?", a="word " * 600, b="y")
            assert (long["winner"], long["share"], long["reason"]) == (None, None, "prompt_too_long")
            metrics = (await client.get("/metrics")).text
            assert 'gram_r2_replies_without_verdict_total{reason="prompt_too_long"} 2.0' in metrics
            assert 'gram_r2_requests_total{path="/v1/rewards",status="200"} 1.0' in metrics
            assert "gram_r2_null_rewards_total" in metrics

    run(scenario())


def test_one_row_of_a_trainer_s_data_ends_no_training(encoder: ChatEncoder) -> None:
    """What cannot be judged is null with its reason; the siblings of a response that is far too long are judged."""
    stand_in = StandIn(encoder)

    async def scenario() -> None:
        async with gateway(stand_in, strategy="all-pairs") as client:
            found = await post(client, "/v1/rewards", prompt="?", responses=["a", "x" * LONGEST, "b"])
            assert (found["rewards"], found["reasons"]) == ([0.0, None, 1.0], [None, "prompt_too_long", None])
            asked = len(stand_in.seen)
            turns = [""], ["user", "assistant"], ["user", "tool"]
            for given in ({"prompt": " "}, {"messages": []}, *({"messages": made(*roles)} for roles in turns)):
                found = await post(client, "/v1/rewards", **given, responses=["a", "b"])
                assert (found["rewards"], found["reasons"]) == ([None] * 2, ["invalid_input"] * 2)
            assert len(stand_in.seen) == asked
            assert 'null_rewards_total{reason="invalid_input"} 10.0' in (await client.get("/metrics")).text

    run(scenario())


def made(*roles: str) -> list[dict[str, str]]:
    return [{"role": role, "content": "x"} for role in roles]


def test_what_the_length_is_worth_is_told_and_can_be_taken_off(encoder: ChatEncoder) -> None:
    stand_in = StandIn(encoder, say=lambda a, b: A if len(a) > len(b) else B)

    async def scenario() -> None:
        async with gateway(stand_in, strategy="all-pairs") as client:
            body = {"prompt": "?", "responses": ["a", "aa", "aaaa"]}
            assert (await post(client, "/v1/rewards", **body))["rewards"] == [0.0, 0.5, 1.0]
            metrics = (await client.get("/metrics")).text
            assert "gram_r2_length_correlation 1.0" in metrics
            assert "gram_r2_reward_per_doubled_length 0.5" in metrics
            taken = await post(client, "/v1/rewards", **body, length_slope=0.5)
            assert taken["rewards"] == [0.5, 0.5, 0.5]

    run(scenario())


def test_responses_are_put_in_order(encoder: ChatEncoder) -> None:
    async def scenario() -> None:
        async with gateway(StandIn(encoder)) as client:
            found = await post(client, "/v1/rank", prompt="?", responses=["b", "c", "a"])
            assert (found["order"], found["wins"], found["undecided"]) == ([1, 0, 2], [1.0, 2.0, 0.0], [])
            found = await post(client, "/v1/rank", prompt="?", responses=["b", "c", "a"], method="repeated-best")
            assert found["order"] == [1, 0, 2]
            found = await post(client, "/v1/rank", prompt="?", responses=["a"])
            assert found["order"] == [0]

    run(scenario())


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/v1/rewards", {"responses": ["a"]}, "give the conversation once"),
        ("/v1/rewards", {"prompt": "?", "messages": [], "responses": ["a"]}, "give the conversation once"),
        ("/v1/compare", {"messages": [{"role": "assistant", "content": "x"}], "a": "x", "b": "y"}, "the conversation"),
        ("/v1/rewards", {"prompt": "?", "responses": []}, "responses: List should have at least 1 item"),
        ("/v1/rewards", {"prompt": "?", "responses": ["a"] * 257}, "at most 256 items"),
        ("/v1/rewards", {"prompt": "?", "responses": ["a"] * 100}, "4,950 comparisons, more than 4,096"),
        ("/v1/rewards", {"prompt": "?", "responses": ["a", 1]}, "responses.1: Input should be a valid string"),
        ("/v1/rewards", {"prompt": "?", "responses": ["a"], "strategy": "reference"}, "a reference response"),
        ("/v1/rewards", {"prompt": "?", "responses": ["a"], "refrence": "b"}, "refrence: Extra inputs"),
        ("/v1/rewards", {"prompt": "?", "responses": ["a", "b"], "votes": 2}, "start the service with --temperature"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_one_line(
    encoder: ChatEncoder, path: str, body: dict[str, Any], words: str
) -> None:
    stand_in = StandIn(encoder)

    async def scenario() -> None:
        async with gateway(stand_in, strategy="all-pairs") as client:
            problem = await post(client, path, 422, **body)
            assert words in problem["detail"]
            assert "\n" not in problem["detail"]
        assert stand_in.seen == []

    run(scenario())


def test_who_has_no_key_and_who_sends_too_much_is_refused_first(encoder: ChatEncoder) -> None:
    async def scenario() -> None:
        async with gateway(StandIn(encoder), key="secret") as client:
            body = {"prompt": "?", "a": "x", "b": "y"}
            for header in ({}, {"Authorization": "Bearer other"}):
                assert (await client.post("/v1/compare", json=body, headers=header)).status_code == 401
            assert (await client.get("/health")).json()["alive"] == 1
            client.headers["Authorization"] = "Bearer secret"
            assert (await post(client, "/v1/compare", **body))["winner"] == "b"
            large = b"x" * (16 << 20) + b"x"
            assert (await client.post("/v1/compare", content=large)).status_code == 413

            async def in_parts() -> Any:
                for begin in range(0, len(large), 1 << 20):
                    yield large[begin : begin + (1 << 20)]

            untold = await client.post("/v1/compare", content=in_parts())
            assert (untold.status_code, untold.json()["detail"][:26]) == (413, "the body is over 16,777,21")

    run(scenario())


def test_an_answer_is_on_its_way_before_the_deadline(encoder: ChatEncoder) -> None:
    async def scenario() -> list[float]:
        servers = Servers([])
        service = Service(ServedJudge(servers, encoder, JudgeQuery("compact", 64, 512)), Metrics(servers))
        return [service.deadline(asked) - service.now() for asked in (None, 10.0, 1.0, 300.0)]

    assert asyncio.run(scenario()) == pytest.approx([99.0, 9.5, 0.95, 99.0], abs=0.01)
