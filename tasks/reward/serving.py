"""Runs the reward service: its servers, then the port on which it listens."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tasks.machine import child
from tasks.machine.gpus import enough_gpus, visible_gpus
from tasks.model.chat import ChatEncoder
from tasks.model.endpoint_errors import KEY_VARIABLE as SERVER_KEY_VARIABLE
from tasks.rank.opening import Dtype, KnownJudge
from tasks.reward.app import create_app
from tasks.reward.groups import Strategy, cost
from tasks.reward.judging import ServedJudge
from tasks.reward.limits import DEADLINE_S, KEY_VARIABLE
from tasks.reward.local import LocalServers, default_count
from tasks.reward.metrics import Metrics
from tasks.reward.servers import Server, Servers
from tasks.reward.service import Service
from tasks.settings import GenerationSettings

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_EXAMPLE = 8
_BACKLOG, _GRACE_S = 4096, 5
_AT_ONCE_ON_CPU = 256
"""Twice what vLLM batches there."""
_KEEP_ALIVE_S = 75
"""Longer than trainers' clients keep an idle connection: one that is closed as it is used again looks like a failure."""


@dataclass(frozen=True)
class ServeSettings:
    """What ``gram-r2 serve`` was given. Without `urls`, servers are started here: `servers` of them, or one for each GPU."""

    judge: KnownJudge
    urls: Sequence[str] = ()
    servers: int | None = None
    strategy: Strategy = "circular-twice"
    deadline_s: float = DEADLINE_S
    length_slope: float = 0.0
    references: Mapping[str, str] = field(default_factory=dict)
    host: str = "127.0.0.1"
    port: int = 8100
    generation: GenerationSettings = GenerationSettings()
    dtype: Dtype | None = None


def serve(settings: ServeSettings, say: Callable[[str], None]) -> None:
    """Serves until a signal. Raises OSError for a port that cannot be had, ChildError and ServerError for servers that fail."""
    if settings.judge.query.by_score:
        raise ValueError(
            f"{settings.judge.name} scores each response by itself and compares none: serve it with a server for "
            "classification models, or use tasks.rank.open_judge"
        )
    _allow_many_connections()
    child.expect_many_objects()
    asyncio.run(_serve(settings, say))


async def _serve(settings: ServeSettings, say: Callable[[str], None]) -> None:
    import uvicorn

    async with contextlib.AsyncExitStack() as stack:
        listening = stack.enter_context(_bound(settings.host, settings.port))
        encoder = ChatEncoder.load(settings.judge.folder)
        servers = await _open_servers(settings, say, stack)
        judge = ServedJudge(servers, encoder, settings.judge.query)
        service = Service(
            judge, Metrics(servers), settings.strategy, settings.deadline_s, settings.length_slope, settings.references
        )
        app = create_app(service, os.environ.get(KEY_VARIABLE) or None)
        gc.freeze()  # what the libraries have made stays: looking through it again would hold up every caller
        for line in _announced(settings):
            say(line)
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, lifespan="off", timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_GRACE_S, backlog=_BACKLOG,
        )  # fmt: skip
        await uvicorn.Server(config).serve(sockets=[listening])


async def _open_servers(
    settings: ServeSettings, say: Callable[[str], None], stack: contextlib.AsyncExitStack
) -> Servers:
    """The servers, once all of them answer."""
    if settings.urls:
        given = [url.partition("#") for url in settings.urls]
        key = os.environ.get(SERVER_KEY_VARIABLE, "")
        found = [Server(url.rstrip("/").removesuffix("/v1"), key, model) for url, _, model in given]
        servers = await stack.enter_async_context(Servers(found).opened())
        for server in found:
            await servers.identify(server, settings.judge.query.context)
            await servers.check(server)
        return servers
    count = settings.servers or default_count(settings.generation)
    enough_gpus(count * settings.generation.tensor_parallel)
    local = LocalServers(settings.judge, settings.generation, count, say, settings.dtype)
    started = await stack.enter_async_context(local.opened())
    pool = Servers(started) if visible_gpus() else Servers(started, at_once=_AT_ONCE_ON_CPU)
    servers = await stack.enter_async_context(pool.opened())
    while not all(server.alive for server in started):
        local.check_start()
        await asyncio.sleep(0.2)
    return servers


def _announced(settings: ServeSettings) -> list[str]:
    matches = cost(settings.strategy, _EXAMPLE)
    replies = matches * 2 * settings.judge.query.replies
    lines = [
        f"the reward service is at http://{settings.host}:{settings.port}: /v1/rewards, /docs; Ctrl-C stops it",
        f"a group of {_EXAMPLE} by {settings.strategy!r} takes {matches} comparisons, {replies} replies of the judge",
    ]
    if settings.host not in _LOOPBACK and not os.environ.get(KEY_VARIABLE):
        lines.append(f"whoever reaches this port can use the judge: set {KEY_VARIABLE} to ask for a key")
    return lines


def _bound(host: str, port: int) -> socket.socket:
    """The socket that listens, before minutes are spent on loading: callers wait. Raises OSError that says what to do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(_BACKLOG)  # two that are only bound can have one port
    except OSError as error:
        listening.close()
        raise OSError(f"cannot listen on {host}:{port} ({error.strerror}): choose another --port or --host") from error
    return listening


def _allow_many_connections() -> None:
    """A thousand callers and as many requests to a server are more files than the usual 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
