"""vLLM's servers, one or several: which of them gets a request, and what becomes of it if that one fails.

A request goes to the server with the fewest outstanding ones. A server that cannot be reached is left out until its ``/health``
answers again, and what it was working on is asked once more, elsewhere if there is another. Whoever stops waiting (a deadline, a
caller that has gone) closes the connection: then vLLM drops the request, and its place in the batch is free.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import aiohttp
import orjson

from tasks.model.endpoint_errors import KEY_VARIABLE
from tasks.reward.completions import BadReplyError

_AT_ONCE = 1024
"""Requests that a server is given at once: as many sequences as vLLM batches by default on a large GPU."""
_LOOK_S, _HEALTH_S, _MISSES = 1.0, 5.0, 3
"""How often health is asked for, how long an answer may take, and how many may be missing: a busy server is slow to answer."""
_KEEP_ALIVE_S = 2.0
"""Below the 5 s after which vLLM's server closes an idle connection, perhaps while it is being used again."""
_FAULTS, _REST_S = 3, 10.0
"""After so many failures in a row, a server only gets what no other has room for, for so long."""
_TOO_BUSY, _SERVER_ERRORS = 429, range(500, 600)

Read = TypeVar("Read")


class ServerError(RuntimeError):
    """A request that no server has answered: `reason` is a word that is counted, the text says what happened."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class _MayPassError(ServerError):
    """A failure that the same request may not have a second time."""


@dataclass(eq=False)
class Server:
    """One of vLLM's servers: its URL without "/v1", and the name that it gives the model.

    `faults` are its failures since its last good reply: a server that fails at once would always be the one with the fewest
    outstanding requests.
    """

    url: str
    key: str = ""
    model: str = ""
    alive: bool = False
    outstanding: int = 0
    misses: int = 0
    faults: int = 0
    rests_until: float = 0.0
    gone: asyncio.Future[None] | None = None
    checking: asyncio.Task[None] | None = None

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}


@dataclass(eq=False)
class Servers:
    """The servers in use; open them with ``async with servers.opened()``. `retries` counts requests that were asked again."""

    servers: Sequence[Server]
    at_once: int = _AT_ONCE
    retries: Counter[str] = field(default_factory=Counter)
    _waiting: deque[tuple[asyncio.Future[Server], Server | None]] = field(default_factory=deque)
    _session: aiohttp.ClientSession | None = None
    _outside: int = 0

    def __post_init__(self) -> None:
        self._admission = asyncio.Semaphore(self.at_once * max(1, len(self.servers)))

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Servers]:
        """Connects, and watches the servers' health until the end of the block."""
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S)
        # No time limit: whoever asks has a deadline, and stops waiting.
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))
        watching = asyncio.create_task(self._watch())
        try:
            yield self
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await self._session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        assert self._session is not None, "the servers are not open"
        return self._session

    @property
    def queued(self) -> int:
        """Requests that wait until a server has room for them, or is there again."""
        return self._outside + sum(not place.done() for place, _ in self._waiting)

    @contextlib.asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """Waits until the servers have room, in the order of asking.

        For what a request costs before it is sent: where there are more than can be answered, that is not spent on those that
        their deadline will end here.
        """
        self._outside += 1
        try:
            await self._admission.acquire()
        finally:
            self._outside -= 1
        try:
            yield
        finally:
            self._admission.release()

    async def ask(self, body: Callable[[str], dict[str, Any]], read: Callable[[Any], Read]) -> Read:
        """What `read` makes of a server's reply to the body for its model.

        Waits until a server has room. Asks once more after an error of the server, a lost connection, and a reply that `read`
        raises BadReplyError for. Raises ServerError if that does not help, and at once for a request that is refused.
        """
        failed: Server | None = None
        while True:
            server = await self._place(avoid=failed)
            try:
                found = read(await self._post(server, orjson.dumps(body(server.model))))
                server.faults = 0
                return found
            except (BadReplyError, _MayPassError) as error:
                self._note_fault(server)
                reason = getattr(error, "reason", "server_bad_reply")
                if failed is not None:
                    raise ServerError(reason, str(error)) from error
                self.retries[reason] += 1
                failed = server
            finally:
                self._leave(server)

    async def identify(self, server: Server, context: int) -> None:
        """Finds out what a server calls its model. Raises ServerError for one that cannot be the judge's.

        It must be there, accept the key, have one model (or the one that is named), and take `context` tokens.
        """
        try:
            async with self.session.get(
                f"{server.url}/v1/models", headers=server.headers, timeout=aiohttp.ClientTimeout(total=_HEALTH_S)
            ) as response:
                content, status = await response.read(), response.status
            if status in (401, 403):
                raise ServerError(
                    "key", f"{server.url} refuses the API key (HTTP {status}): set {KEY_VARIABLE} to its key"
                )
            listed = {str(one["id"]): one.get("max_model_len") for one in orjson.loads(content)["data"]}
        except (aiohttp.ClientError, OSError) as error:
            raise ServerError(
                "lost", f"nothing answers at {server.url} ({error}): is vLLM's server running?"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise ServerError("other", f"{server.url} does not answer as vLLM's server: check the URL") from error
        if server.model not in listed and (server.model or len(listed) != 1):
            raise ServerError("model", f"{server.url} serves {', '.join(listed) or 'no model'}: give it as URL#MODEL")
        server.model = server.model or next(iter(listed))
        longest = listed[server.model]
        if isinstance(longest, int) and longest < context:
            raise ServerError(
                "context",
                f"{server.url} takes {longest} tokens, the judge needs {context}: start it with --max-model-len {context}",
            )

    # ---- places -----------------------------------------------------------------------------------------------------

    async def _place(self, avoid: Server | None) -> Server:
        """A place at a server, in the order in which they are asked for. It must be left again."""
        self._hand_out()
        server = None if self._waiting else self._choose(avoid)
        if server is not None:
            server.outstanding += 1
            return server
        place: asyncio.Future[Server] = asyncio.get_running_loop().create_future()
        self._waiting.append((place, avoid))
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._leave(place.result())
            raise

    def _leave(self, server: Server) -> None:
        server.outstanding -= 1
        self._hand_out()

    def _hand_out(self) -> None:
        while self._waiting:
            place, avoid = self._waiting[0]
            server = None if place.done() else self._choose(avoid)
            if server is not None:
                server.outstanding += 1
                place.set_result(server)
            elif not place.done():
                return
            self._waiting.popleft()

    def _choose(self, avoid: Server | None) -> Server | None:
        now = asyncio.get_running_loop().time()
        free = [one for one in self.servers if one.alive and one.outstanding < self.at_once]
        return min(free, key=lambda one: (one is avoid, one.rests_until > now, one.outstanding), default=None)

    def _note_fault(self, server: Server) -> None:
        server.faults += 1
        if server.faults >= _FAULTS:
            server.rests_until = asyncio.get_running_loop().time() + _REST_S

    # ---- asking -----------------------------------------------------------------------------------------------------

    async def _post(self, server: Server, body: bytes) -> Any:
        """The JSON of the server's reply; ends early if the server is found to be gone."""
        gone = server.gone
        if gone is None or gone.done():
            raise _MayPassError("server_lost", f"{server.url} is gone")
        asking = asyncio.create_task(self._exchange(server, body))
        asking.add_done_callback(lambda task: task.cancelled() or task.exception())  # it may end after its caller
        try:
            await asyncio.wait({asking, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise _MayPassError("server_lost", f"{server.url} does not answer any more")
            return asking.result()
        finally:
            asking.cancel()

    async def _exchange(self, server: Server, body: bytes) -> Any:
        headers = {"Content-Type": "application/json", **server.headers}
        try:
            async with self.session.post(f"{server.url}/v1/completions", data=body, headers=headers) as response:
                content, status = await response.read(), response.status
        except (aiohttp.ClientError, OSError) as error:
            await self.check(server)
            raise _MayPassError("server_lost", f"{server.url}: {error or type(error).__name__}") from error
        if status != 200:
            kind = _MayPassError if status == _TOO_BUSY or status in _SERVER_ERRORS else ServerError
            raise kind(f"server_{status}", f"{server.url}: HTTP {status}: {_words(content)}")
        try:
            return orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise BadReplyError(f"{server.url}: the reply is not JSON: {_words(content)}") from error

    # ---- health -----------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            await asyncio.gather(*(self.check(server) for server in self.servers))
            await asyncio.sleep(_LOOK_S)

    async def check(self, server: Server) -> None:
        """Asks for a server's health, and takes the server in or leaves it out accordingly. One question at a time."""
        if server.checking is None or server.checking.done():
            server.checking = asyncio.create_task(self._check(server))
        await asyncio.shield(server.checking)

    async def _check(self, server: Server) -> None:
        try:
            timeout = aiohttp.ClientTimeout(total=_HEALTH_S)
            async with self.session.get(f"{server.url}/health", timeout=timeout) as response:
                well, server.misses = response.status == 200, 0
        except TimeoutError:
            server.misses += 1
            well = server.alive and server.misses < _MISSES
        except (aiohttp.ClientError, OSError):
            well = False
        if well and not server.alive:
            server.gone = asyncio.get_running_loop().create_future()
            server.alive, server.faults, server.rests_until = True, 0, 0.0
            self._hand_out()
        elif not well and server.alive:
            server.alive = False
            if server.gone is not None:
                server.gone.set_result(None)


def _words(content: bytes) -> str:
    return " ".join(content.decode("utf-8", errors="replace").split())[:300]
