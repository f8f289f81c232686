"""What a request may be at most, and who may send one: checked before anything is spent on it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

KEY_VARIABLE = "GRAM_R2_API_KEY"
"""If it is set where the service runs, every request except for /health, /metrics and the docs must carry it as its bearer."""
BODY_BYTES = 16 << 20
RESPONSES, COMPARISONS, VOTES = 256, 4096, 64
CHARACTERS = 1_000_000
"""Of one text; a longer one is not encoded, and does not fit. What else is too long for the context is told by its tokens."""
DEADLINE_S = 100.0
"""Below the 120 s (slime) and 180 s (OpenRLHF) after which trainers give up on an answer."""
_OPEN = ("/health", "/metrics", "/docs", "/openapi.json")

Result = TypeVar("Result")


class RefusedError(ValueError):
    """A request that cannot be carried out as it is: what is wrong with it, and what to do. Answered with 422."""


class InvalidPromptError(RefusedError):
    """A conversation that no judge can be shown: one row of a trainer's data, where everything else may be right."""


class UnscoredError(RuntimeError):
    """A trainer's request that cannot be given a number: why. Answered with 503, so that the trainer's own rules apply."""


class UnscorableError(UnscoredError):
    """One that would fare the same again: answered with 422, upon which nobody asks the judge once more."""


class CallerGoneError(Exception):
    """Nobody waits for the answer any more."""


class Gate:
    """ASGI middleware: 401 without the key, 413 for a body over `BODY_BYTES`, also one whose length is not told."""

    def __init__(self, app: ASGIApp, key: str | None, body_bytes: int = BODY_BYTES) -> None:
        self.app, self.key, self.body_bytes = app, key, body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if self.key and scope["path"] not in _OPEN and not self._has_key(headers.get(b"authorization", b"")):
            await self._refuse(401, f"wrong or missing key: send {KEY_VARIABLE} as 'Authorization: Bearer …'")(
                scope, receive, send
            )
            return
        told = headers.get(b"content-length", b"0")
        if not told.isdigit() or int(told) > self.body_bytes:
            await self._too_large()(scope, receive, send)
            return
        body, more = bytearray(), True
        while more:  # in full, so that nothing has been answered yet when it turns out to be too large
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self.body_bytes:
                await self._too_large()(scope, receive, send)
                return
        await self.app(scope, _received(bytes(body), receive), send)

    def _has_key(self, header: bytes) -> bool:
        return secrets.compare_digest(header, f"Bearer {self.key}".encode())

    def _too_large(self) -> JSONResponse:
        return self._refuse(413, f"the body is over {self.body_bytes:,} bytes: send fewer or shorter responses")

    @staticmethod
    def _refuse(status: int, why: str) -> JSONResponse:
        return JSONResponse({"detail": why}, status)


def _received(body: bytes, receive: Receive) -> Receive:
    """What hands out a body that has been read, and then what else is received: that the caller has gone."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def while_caller_waits(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of the work, which is cancelled when the caller closes the connection: CallerGoneError then."""
    working, leaving = asyncio.create_task(work), asyncio.create_task(_has_left(request.receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise CallerGoneError
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _has_left(receive: Callable[[], Awaitable[Message]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
