"""The reward service on a port of the loopback, over a stand-in for vLLM's server, for clients that are no tests."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from tasks.model.judging import JudgeQuery
from tasks.reward.app import create_app
from tasks.reward.judging import ServedJudge
from tasks.reward.metrics import Metrics
from tasks.reward.servers import Server, Servers
from tasks.reward.service import Service
from tests.support.vllm_server import StandIn


@contextlib.contextmanager
def reward_service(stand_in: StandIn, key: str | None = None, **options: Any) -> Iterator[str]:
    """Its URL, which the environment names, with its key."""
    started, stopped, ports = threading.Event(), threading.Event(), list[int]()

    async def serve() -> None:
        async with stand_in.running():
            servers = Servers([Server(stand_in.url, model="judge")], 64)
            async with servers.opened():
                await servers.check(servers.servers[0])
                judge = ServedJudge(servers, stand_in.encoder, JudgeQuery("compact", 64, 512))
                app = create_app(Service(judge, Metrics(servers), **options), key)
                server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off"))
                serving = asyncio.create_task(server.serve())
                while not server.started:
                    await asyncio.sleep(0.01)
                ports.append(server.servers[0].sockets[0].getsockname()[1])
                started.set()
                while not stopped.is_set():
                    await asyncio.sleep(0.01)
                server.should_exit = True
                await serving

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert started.wait(20)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GRAM_R2_REWARD_URL", f"http://127.0.0.1:{ports[0]}")
            if key:
                patch.setenv("GRAM_R2_API_KEY", key)
            yield f"http://127.0.0.1:{ports[0]}"
    finally:
        stopped.set()
        thread.join()
