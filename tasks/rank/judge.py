"""A judge over an engine: it compares, votes, finds the best of n and ranks, for many prompts at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from data.records import Message, ResponsePair, parse_pair, prompt_key
from tasks.model.chat import ChatEncoder
from tasks.model.engine import Completion, Failure, OnAnswer, Request
from tasks.model.judging import (
    JudgeAnswer,
    JudgeEncoder,
    JudgeQuery,
    build_request,
    build_score_request,
    compare_scores,
    read_answer,
)
from tasks.model.requests import PROMPT_TOO_LONG, PendingRow
from tasks.rank.tournaments import Best, Method, Ranking, RankMethod, Running, best_of, ranking

Prompt = str | Sequence[Message] | Sequence[dict[str, str]]
"""A string (one user turn), or chat messages that end with a user turn."""


_SCORES_KEPT = 100_000


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
    def nulls(self) -> int:
        """How many answers have no verdict; `answers` has the reason for each."""
        return sum(judged.answer.malformed is not None for judged in self.answers)

    @property
    def failed(self) -> dict[str, int]:
        """The answers that the engine did not give, by reason."""
        return dict(Counter(judged.answer.malformed or "" for judged in self.answers if judged.answer.failed))

    @property
    def consistent(self) -> bool | None:
        """Whether both orders favor the same side, each by its own majority; None if only one order was shown."""
        sides = [self._side(order) for order in (0, 1)]
        return None if None in sides else sides[0] == sides[1] != 0

    def _side(self, order: int) -> int | None:
        winners = [judged.winner for judged in self.answers if judged.order == order]
        return (winners.count(0) > winners.count(1)) - (winners.count(0) < winners.count(1)) if winners else None


@dataclass
class Usage:
    """A judge's work so far. `nulls` counts answers without a verdict, `ties` comparisons without a winner."""

    comparisons: int = 0
    generations: int = 0
    batches: int = 0
    tokens: int = 0
    nulls: int = 0
    ties: int = 0


class JudgeEngine(Protocol):
    """The part of `tasks.model.engine.Engine` that a judge needs."""

    def generate(self, requests: Sequence[Request], on_answer: OnAnswer) -> None: ...


