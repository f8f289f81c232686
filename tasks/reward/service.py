"""The reward service as an ASGI application: its own endpoints, health and metrics. `flows.cli.reward` runs it.

Every answer comes by the request's deadline; what has no verdict by then is null and says why. Nothing that fails becomes a
number.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response

from data.records import Message as Turn
from data.records import RecordError, ResponsePair, prompt_key
from data.seeds import derive_seed
from tasks.model.judging import JudgeQuery
from tasks.rank.inputs import pair_of
from tasks.rank.tournaments import Match
from tasks.reward.groups import REFERENCE, Strategy
from tasks.reward.judging import Compared, ServedJudge
from tasks.reward.limits import (
    COMPARISONS,
    DEADLINE_S,
    CallerGoneError,
    Gate,
    RefusedError,
    while_caller_waits,
)
from tasks.reward.metrics import Counted, Metrics
from tasks.reward.protocol import (
    Asked,
    CompareAnswer,
    CompareRequest,
    OneComparison,
    RankAnswer,
    RankRequest,
    RewardsAnswer,
    RewardsRequest,
)
from tasks.reward.scoring import Group, Scored, rank_responses, score_group

_GONE = 499
"""As nginx counts a caller who has closed the connection; nobody reads it."""


@dataclass(frozen=True)
class Service:
    """A judge as a reward, with what holds where a request says nothing else. `deadline_s` is also the most that one may ask."""

    judge: ServedJudge
    metrics: Metrics
    strategy: Strategy = "all-pairs"
    deadline_s: float = DEADLINE_S

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def deadline(self, asked_s: float | None = None) -> float:
        """The deadline of a request that comes in now. Raises RefusedError for a later one than the service's."""
        if asked_s is not None and asked_s > self.deadline_s:
            raise RefusedError(f"deadline_s may be at most {self.deadline_s:g} here, got {asked_s:g}")
        return self.now() + (asked_s or self.deadline_s)

    def query(self, asked: Asked) -> JudgeQuery:
        """How the judge is asked for this request. Raises RefusedError for votes that it cannot give."""
        query = self.judge.query
        if query.by_label and (asked.votes or 1) > 1:
            raise RefusedError("this judge gives probabilities and is not sampled: leave out votes")
        votes, seed = asked.votes or query.votes, query.seed if asked.seed is None else asked.seed
        try:
            return replace(query, votes=votes, seed=seed)
        except ValueError as error:
            raise RefusedError(f"{error}: start the service with --temperature") from error

    async def compare(self, pairs: list[ResponsePair], query: JudgeQuery, deadline: float) -> list[Compared]:
        """Compares pairs, and counts that."""
        found = await self.judge.compare_all(pairs, query, deadline)
        self.metrics.count(found)
        return found

    async def score(self, group: Group, query: JudgeQuery, deadline: float) -> Scored:
        """Scores a group, and counts that. Raises RefusedError for one that cannot be, before anything is asked."""
        if group.planned > COMPARISONS:
            raise RefusedError(
                f"{len(group.responses)} responses by {group.strategy!r} are {group.planned:,} comparisons, more than "
                f"{COMPARISONS:,}: use another strategy, or smaller groups"
            )
        try:
            group.check()
        except ValueError as error:
            raise RefusedError(str(error)) from error
        scored = await score_group(self.judge, group, query, deadline)
        self.metrics.count(scored.comparisons.values())
        self.metrics.count_null_rewards(scored.reasons)
        return scored

    def group(
        self,
        turns: tuple[Turn, ...],
        responses: list[str],
        strategy: Strategy | None = None,
        reference: str | None = None,
        seed: int | None = None,
    ) -> Group:
        """A group by the service's strategy, or "reference" where there is one. The same group is always drawn the same."""
        chosen = strategy or ("reference" if reference is not None else self.strategy)
        drawn = derive_seed(self.judge.query.seed if seed is None else seed, prompt_key(turns), *responses)
        return Group(turns, tuple(responses), chosen, reference, drawn)


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
    _add_groups(app, service)
    _add_rank(app, service)
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
    for refused in (RefusedError, RecordError):
        app.add_exception_handler(refused, refuse(422))


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


def _add_groups(app: FastAPI, service: Service) -> None:
    @app.post("/v1/rewards")
    async def rewards(body: RewardsRequest, request: Request) -> RewardsAnswer:
        """A reward from 0 to 1 for each response of a group, or null with a reason."""
        begun, deadline, query = service.now(), service.deadline(body.deadline_s), service.query(body)
        group = service.group(body.turns(), body.responses, body.strategy, body.reference, body.seed)
        scored = await while_caller_waits(request, service.score(group, query, deadline))
        return RewardsAnswer(
            rewards=list(scored.rewards),
            reasons=list(scored.reasons),
            strategy=group.strategy,
            comparisons=_listed(scored.comparisons),
            cycles=[list(cycle) for cycle in scored.cycles],
            tokens=scored.tokens,
            comparisons_planned=group.planned,
            elapsed_s=round(service.now() - begun, 4),
        )

    @app.post("/v1/compare")
    async def compare(body: CompareRequest, request: Request) -> CompareAnswer:
        """Which of two responses is better, in both orders."""
        begun, deadline, query = service.now(), service.deadline(body.deadline_s), service.query(body)
        pair = pair_of(body.turns(), body.a, body.b)
        [found] = await while_caller_waits(request, service.compare([pair], query, deadline))
        return CompareAnswer(
            winner=_winner(found),
            share=found.share,
            orders=list(found.orders),
            reason=found.reason,
            rationales=[one.answer.rationale for one in found.comparison.answers],
            tokens=found.tokens,
            elapsed_s=round(service.now() - begun, 4),
        )


def _add_rank(app: FastAPI, service: Service) -> None:
    @app.post("/v1/rank")
    async def rank(body: RankRequest, request: Request) -> RankAnswer:
        """All responses in order, best first."""
        begun, deadline, query = service.now(), service.deadline(body.deadline_s), service.query(body)
        planned = len(body.responses) * (len(body.responses) - 1) // 2
        if planned > COMPARISONS:
            raise RefusedError(
                f"{len(body.responses)} responses are {planned:,} comparisons, more than {COMPARISONS:,}"
            )
        ranked = await while_caller_waits(
            request, rank_responses(service.judge, body.turns(), body.responses, body.method, query, deadline)
        )
        service.metrics.count(ranked.comparisons.values())
        found = ranked.ranking
        return RankAnswer(
            order=list(found.order) if found else None,
            reason=ranked.reason,
            wins=list(found.wins) if found and found.wins else None,
            strengths=list(found.strengths) if found and found.strengths else None,
            ties=[match for match in found.ties if match not in ranked.undecided] if found else [],
            undecided=list(ranked.undecided),
            cycles=[list(cycle) for cycle in found.cycles] if found else [],
            equal=[list(some) for some in found.equal] if found else [],
            comparisons=_listed(ranked.comparisons),
            tokens=sum(one.tokens for one in ranked.comparisons.values()),
            elapsed_s=round(service.now() - begun, 4),
        )


def _winner(found: Compared) -> Literal["a", "b", "tie"] | None:
    if found.share is None:
        return None
    return "tie" if found.share == 0.5 else "a" if found.share > 0.5 else "b"


def _listed(comparisons: Mapping[Match, Compared]) -> list[OneComparison]:
    return [
        OneComparison(
            first=first,
            second=None if second == REFERENCE else second,
            share=found.share,
            orders=list(found.orders),
            reason=found.reason,
        )
        for (first, second), found in comparisons.items()
    ]
