"""The service's own endpoints: rewards of a group, a comparison, a ranking."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from fastapi import FastAPI, Request

from tasks.rank.inputs import pair_of
from tasks.rank.judge import INVALID
from tasks.rank.tournaments import Match
from tasks.reward.groups import REFERENCE
from tasks.reward.judging import Compared
from tasks.reward.limits import COMPARISONS, InvalidPromptError, RefusedError, while_caller_waits
from tasks.reward.protocol import (
    CompareAnswer,
    CompareRequest,
    OneComparison,
    RankAnswer,
    RankRequest,
    RewardsAnswer,
    RewardsRequest,
)
from tasks.reward.scoring import rank_responses
from tasks.reward.service import Service


def add_native(app: FastAPI, service: Service) -> None:
    """Adds /v1/rewards, /v1/compare and /v1/rank."""
    _add_groups(app, service)
    _add_rank(app, service)


def _add_groups(app: FastAPI, service: Service) -> None:
    @app.post("/v1/rewards")
    async def rewards(body: RewardsRequest, request: Request) -> RewardsAnswer:
        """A reward from 0 to 1 for each response of a group, or null with a reason.

        A conversation that cannot be judged gives null as well: one row of its data is not to end a training.
        """
        begun, deadline, query = service.now(), service.deadline(body.deadline_s), service.query(body)
        try:
            turns = body.turns()
        except InvalidPromptError:
            return _invalid(service, body)
        group = service.group(turns, body.responses, body.strategy, body.reference, body.seed)
        scored = await while_caller_waits(request, service.score(group, query, deadline, body.length_slope))
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
            orders=list(found.comparison.orders),
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


def _invalid(service: Service, body: RewardsRequest) -> RewardsAnswer:
    reasons: list[str | None] = [INVALID] * len(body.responses)
    service.metrics.count_null_rewards(reasons)
    return RewardsAnswer(
        rewards=[None] * len(reasons),
        reasons=reasons,
        strategy=body.strategy or service.strategy,
        comparisons=[],
        cycles=[],
        tokens=0,
        comparisons_planned=0,
        elapsed_s=0.0,
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
            orders=list(found.comparison.orders),
            reason=found.reason,
        )
        for (first, second), found in comparisons.items()
    ]