class Judge:
    """An open judge. `usage` counts its work so far."""

    def __init__(self, engine: JudgeEngine, encoder: JudgeEncoder, query: JudgeQuery, both_orders: bool = True) -> None:
        self.engine, self.encoder, self.query, self.both_orders = engine, encoder, query, both_orders
        self.usage = Usage()
        # For a discriminative model: the rounds of a tournament show the same responses again.
        self.scores: dict[tuple[str, str], float | None] = {}

    # ---- two responses ----------------------------------------------------------------------------------------------

    def compare(self, prompt: Prompt, a: str, b: str) -> Comparison:
        """Which of two responses is better."""
        return self.compare_many([(prompt, a, b)])[0]

    def compare_many(self, triples: Sequence[tuple[Prompt, str, str]]) -> list[Comparison]:
        """`compare` for many (prompt, a, b), in one batch."""
        return self._ask([_pair(prompt, a, b) for prompt, a, b in triples], self.query)

    def vote(self, prompt: Prompt, a: str, b: str, k: int, temperature: float = 1.0) -> Comparison:
        """`compare` with k sampled judgments in each order."""
        return self.vote_many([(prompt, a, b)], k, temperature)[0]

    def vote_many(
        self, triples: Sequence[tuple[Prompt, str, str]], k: int, temperature: float = 1.0
    ) -> list[Comparison]:
        """`vote` for many (prompt, a, b), in one batch. Raises ValueError for votes that would all be the same."""
        if self.query.by_label or self.query.by_score:
            raise ValueError("a judge that gives probabilities or scores is not sampled and cannot vote: use compare")
        pairs = [_pair(prompt, a, b) for prompt, a, b in triples]
        return self._ask(pairs, replace(self.query, votes=k, temperature=temperature))

    # ---- a reward ---------------------------------------------------------------------------------------------------

    def reward(self, prompt: Prompt, response: str, reference: str) -> float | None:
        """How much the judge prefers a response to a reference response, such as the policy's greedy one: 0 to 1.

        The mean over both orders of the probability, for a judge that gives probabilities or scores, otherwise of the share
        of the votes, where a tie and a reply without a verdict count one half. None if no reply has a verdict.
        """
        return self.reward_many([(prompt, response, reference)])[0]

    def reward_many(self, triples: Sequence[tuple[Prompt, str, str]]) -> list[float | None]:
        """`reward` for many (prompt, response, reference), in one batch."""
        return [
            None if compared.nulls == len(compared.answers) else compared.share
            for compared in self.compare_many(triples)
        ]

    # ---- many responses ---------------------------------------------------------------------------------------------

    def best_of_n(self, prompt: Prompt, responses: Sequence[str], method: Method = "knockout") -> Best:
        """The best response, in n − 1 comparisons: a knockout, or a linear search that keeps the champion."""
        return self.best_of_n_many([(prompt, responses)], method)[0]

    def best_of_n_many(self, rows: Sequence[tuple[Prompt, Sequence[str]]], method: Method = "knockout") -> list[Best]:
        """`best_of_n` for many (prompt, responses); all matches of a round, of all rows, go in one batch."""
        results = self._play(rows, [Running(best_of(_number(responses), method)) for _, responses in rows])
        return [result for result in results if isinstance(result, Best)]

    def rank(self, prompt: Prompt, responses: Sequence[str], method: RankMethod = "round-robin") -> Ranking:
        """All responses in order: by a round robin, or by repeatedly taking the best of the rest."""
        return self.rank_many([(prompt, responses)], method)[0]

    def rank_many(
        self, rows: Sequence[tuple[Prompt, Sequence[str]]], method: RankMethod = "round-robin"
    ) -> list[Ranking]:
        """`rank` for many (prompt, responses); all matches of a round, of all rows, go in one batch."""
        results = self._play(rows, [Running(ranking(_number(responses), method)) for _, responses in rows])
        return [result for result in results if isinstance(result, Ranking)]

    def _play(self, rows: Sequence[tuple[Prompt, Sequence[str]]], running: Sequence[Running]) -> list[Best | Ranking]:
        """Plays all tournaments in lockstep and returns their results."""
        seen: list[list[Comparison]] = [[] for _ in rows]
        for one in running:
            one.step()
        while waiting := [i for i, one in enumerate(running) if one.result is None]:
            triples = [(rows[i][0], rows[i][1][a], rows[i][1][b]) for i in waiting for a, b in running[i].waiting]
            compared = iter(self.compare_many(triples))
            for i in waiting:
                outcomes = {match: next(compared) for match in running[i].waiting}
                seen[i] += outcomes.values()
                running[i].step({match: outcome.share for match, outcome in outcomes.items()})
        return [_with_losses(one.result, found) for one, found in zip(running, seen, strict=True) if one.result]

    # ---- asking -----------------------------------------------------------------------------------------------------

    def _ask(self, pairs: Sequence[ResponsePair], query: JudgeQuery) -> list[Comparison]:
        """Shows each pair in its orders, all in one batch. Prompts that share a prefix are adjacent."""
        if query.by_score:
            return self._score(pairs, query)
        orders = (0, 1) if self.both_orders else (0,)
        requests: list[tuple[int, int, Request]] = []
        answers: list[list[Judged]] = [[] for _ in pairs]
        for i, pair in enumerate(pairs):
            for order in orders:
                shown = pair.swapped() if order else pair
                request = build_request(query, self.encoder, shown, str(order))
                if request is None:
                    answers[i] += [_judged(order, JudgeAnswer(None, malformed=PROMPT_TOO_LONG))] * query.replies
                else:
                    requests.append((i, order, request))
        prompts = [prompt_key(pair.prompt) for pair in pairs]
        requests.sort(key=lambda one: (prompts[one[0]], _first_shown(pairs[one[0]], one[1])))
        for (i, order, _), completions in zip(requests, self._generate(requests, query), strict=True):
            answers[i] += self._read(order, completions, query)
        self.usage.comparisons += len(pairs)
        return [self._compared(sorted(found, key=lambda judged: judged.order)) for found in answers]

    def _score(self, pairs: Sequence[ResponsePair], query: JudgeQuery) -> list[Comparison]:
        """Scores each response once with a discriminative model; the two scores of a pair make its comparison."""
        assert isinstance(self.encoder, ChatEncoder), "an endpoint has no scores"
        scores = self.scores
        if len(scores) > _SCORES_KEPT:
            scores.clear()
        failed: dict[tuple[str, str], str] = {}
        requested: list[tuple[tuple[str, str], Request]] = []
        for pair in pairs:
            for response in (pair.response_a, pair.response_b):
                key = (prompt_key(pair.prompt), response)
                if key not in scores:
                    scores[key] = None  # until the score arrives; it stays None if the text does not fit
                    request = build_score_request(query, self.encoder, pair.prompt, response, "score")
                    requested += [(key, request)] if request is not None else []
        answers = self._generate([(0, 0, request) for _, request in requested], query)
        for (key, _), reply in zip(requested, answers, strict=True):
            if isinstance(reply, Failure):
                failed[key] = reply.reason
                del scores[key]  # so that it is requested again
            else:
                self.usage.generations += 1
                scores[key] = reply[0].score
        self.usage.comparisons += len(pairs)
        found = []
        for pair in pairs:
            keys = [(prompt_key(pair.prompt), response) for response in (pair.response_a, pair.response_b)]
            answer = compare_scores(*(scores.get(key) for key in keys))
            reason = next((failed[key] for key in keys if key in failed), None)
            found.append(_judged(0, JudgeAnswer(None, malformed=reason, failed=True) if reason else answer))
        return [self._compared([judged]) for judged in found]

    def _generate(
        self, requests: Sequence[tuple[int, int, Request]], query: JudgeQuery
    ) -> list[list[Completion] | Failure]:
        rows = [PendingRow({}, [request], {}, {0}) for _, _, request in requests]

        def answered(i: int, reply: list[Completion] | Failure) -> Request | None:
            return rows[i].take(0, reply, query.context)

        if rows:
            self.usage.batches += 1
            self.engine.generate([request for _, _, request in requests], answered)
        return [row.answers[0] for row in rows]

    def _read(self, order: int, completions: list[Completion] | Failure, query: JudgeQuery) -> list[Judged]:
        if isinstance(completions, Failure):
            return [_judged(order, JudgeAnswer(None, malformed=completions.reason, failed=True))] * query.replies
        self.usage.generations += len(completions)
        return [_judged(order, read_answer(query, completion)) for completion in completions]

    def _compared(self, answers: Sequence[Judged]) -> Comparison:
        # Complementary probabilities add up to one except for their last bits.
        share = round(sum(judged.share for judged in answers) / len(answers), 12)
        winner: Literal[0, 1] | None = None if share == 0.5 else 0 if share > 0.5 else 1
        self.usage.tokens += sum(judged.answer.n_tokens for judged in answers)
        compared = Comparison(winner, share, tuple(answers))
        self.usage.nulls += compared.nulls
        self.usage.ties += winner is None and any(judged.winner is not None for judged in answers)
        return compared


