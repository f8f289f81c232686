"""What a judge says about two responses, and what its work has come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from tasks.model.engine import Answer, Failure
from tasks.model.judging import JudgeAnswer, JudgeQuery, read_answer
from tasks.rank.tournaments import Best, Match, Ranking


@dataclass(frozen=True)
class Judged:
    """One answer: the order it was given in (0: as given, 1: swapped), and the side that it favors."""

    order: int
    winner: Literal[0, 1] | None
    answer: JudgeAnswer

    @property
    def share(self) -> float:
        """The first response's share of the win: a probability if there is one; ½ for a tie and for a null verdict."""
        p_first = self.answer.p_first
        if p_first is None:
            return 0.5 if self.winner is None else float(self.winner == 0)
        return p_first if self.order == 0 else 1 - p_first


@dataclass(frozen=True)
class Comparison:
    """All answers about two responses. `winner` is 0 or 1, or None if neither has more than half of the shares."""

    winner: Literal[0, 1] | None
    share: float
    answers: tuple[Judged, ...]

    @property
    def orders(self) -> tuple[float | None, ...]:
        """The share in each order that was shown, over the replies that have a verdict; None where none has."""
        shown = sorted({judged.order for judged in self.answers})
        return tuple(_share_of([judged for judged in self.answers if judged.order == order]) for order in shown)

    @property
    def reward(self) -> float | None:
        """The mean of `orders`, from 0 to 1; None unless each has a verdict.

        `share` counts a reply without a verdict as half a win, which here would be a reward made of nothing; one order alone
        would be the judge's preference for a position.
        """
        shares = [share for share in self.orders if share is not None]
        return round(sum(shares) / len(shares), 12) if len(shares) == len(self.orders) else None

    @property
    def nulls(self) -> int:
        """How many answers have no verdict; `answers` has the reason for each."""
        return sum(judged.answer.malformed is not None for judged in self.answers)

    @property
    def failed(self) -> dict[str, int]:
        """The answers that the engine did not give, by reason."""
        return dict(Counter(judged.answer.malformed or "" for judged in self.answers if judged.answer.failed))

    @property
    def is_undecided(self) -> bool:
        """Whether no answer has a verdict, not even that of a tie."""
        return self.nulls == len(self.answers)

    @property
    def is_tie(self) -> bool:
        """Whether there are verdicts, and none of the two has won."""
        return self.winner is None and not self.is_undecided

    @property
    def consistent(self) -> bool | None:
        """Whether both orders favor the same side, each by its own majority; None if only one order was shown."""
        sides = [self._side(order) for order in (0, 1)]
        return None if None in sides else sides[0] == sides[1] != 0

    def _side(self, order: int) -> int | None:
        winners = [judged.winner for judged in self.answers if judged.order == order]
        return (winners.count(0) > winners.count(1)) - (winners.count(0) < winners.count(1)) if winners else None


def _share_of(answers: Sequence[Judged]) -> float | None:
    shares = [one.share for one in answers if one.answer.malformed is None]
    return sum(shares) / len(shares) if shares else None


def judged_in(order: int, answer: JudgeAnswer) -> Judged:
    """An answer about a pair that was shown in this order."""
    winner: Literal[0, 1] | None = None
    if answer.verdict is not None:
        winner = 0 if (answer.verdict == "A") == (order == 0) else 1
    return Judged(order, winner, answer)


def failed_answer(failure: Failure) -> JudgeAnswer:
    """The answer that an engine did not give."""
    return JudgeAnswer(None, malformed=failure.reason, failed=True, detail=failure.detail)


def read_order(query: JudgeQuery, order: int, answer: Answer) -> list[Judged]:
    """All answers in one order, as many as the query asks for, whatever the engine has returned."""
    if isinstance(answer, Failure):
        return [judged_in(order, failed_answer(answer))] * query.replies
    return [judged_in(order, read_answer(query, completion)) for completion in answer]


def compare_answers(answers: Sequence[Judged]) -> Comparison:
    """The comparison that these answers, at least one, add up to."""
    # Complementary probabilities add up to one except for their last bits.
    share = round(sum(judged.share for judged in answers) / len(answers), 12)
    return Comparison(None if share == 0.5 else 0 if share > 0.5 else 1, share, tuple(answers))


@dataclass
class Usage:
    """A judge's work so far, discarded replies and all.

    `nulls` counts answers without a verdict, `ties` comparisons with verdicts and without a winner; `failures` has for each
    reason of a failure the engine's own words, where it first occurred.
    """

    comparisons: int = 0
    generations: int = 0
    batches: int = 0
    tokens: int = 0
    nulls: int = 0
    ties: int = 0
    failures: dict[str, str] = field(default_factory=dict)


def with_losses(result: Best | Ranking, compared: Mapping[Match, Comparison]) -> Best | Ranking:
    """The result, with what its matches lacked; those without any verdict are no ties."""
    failed: Counter[str] = Counter()
    for one in compared.values():
        failed.update(one.failed)
    decided = {frozenset(match) for match, one in compared.items() if not one.is_undecided}
    return replace(
        result,
        ties=tuple(match for match in result.ties if frozenset(match) in decided),
        undecided=tuple(match for match in result.ties if frozenset(match) not in decided),
        nulls=sum(one.nulls for one in compared.values()),
        failed=dict(failed),
    )
