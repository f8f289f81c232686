"""A served judge as a reward: what every endpoint does with it, and what holds where a request says nothing else.

Every answer comes by the request's deadline; what has no verdict by then is null and says why. Nothing that fails becomes a
number.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from data.records import Message as Turn
from data.records import ResponsePair, prompt_key
from data.seeds import derive_seed
from tasks.model.judging import JudgeQuery
from tasks.reward.groups import Strategy
from tasks.reward.judging import Compared, ServedJudge
from tasks.reward.length import length_controlled
from tasks.reward.limits import COMPARISONS, DEADLINE_S, RefusedError
from tasks.reward.metrics import Metrics
from tasks.reward.protocol import Asked
from tasks.reward.scoring import Group, Scored, score_group
from tasks.reward.templated import without_default_system

_AHEAD_S, _AHEAD_SHARE = 1.0, 0.05
"""How long before its deadline a request is answered, and at most which share of it: the answer takes its time to arrive."""


@dataclass(frozen=True)
class Service:
    """A judge as a reward, with what holds where a request says nothing else; `deadline_s` holds in any case.

    `length_slope` is what being twice as long as the group's mean is worth, and is taken off a group's rewards. `references`
    are those of prompts, by their `prompt_key`, for requests that bring none.
    """

    judge: ServedJudge
    metrics: Metrics
    strategy: Strategy = "circular-twice"
    deadline_s: float = DEADLINE_S
    length_slope: float = 0.0
    references: Mapping[str, str] = field(default_factory=dict)

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def deadline(self, asked_s: float | None = None) -> float:
        """When a request that comes in now is answered at the latest: by the service's deadline or its own, the earlier one."""
        whole_s = min(asked_s or self.deadline_s, self.deadline_s)
        return self.now() + whole_s - min(_AHEAD_S, _AHEAD_SHARE * whole_s)

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

    async def score(
        self, group: Group, query: JudgeQuery, deadline: float, length_slope: float | None = None
    ) -> Scored:
        """Scores a group, and counts that. Raises RefusedError for one that cannot be, before anything is asked.

        The counted rewards are those before anything is taken off for the length.
        """
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
        self.metrics.count_group(scored.rewards, group.responses)
        slope = self.length_slope if length_slope is None else length_slope
        if not slope:
            return scored
        controlled = length_controlled(scored.rewards, [len(text) for text in group.responses], slope)
        return replace(scored, rewards=tuple(controlled or scored.rewards))

    def reference_of(self, turns: tuple[Turn, ...]) -> str | None:
        """The reference response of a prompt. Raises RefusedError if there are some, but none for this prompt."""
        found = self.references.get(prompt_key(without_default_system(turns)))
        if found is None and self.references:
            raise RefusedError(f"the service's references have none for this prompt: {turns[-1].content[:80]!r}")
        return found

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
        if chosen == "reference" and reference is None:
            reference = self.reference_of(turns)
        drawn = derive_seed(self.judge.query.seed if seed is None else seed, prompt_key(turns), *responses)
        return Group(turns, tuple(responses), chosen, reference, drawn)
