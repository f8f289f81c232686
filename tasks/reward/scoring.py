"""A group of responses to one prompt, scored by a strategy of `tasks.reward.groups` against a served judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

from data.records import Message, ResponsePair
from tasks.model.judging import JudgeQuery
from tasks.rank.inputs import pair_of, read_response, read_responses
from tasks.rank.tournaments import Match, Ranking, RankMethod, Running, ranking
from tasks.reward.groups import GROUP_OF_ONE, NO_VERDICT, REFERENCE, Rewards, Strategy, cost, strategy
from tasks.reward.judging import Compared, ServedJudge


@dataclass(frozen=True)
class Group:
    """Responses to one prompt, of which at least one; `reference` is what the strategy "reference" compares them with."""

    prompt: tuple[Message, ...]
    responses: tuple[str, ...]
    strategy: Strategy
    reference: str | None = None
    seed: int = 0

    @property
    def planned(self) -> int:
        """The comparisons that the strategy needs at most, each in both orders."""
        return cost(self.strategy, len(self.responses))

    def play(self) -> Generator[list[Match], Mapping[Match, float | None], Rewards]:
        """The strategy's matches. Raises ValueError if it cannot be used on this group."""
        return strategy(self.strategy, len(self.responses), self.seed, self.reference is not None)

    def check(self) -> None:
        """Raises ValueError for a group that cannot be scored."""
        self.play().close()
        read_responses(self.responses, self.prompt)
        if self.reference is not None:
            read_response(self.reference, "reference")

    def pair(self, match: Match) -> ResponsePair:
        first, second = match
        return pair_of(self.prompt, self.responses[first], self._second(second))

    def _second(self, second: int) -> str:
        if second != REFERENCE:
            return self.responses[second]
        assert self.reference is not None
        return self.reference


@dataclass(frozen=True)
class Scored:
    """The reward of each response, from 0 to 1, or None and a reason; and the comparisons that it was made of."""

    rewards: tuple[float | None, ...]
    reasons: tuple[str | None, ...]
    cycles: tuple[tuple[int, ...], ...]
    comparisons: Mapping[Match, Compared]

    @property
    def tokens(self) -> int:
        return sum(found.tokens for found in self.comparisons.values())


async def score_group(judge: ServedJudge, group: Group, query: JudgeQuery, deadline: float) -> Scored:
    """Plays a group's matches, those of a round at the same time.

    A response gets its reward from what has been answered by the deadline, in seconds of the event loop's clock.
    """
    playing = group.play()
    seen: dict[Match, Compared] = {}
    shares: dict[Match, float | None] | None = None
    while True:
        try:
            matches = next(playing) if shares is None else playing.send(shares)
        except StopIteration as over:
            result = over.value
            break
        found = await judge.compare_all([group.pair(match) for match in matches], query, deadline)
        seen |= dict(zip(matches, found, strict=True))
        shares = {match: one.share for match, one in zip(matches, found, strict=True)}
    reasons = tuple(_reason(i, why, seen) for i, why in enumerate(result.reasons))
    return Scored(result.values, reasons, result.cycles, seen)


def _reason(i: int, why: str | None, seen: Mapping[Match, Compared]) -> str | None:
    """The most frequent reason of the comparisons that a response without a reward was in."""
    if why is None or why == GROUP_OF_ONE:
        return why
    reasons = Counter(found.reason for match, found in seen.items() if i in match and found.reason)
    return reasons.most_common(1)[0][0] if reasons else NO_VERDICT


@dataclass(frozen=True)
class Ranked:
    """A ranking, or None if a comparison has failed: then `reason` says why."""

    ranking: Ranking | None
    reason: str | None
    comparisons: Mapping[Match, Compared]

    @property
    def undecided(self) -> tuple[Match, ...]:
        """The matches without any verdict: half a win to each."""
        return tuple(match for match, found in self.comparisons.items() if found.comparison.is_undecided)


async def rank_responses(
    judge: ServedJudge,
    prompt: tuple[Message, ...],
    responses: Sequence[str],
    method: RankMethod,
    query: JudgeQuery,
    deadline: float,
) -> Ranked:
    """All responses in order, as `tasks.rank.Judge.rank`. There is no order if the engine has failed or the time was up."""
    running, seen = Running(ranking(len(responses), method)), dict[Match, Compared]()
    running.step()
    while running.result is None:
        pairs = [pair_of(prompt, responses[a], responses[b]) for a, b in running.waiting]
        found = await judge.compare_all(pairs, query, deadline)
        seen |= dict(zip(running.waiting, found, strict=True))
        failed = next((one for one in found if one.comparison.failed), None)
        if failed is not None:
            return Ranked(None, failed.reason, seen)
        running.step({match: one.comparison.share for match, one in zip(running.waiting, found, strict=True)})
    assert isinstance(running.result, Ranking)
    return Ranked(running.result, None, seen)
