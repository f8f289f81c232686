"""The reward service when something goes wrong: servers that die, hang, or answer nonsense, and callers who leave."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from typing import Any

import httpx
import pytest

from tasks.model.chat import ChatEncoder
from tasks.reward.servers import Server, ServerError, Servers
from tests.support.vllm_server import StandIn, gateway, post

PAIR: dict[str, Any] = {"prompt": "?", "a": "x", "b": "y"}


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 30))


async def until(what: Any, seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come to pass"
        await asyncio.sleep(0.01)


async def metric(client: httpx.AsyncClient, name: str) -> float:
    lines = (await client.get("/metrics")).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(500, "server_500"), (429, "server_429"), (200, "server_bad_reply"), ("empty", "server_bad_reply"),
     ("no ids", "server_bad_reply"), ("closed", "server_lost")],
)  # fmt: skip
def test_what_may_pass_is_asked_once_more_and_then_null(encoder: ChatEncoder, fault: int | str, reason: str) -> None:
    """One fault is made good by the other server; a second one to the same request is a null, and never a number."""

    async def scenario() -> None:
        both = StandIn(encoder, faults=[fault]), StandIn(encoder)
        async with gateway(*both) as client:
            assert (await post(client, "/v1/compare", **PAIR))["share"] == 0.0
            assert await metric(client, f'gram_r2_retries_total{{reason="{reason}"}}') == 1
            assert sum(len(one.seen) for one in both) == 3
        both = StandIn(encoder, faults=[fault]), StandIn(encoder, faults=[fault] * 2)
        async with gateway(*both) as client:
            found = await post(client, "/v1/compare", **PAIR)
            assert (found["winner"], found["share"], found["reason"]) == (None, None, reason)
            assert await metric(client, f'gram_r2_failed_replies_total{{reason="{reason}"}}') >= 1

    run(scenario())


def test_what_a_server_refuses_is_not_asked_again(encoder: ChatEncoder) -> None:
    stand_in = StandIn(encoder, faults=[400, 400])

    async def scenario() -> None:
        async with gateway(stand_in) as client:
            found = await post(client, "/v1/compare", **PAIR)
            assert (found["share"], found["reason"], len(stand_in.seen)) == (None, "server_400", 2)

    run(scenario())


def test_one_order_that_fails_leaves_no_share(encoder: ChatEncoder) -> None:
    """The other order alone would give the place of a response a say."""
    stand_in = StandIn(encoder, faults=[400])

    async def scenario() -> None:
        async with gateway(stand_in) as client:
            found = await post(client, "/v1/compare", **PAIR)
            assert (found["share"], found["winner"], sorted(map(str, found["orders"]))) == (None, None, ["0.0", "None"])

    run(scenario())


def test_a_deadline_answers_what_is_scored_so_far(encoder: ChatEncoder) -> None:
    stand_in = StandIn(encoder, faults=["hang"])

    async def scenario() -> None:
        async with gateway(stand_in, strategy="all-pairs") as client:
            begun = time.monotonic()
            found = await post(client, "/v1/rewards", prompt="?", responses=["b", "c", "a"], deadline_s=0.3)
            assert 0.28 <= time.monotonic() - begun < 3
            assert found["comparisons"][0]["reason"] == "deadline"
            assert found["rewards"] == [1.0, 1.0, 0.0]
            stand_in.faults = ["hang"] * 6
            found = await post(client, "/v1/rewards", prompt="?", responses=["b", "c", "a"], deadline_s=0.3)
            assert (found["rewards"], found["reasons"]) == ([None] * 3, ["deadline"] * 3)
            stand_in.faults = ["hang"]
            found = await post(client, "/v1/rank", prompt="?", responses=["b", "c", "a"], deadline_s=0.3)
            assert (found["order"], found["reason"]) == (None, "deadline")
            await until(lambda: stand_in.open == 0)

    run(scenario())


def test_a_caller_who_leaves_frees_the_places_in_the_engine(encoder: ChatEncoder) -> None:
    stand_in = StandIn(encoder, delay_s=3600)

    async def scenario() -> None:
        async with gateway(stand_in) as client:
            app = client._transport.app  # type: ignore[attr-defined]
            gone = asyncio.Event()
            body = b'{"prompt": "?", "responses": ["a", "b", "c"]}'
            messages = [{"type": "http.request", "body": body, "more_body": False}]

            async def receive() -> dict[str, Any]:
                if messages:
                    return messages.pop()
                await gone.wait()
                return {"type": "http.disconnect"}

            sent: list[dict[str, Any]] = []

            async def send(message: dict[str, Any]) -> None:
                sent.append(message)

            scope = {"type": "http", "method": "POST", "path": "/v1/rewards", "raw_path": b"/v1/rewards", "headers": [
                (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())], "query_string": b"",
                "http_version": "1.1", "scheme": "http", "server": ("x", 80), "client": ("y", 1), "root_path": "",
                "asgi": {"version": "3.0"}}  # fmt: skip
            calling = asyncio.create_task(app(scope, receive, send))
            await until(lambda: stand_in.open == 6)
            gone.set()
            await calling
            assert sent[0]["status"] == 499
            await until(lambda: stand_in.open == 0)
            assert stand_in.gone == 6

    run(scenario())


def test_a_server_that_dies_is_left_out_until_it_is_well_again(encoder: ChatEncoder) -> None:
    """What it was working on is asked once more, elsewhere; so is what comes while it is away."""

    async def scenario() -> None:
        steady, mortal = StandIn(encoder), StandIn(encoder, delay_s=3600)
        async with gateway(steady) as client, contextlib.AsyncExitStack() as life:
            await life.enter_async_context(mortal.running())
            port = int(mortal.url.rsplit(":", 1)[1])
            servers = client._transport.app.state.servers  # type: ignore[attr-defined]
            other = Server(mortal.url, model="judge")
            servers.servers.append(other)
            await servers.check(other)
            asking = asyncio.create_task(post(client, "/v1/rewards", prompt="?", responses=["b", "c", "a"]))
            await until(lambda: mortal.open == 3)
            mortal.well = False
            await servers.check(other)
            assert (await asking)["rewards"] == [0.5, 1.0, 0.0]
            assert await metric(client, "gram_r2_retries_total") == 3
            await life.aclose()
            assert (await client.get("/health")).json()["alive"] == 1
            assert (await post(client, "/v1/compare", **PAIR))["share"] == 0.0
            again = StandIn(encoder)
            async with again.running(port):
                await servers.check(other)
                await post(client, "/v1/compare", **PAIR)
                assert (len(again.seen), (await client.get("/health")).json()["alive"]) == (1, 2)

    run(scenario())


def test_without_any_server_requests_wait_for_one_and_no_longer_than_their_deadline(encoder: ChatEncoder) -> None:
    stand_in = StandIn(encoder, well=False)

    async def scenario() -> None:
        async with gateway(stand_in) as client:
            assert (await client.get("/health")).status_code == 503
            found = await post(client, "/v1/compare", **PAIR, deadline_s=0.1)
            assert (found["share"], found["reason"]) == (None, "deadline")
            waiting = asyncio.create_task(post(client, "/v1/compare", **PAIR))
            servers = client._transport.app.state.servers  # type: ignore[attr-defined]
            await until(lambda: servers.queued == 2)
            stand_in.well = True
            assert (await waiting)["share"] == 0.0

    run(scenario())


def test_requests_go_to_the_server_with_the_fewest_and_wait_in_order_for_a_place(encoder: ChatEncoder) -> None:
    async def scenario() -> None:
        both = StandIn(encoder, delay_s=0.2), StandIn(encoder, delay_s=0.2)
        async with gateway(*both, at_once=2, strategy="all-pairs") as client:
            asking = asyncio.create_task(post(client, "/v1/rewards", prompt="?", responses=["b", "c", "a"]))
            await until(lambda: [one.open for one in both] == [2, 2])
            assert (await client.get("/health")).json()["queued"] == 2
            assert (await asking)["rewards"] == [0.5, 1.0, 0.0]
            assert [len(one.seen) for one in both] == [3, 3]

    run(scenario())


def test_a_server_that_only_fails_does_not_draw_all_requests(encoder: ChatEncoder) -> None:
    """It fails at once, so that it always has the fewest outstanding requests."""

    async def scenario() -> None:
        steady, broken = StandIn(encoder, delay_s=0.01), StandIn(encoder, faults=[500] * 100)
        async with gateway(steady, broken) as client:
            for _ in range(20):
                assert (await post(client, "/v1/compare", **PAIR))["share"] == 0.0
            assert len(broken.seen) <= 5

    run(scenario())


@pytest.mark.parametrize(
    ("models", "wanted", "words"),
    [
        (
            [{"id": "judge", "max_model_len": 128}],
            "",
            "takes 128 tokens, the judge needs 512: start it with --max-model-len 512",
        ),
        ([{"id": "one"}, {"id": "two"}], "", "serves one, two: give it as URL#MODEL"),
        ([{"id": "one"}], "two", "serves one"),
        ("no list", "", "does not answer as vLLM's server"),
    ],
)
def test_a_server_that_cannot_be_the_judges_is_refused(
    encoder: ChatEncoder, models: Any, wanted: str, words: str
) -> None:
    async def scenario() -> None:
        async with StandIn(encoder, models=models).running() as stand_in, Servers([]).opened() as servers:
            with pytest.raises(ServerError, match=words):
                await servers.identify(Server(stand_in.url, model=wanted), 512)
            stand_in.models = [{"id": "j", "max_model_len": 512}]
            known = Server(stand_in.url)
            await servers.identify(known, 512)
            assert known.model == "j"
        async with Servers([]).opened() as servers:
            with pytest.raises(ServerError, match="nothing answers at"):
                await servers.identify(known, 512)

    run(scenario())
