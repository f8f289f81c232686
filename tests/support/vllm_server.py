"""A stand-in for vLLM's server, in the test's own loop: it answers with token ids, in whatever way a test wants."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
from aiohttp import web

from tasks.model.chat import ChatEncoder
from tasks.model.judging import JudgeQuery
from tasks.reward.app import create_app
from tasks.reward.judging import ServedJudge
from tasks.reward.metrics import Metrics
from tasks.reward.servers import Server, Servers
from tasks.reward.service import Service

A, B = "<think> x </think><answer>A</answer>", "<think> x </think><answer>B</answer>"
Say = Callable[[str, str], str]
"""The reply of a judge to the two responses that it is shown."""


def higher(a: str, b: str) -> str:
    """The reply of a judge to whom the later in the alphabet is better."""
    return A if a > b else B


@dataclass(eq=False)
class StandIn:
    """A judge with the prompt "compact" behind HTTP. `faults` are used up one a request: a status, or what `_faulty` knows.

    `open` counts the requests that are being answered now, `gone` those whose caller has closed the connection.
    """

    encoder: ChatEncoder
    say: Say = higher
    delay_s: float = 0.0
    p_first: Callable[[str, str], list[float]] = lambda a, b: [-0.1, -2.4]
    well: bool = True
    faults: list[int | str] = field(default_factory=list)
    seen: list[dict[str, Any]] = field(default_factory=list)
    models: list[dict[str, Any]] = field(default_factory=lambda: [{"id": "judge", "max_model_len": 4096}])
    url: str = ""
    open: int = 0
    gone: int = 0

    def shown(self, body: dict[str, Any]) -> tuple[str, str]:
        text = self.encoder.tokenizer.decode(body["prompt"])
        a, b = (text.split(f"\n{name}: ")[1].split("\n")[0] for name in "AB")
        return a, b

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        self.seen.append(body)
        self.open += 1
        try:
            fault = self.faults.pop(0) if self.faults else None
            if fault == "hang":
                await asyncio.sleep(3600)
            await asyncio.sleep(self.delay_s)
            if fault is not None:
                return self._faulty(request, fault)
            return web.json_response({"choices": [self.choice(body, j) for j in range(body["n"])]})
        except asyncio.CancelledError:
            self.gone += 1
            raise
        finally:
            self.open -= 1

    def choice(self, body: dict[str, Any], j: int) -> dict[str, Any]:
        a, b = self.shown(body)
        if "logprob_token_ids" in body:
            found = self.p_first(a, b)
            top = {f"token_id:{token}": x for token, x in zip(body["logprob_token_ids"], found, strict=True)}
            ids, finish, logprobs = body["logprob_token_ids"][:1], "length", {"top_logprobs": [top]}
            return {"index": j, "token_ids": ids, "finish_reason": finish, "logprobs": logprobs}
        ids = [*self.encoder.text_ids(self.say(a, b)), self.encoder.end_id]
        cut = len(ids) > body["max_tokens"]
        return {"index": j, "token_ids": ids[: body["max_tokens"]], "finish_reason": "length" if cut else "stop"}

    def _faulty(self, request: web.Request, fault: int | str) -> web.StreamResponse:
        if fault == "closed":
            assert request.transport is not None
            request.transport.close()
        if fault == "empty":
            return web.json_response({"choices": []})
        if fault == "no ids":
            return web.json_response({"choices": [{"index": 0, "text": "A", "finish_reason": "stop"}]})
        return web.Response(text="not JSON", status=fault if isinstance(fault, int) else 200)

    async def health(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if self.well else 503)

    async def listed(self, request: web.Request) -> web.Response:
        return web.json_response({"data": self.models})

    @contextlib.asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[StandIn]:
        app = web.Application(client_max_size=1 << 26)
        app.add_routes([web.get("/health", self.health), web.get("/v1/models", self.listed)])
        app.add_routes([web.post("/v1/completions", self.complete)])
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()
            await asyncio.sleep(0.02)  # connections are closed in the loop's next turns


@contextlib.asynccontextmanager
async def gateway(
    *stand_ins: StandIn, query: JudgeQuery | None = None, key: str | None = None, at_once: int = 64, **options: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service's application in this process, over these servers, which are started."""
    async with contextlib.AsyncExitStack() as stack:
        for one in stand_ins:
            await stack.enter_async_context(one.running())
        servers = Servers([Server(one.url, model="judge") for one in stand_ins], at_once)
        await stack.enter_async_context(servers.opened())
        for server in servers.servers:
            await servers.check(server)
        judge = ServedJudge(servers, stand_ins[0].encoder, query or JudgeQuery("compact", 64, 512, seed=3))
        app = create_app(Service(judge, Metrics(servers), **options), key)
        transport = httpx.ASGITransport(app)
        yield await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://service"))


async def post(client: httpx.AsyncClient, path: str, status: int = 200, **body: Any) -> Any:
    """The JSON of an answer, which must have this status."""
    answer = await client.post(path, json=body, timeout=30)
    assert answer.status_code == status, answer.text
    return answer.json()
