"""The reward service as an ASGI application: its endpoints, health and metrics, and what is said of errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response

from data.records import RecordError
from tasks.reward.limits import CallerGoneError, Gate, RefusedError, UnscorableError, UnscoredError
from tasks.reward.metrics import Counted
from tasks.reward.native import add_native
from tasks.reward.service import Service
from tasks.reward.trainer_shapes import add_trainers

_GONE = 499
"""As nginx counts a caller who has closed the connection; nobody reads it."""


def create_app(service: Service, key: str | None = None) -> FastAPI:
    """The application. `key` must come with every request that costs anything; None asks for none."""
    app = FastAPI(
        title="GRAM-R² reward service",
        description="A judge that compares two responses, as the reward of RLHF trainers. Rewards are from 0 to 1, or null.",
        version="1",
    )
    app.state.servers = service.judge.servers
    app.add_middleware(Gate, key=key)
    app.add_middleware(Counted, metrics=service.metrics)
    _explain_errors(app)
    _add_state(app, service)
    add_native(app, service)
    add_trainers(app, service)
    return app


def _explain_errors(app: FastAPI) -> None:
    def refuse(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
        async def answer(request: Request, error: Exception) -> Response:
            return JSONResponse({"detail": " ".join(str(error).split())}, status)

        return answer

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        problems = [f"{'.'.join(map(str, one['loc'][1:])) or 'body'}: {one['msg']}" for one in error.errors()]
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        return JSONResponse({"detail": "; ".join(problems[:3]) + more}, 422)

    async def gone(request: Request, error: Exception) -> Response:
        return Response(status_code=_GONE)

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(CallerGoneError, gone)
    for status, error in ((422, RefusedError), (422, RecordError), (422, UnscorableError), (503, UnscoredError)):
        app.add_exception_handler(error, refuse(status))


def _add_state(app: FastAPI, service: Service) -> None:
    servers = service.judge.servers

    @app.get("/health")
    async def health() -> JSONResponse:
        """200 while at least one server answers, otherwise 503."""
        alive = sum(server.alive for server in servers.servers)
        state = {"status": "ok" if alive else "no server answers", "servers": len(servers.servers), "alive": alive}
        return JSONResponse({**state, "queued": servers.queued}, 200 if alive else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Prometheus metrics."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")
