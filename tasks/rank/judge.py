"""A judge over an engine: it compares, votes, finds the best of n and ranks, for many prompts at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from jinja2 import TemplateError

from data.records import RecordError, ResponsePair, prompt_key
from tasks.model.chat import ChatEncoder
from tasks.model.engine import Answer, Completion, Failure, OnAnswer, Request, Requests
from tasks.model.judging import (
    JudgeAnswer,
    JudgeEncoder,
    JudgeQuery,
    build_request,
    build_score_request,
    compare_scores,
)
from tasks.model.requests import PROMPT_TOO_LONG, REFUSED, Asking, PendingRow
from tasks.rank.inputs import Prompt, pair_of, pair_or_error, read_messages, read_responses
from tasks.rank.results import (
    Comparison,
    Judged,
    Usage,
    compare_answers,
    failed_answer,
    judged_in,
    read_order,
    with_losses,
)
from tasks.rank.tournaments import Best, Match, Method, Ranking, RankMethod, Running, best_of, ranking

INVALID = "invalid_input"
"""The reason of a comparison among many that failed for its own prompt or responses."""
_SCORES_KEPT = 100_000


class JudgeEngine(Protocol):
    """The part of `tasks.model.engine.Engine` that a judge needs."""

    def generate(self, requests: Requests, on_answer: OnAnswer) -> None: ...


class Judge:
    """An open judge. `usage` counts its work so far.

    What is asked about one prompt raises RecordError for something that is not a prompt or response. In the variants for many,
    that fails the comparison alone, with the reason "invalid_input".
    """

    def __init__(self, engine: JudgeEngine, encoder: JudgeEncoder, query: JudgeQuery, both_orders: bool = True) -> None:
        self.engine, self.encoder, self.query, self.both_orders = engine, encoder, query, both_orders
        self.usage = Usage()
        # For a discriminative model: the rounds of a tournament show the same responses again.
        self.scores: dict[tuple[str, str], float | None] = {}

    # ---- two responses ----------------------------------------------------------------------------------------------

    def compare(self, prompt: Prompt, a: str, b: str) -> Comparison:
        """Which of two responses is better."""
        return self._ask([pair_of(prompt, a, b)], self.query)[0]

    def compare_many(self, triples: Sequence[tuple[Prompt, str, str]]) -> list[Comparison]:
        """`compare` for many (prompt, a, b), in one batch."""
        return self._ask([pair_or_error(*triple) for triple in triples], self.query)

    def vote(self, prompt: Prompt, a: str, b: str, k: int, temperature: float = 1.0) -> Comparison:
        """`compare` with k sampled judgments in each order."""
        pair_of(prompt, a, b)
        return self.vote_many([(prompt, a, b)], k, temperature)[0]

    def vote_many(
        self, triples: Sequence[tuple[Prompt, str, str]], k: int, temperature: float = 1.0
    ) -> list[Comparison]:
        """`vote` for many (prompt, a, b), in one batch. Raises ValueError for votes that would all be the same."""
        if self.query.by_label or self.query.by_score:
            raise ValueError("a judge that gives probabilities or scores is not sampled and cannot vote: use compare")
        pairs = [pair_or_error(*triple) for triple in triples]
        return self._ask(pairs, replace(self.query, votes=k, temperature=temperature))

    # ---- a reward ---------------------------------------------------------------------------------------------------

    def reward(self, prompt: Prompt, response: str, reference: str) -> float | None:
        """How much the judge prefers a response to a reference response, such as the policy's greedy one: 0 to 1.

        The mean over both orders of the probability, for a judge that gives probabilities or scores, otherwise of the share
        of the votes that have a verdict, where a tie counts one half. None unless each order has a verdict.
        """
        pair_of(prompt, response, reference)
        return self.reward_many([(prompt, response, reference)])[0]

    def reward_many(self, triples: Sequence[tuple[Prompt, str, str]]) -> list[float | None]:
        """`reward` for many (prompt, response, reference), in one batch."""
        return [compared.reward for compared in self.compare_many(triples)]

    # ---- many responses ---------------------------------------------------------------------------------------------

    def best_of_n(self, prompt: Prompt, responses: Sequence[str], method: Method = "knockout") -> Best:
        """The best response, in n − 1 comparisons: a knockout, or a linear search that keeps the champion."""
        _check_row(prompt, responses)
        return self.best_of_n_many([(prompt, responses)], method)[0]

    def best_of_n_many(self, rows: Sequence[tuple[Prompt, Sequence[str]]], method: Method = "knockout") -> list[Best]:
        """`best_of_n` for many (prompt, responses); all matches of a round, of all rows, go in one batch."""
        results = self._play(rows, [Running(best_of(_number(responses), method)) for _, responses in rows])
        return [result for result in results if isinstance(result, Best)]

    def rank(self, prompt: Prompt, responses: Sequence[str], method: RankMethod = "round-robin") -> Ranking:
        """All responses in order: by a round robin, or by repeatedly taking the best of the rest."""
        _check_row(prompt, responses)
        return self.rank_many([(prompt, responses)], method)[0]

    def rank_many(
        self, rows: Sequence[tuple[Prompt, Sequence[str]]], method: RankMethod = "round-robin"
    ) -> list[Ranking]:
        """`rank` for many (prompt, responses); all matches of a round, of all rows, go in one batch."""
        results = self._play(rows, [Running(ranking(_number(responses), method)) for _, responses in rows])
        return [result for result in results if isinstance(result, Ranking)]

    def _play(self, rows: Sequence[tuple[Prompt, Sequence[str]]], running: Sequence[Running]) -> list[Best | Ranking]:
        """Plays all tournaments in lockstep and returns their results."""
        seen: list[dict[Match, Comparison]] = [{} for _ in rows]
        for one in running:
            one.step()
        while waiting := [i for i, one in enumerate(running) if one.result is None]:
            triples = [(rows[i][0], rows[i][1][a], rows[i][1][b]) for i in waiting for a, b in running[i].waiting]
            compared = iter(self.compare_many(triples))
            for i in waiting:
                outcomes = {match: next(compared) for match in running[i].waiting}
                seen[i] |= outcomes
                running[i].step({match: outcome.share for match, outcome in outcomes.items()})
        return [with_losses(one.result, found) for one, found in zip(running, seen, strict=True) if one.result]

    # ---- asking -----------------------------------------------------------------------------------------------------

    @property
    def _orders(self) -> tuple[int, ...]:
        return (0, 1) if self.both_orders and not self.query.by_score else (0,)

    def _ask(self, given: Sequence[ResponsePair | RecordError], query: JudgeQuery) -> list[Comparison]:
        """Compares each pair, all in one batch; where there is none, the comparison has failed."""
        self.usage.comparisons += len(given)
        pairs = [one for one in given if isinstance(one, ResponsePair)]
        answers = iter(self._score(pairs, query) if query.by_score else self._show(pairs, query))
        found = []
        for one in given:
            if isinstance(one, ResponsePair):
                found.append(self._compared(next(answers)))
            else:
                invalid = JudgeAnswer(None, malformed=INVALID, failed=True, detail=str(one))
                found.append(
                    self._compared([judged_in(o, invalid) for o in self._orders for _ in range(query.replies)])
                )
        return found

    def _show(self, pairs: Sequence[ResponsePair], query: JudgeQuery) -> list[list[Judged]]:
        """Shows each pair in its orders. Prompts that share a prefix are adjacent."""
        requests: list[tuple[int, int, Request]] = []
        answers: list[list[Judged]] = [[] for _ in pairs]
        for i, pair in enumerate(pairs):
            for order in self._orders:
                shown = pair.swapped() if order else pair
                request = build_request(query, self.encoder, shown, str(order))
                if request is None:
                    answers[i] += [judged_in(order, JudgeAnswer(None, malformed=PROMPT_TOO_LONG))] * query.replies
                else:
                    requests.append((i, order, request))
        prompts = [prompt_key(pair.prompt) for pair in pairs]
        requests.sort(key=lambda one: (prompts[one[0]], _first_shown(pairs[one[0]], one[1])))
        for (i, order, _), completions in zip(requests, self._generate(requests, query), strict=True):
            answers[i] += read_order(query, order, completions)
        return [sorted(found, key=lambda judged: judged.order) for found in answers]

    def _score(self, pairs: Sequence[ResponsePair], query: JudgeQuery) -> list[list[Judged]]:
        """Scores each response once with a discriminative model; the two scores of a pair make its comparison."""
        assert isinstance(self.encoder, ChatEncoder), "an endpoint has no scores"
        scores = self.scores
        if len(scores) > _SCORES_KEPT:
            scores.clear()
        failed: dict[tuple[str, str], Failure] = {}
        requested: list[tuple[tuple[str, str], Request]] = []
        for pair in pairs:
            for response in (pair.response_a, pair.response_b):
                key = (prompt_key(pair.prompt), response)
                if key not in scores:
                    scores[key] = None  # until the score arrives; it stays None if the text does not fit
                    try:
                        request = build_score_request(query, self.encoder, pair.prompt, response, "score")
                    except TemplateError as error:  # of these turns: others are scored all the same
                        failed[key] = Failure(REFUSED, f"the chat template refuses the prompt's turns: {error}")
                        del scores[key]
                        continue
                    requested += [(key, request)] if request is not None else []
        answers = self._generate([(0, 0, request) for _, request in requested], query)
        for (key, _), reply in zip(requested, answers, strict=True):
            if isinstance(reply, Failure):
                failed[key] = reply
                del scores[key]  # so that it is requested again
            else:
                scores[key] = reply[0].score
        found = []
        for pair in pairs:
            keys = [(prompt_key(pair.prompt), response) for response in (pair.response_a, pair.response_b)]
            answer = compare_scores(*(scores.get(key) for key in keys))
            failure = next((failed[key] for key in keys if key in failed), None)
            found.append([judged_in(0, failed_answer(failure) if failure else answer)])
        return found

    def _generate(
        self, requests: Sequence[tuple[int, int, Request]], query: JudgeQuery
    ) -> list[list[Completion] | Failure]:
        rows = [PendingRow({}, query.context) for _ in requests]
        asking = Asking(row.ask([request]) for row, (_, _, request) in zip(rows, requests, strict=True))

        def answered(number: int, reply: Answer) -> None:
            if not isinstance(reply, Failure):  # also a reply that is cut off, and goes on
                self.usage.generations += len(reply)
            asking.answered(number, reply)

        if rows:
            self.usage.batches += 1
            self.engine.generate(asking, answered)
        self.usage.tokens += sum(row.tokens for row in rows)
        return [row.answers[0] for row in rows]

    def _compared(self, answers: Sequence[Judged]) -> Comparison:
        for judged in answers:
            if judged.answer.failed:
                self.usage.failures.setdefault(judged.answer.malformed or "", judged.answer.detail)
        compared = compare_answers(answers)
        self.usage.nulls += compared.nulls
        self.usage.ties += compared.is_tie
        return compared


def _first_shown(pair: ResponsePair, order: int) -> tuple[str, str]:
    return (pair.response_b, pair.response_a) if order else (pair.response_a, pair.response_b)


def _number(responses: Sequence[str]) -> int:
    if isinstance(responses, str) or not responses:
        what = "a string" if isinstance(responses, str) else "none"
        raise ValueError(f"responses must be a list with at least one response, got {what}")
    return len(responses)


def _check_row(prompt: Prompt, responses: Sequence[str]) -> None:
    """Raises RecordError for something that is not a prompt or response, before anything is asked."""
    if _number(responses):
        read_responses(list(responses), read_messages(prompt))