def _with_losses(result: Best | Ranking, compared: Sequence[Comparison]) -> Best | Ranking:
    failed: Counter[str] = Counter()
    for one in compared:
        failed.update(one.failed)
    return replace(result, nulls=sum(one.nulls for one in compared), failed=dict(failed))


def _judged(order: int, answer: JudgeAnswer) -> Judged:
    winner: Literal[0, 1] | None = None
    if answer.verdict is not None:
        winner = 0 if (answer.verdict == "A") == (order == 0) else 1
    return Judged(order, winner, answer)


def _pair(prompt: Prompt, a: str, b: str) -> ResponsePair:
    """The pair of a comparison. Its id, from which its seeds are derived, is that of its content."""
    given = prompt if isinstance(prompt, str) else [_message(turn) for turn in prompt]
    return parse_pair({"prompt": given, "response_a": a, "response_b": b})


def _message(turn: Message | dict[str, str]) -> dict[str, str]:
    return turn.to_json() if isinstance(turn, Message) else turn


def _first_shown(pair: ResponsePair, order: int) -> tuple[str, str]:
    return (pair.response_b, pair.response_a) if order else (pair.response_a, pair.response_b)


def _number(responses: Sequence[str]) -> int:
    if isinstance(responses, str) or not responses:
        raise ValueError(f"responses must be a list with at least one string, got {type(responses).__name__}")
    return len(responses)
