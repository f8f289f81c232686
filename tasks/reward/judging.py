"""A judge behind vLLM's servers: many callers at once, each with a deadline, and the same verdicts as `tasks.rank.Judge`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from data.records import ResponsePair
from tasks.model.chat import ChatEncoder
from tasks.model.engine import Answer, Failure, Request
from tasks.model.judging import JudgeAnswer, JudgeQuery, build_request
from tasks.model.requests import PROMPT_TOO_LONG, Asked, PendingRow
from tasks.rank.results import Comparison, Judged, compare_answers, judged_in, read_order
from tasks.reward.completions import body_of, completions_of
from tasks.reward.limits import CHARACTERS
from tasks.reward.servers import ServerError, Servers

DEADLINE = "deadline"
"""The reason of a comparison that the request's deadline has ended."""
ORDERS = (0, 1)
_AT_ONCE = 256
"""Prompts of one request that are asked at the same time: a large group must not hold up everybody else."""
_AT_A_TIME = 16
"""Prompts that are encoded before the event loop looks at everything else again, such as deadlines."""
_LONG = 20_000
"""Characters from which on a pair is encoded in a thread: other callers must not wait for it."""


@dataclass(frozen=True)
class Compared:
    """Two responses in both orders. `tokens` counts what was generated for it."""

    comparison: Comparison
    tokens: int

    @property
    def share(self) -> float | None:
        """The first response's share of the win, as the mean over both orders; None unless each has a verdict."""
        return self.comparison.reward

    @property
    def reason(self) -> str | None:
        """Why there is no share."""
        if self.share is not None:
            return None
        failed = (one.answer.malformed for one in self.comparison.answers if one.answer.failed)
        nulls = (one.answer.malformed for one in self.comparison.answers)
        return next((reason for reason in (*failed, *nulls) if reason), None)


class ServedJudge:
    """Asks vLLM's servers what a judge says; `query` is how it is asked unless a caller changes that."""

    def __init__(self, servers: Servers, encoder: ChatEncoder, query: JudgeQuery) -> None:
        encoder.tokenizer.clean_up_tokenization_spaces = False  # replies are read as they were written
        self.servers, self.encoder, self.query = servers, encoder, query
        self._turns = asyncio.Semaphore(_AT_A_TIME)
        # One thread: tokenizers are not made for several at once.
        self._encoding = ThreadPoolExecutor(1, thread_name_prefix="encoding")

    async def compare_all(
        self, pairs: Sequence[ResponsePair], query: JudgeQuery, deadline: float = float("inf")
    ) -> list[Compared]:
        """Compares each pair in both orders. `deadline` is in seconds of the event loop's clock.

        What has not been answered by then has failed with the reason "deadline"; if this is cancelled, nothing of it goes on.
        """
        shown = [(i, order) for i in range(len(pairs)) for order in ORDERS]
        places = asyncio.Semaphore(_AT_ONCE)
        tasks = [asyncio.create_task(self._ask(pairs[i], order, query, places)) for i, order in shown]
        try:
            left = max(0.0, deadline - asyncio.get_running_loop().time())
            await asyncio.wait(tasks, timeout=None if left == float("inf") else left) if tasks else None
        finally:
            for task in tasks:
                task.cancel()
        answers: list[list[Judged]] = [[] for _ in pairs]
        tokens = [0] * len(pairs)
        for (i, order), task in zip(shown, tasks, strict=True):
            late = (Failure(DEADLINE, "not answered by the request's deadline"), 0)
            answer, n = task.result() if task.done() and not task.cancelled() else late
            tokens[i] += n
            answers[i] += read_order(query, order, answer) if answer is not None else _too_long(query, order)
        return [Compared(compare_answers(found), n) for found, n in zip(answers, tokens, strict=True)]

    async def _ask(
        self, pair: ResponsePair, order: int, query: JudgeQuery, places: asyncio.Semaphore
    ) -> tuple[Answer | None, int]:
        """The replies to a pair in one order, and how many tokens they took; None if its prompt does not fit."""
        async with places, self.servers.admitted():
            request = await self._encode(pair.swapped() if order else pair, order, query)
            if request is None:
                return None, 0
            row = PendingRow({}, query.context)
            await self._complete(row.ask([request])[0])
            return row.answers[0], row.tokens

    async def _encode(self, shown: ResponsePair, order: int, query: JudgeQuery) -> Request | None:
        lengths = [len(shown.response_a), len(shown.response_b), *(len(turn.content) for turn in shown.prompt)]
        if max(lengths) > CHARACTERS:
            return None
        given = (query, self.encoder, shown, str(order))
        if sum(lengths) < _LONG:
            async with self._turns:
                made = build_request(*given)
                await asyncio.sleep(0)
                return made
        return await asyncio.get_running_loop().run_in_executor(self._encoding, build_request, *given)

    async def _complete(self, asked: Asked) -> None:
        """Asks, and goes on with replies that were cut off."""
        request, tokenizer = asked.request, self.encoder.tokenizer
        answer: Answer
        try:
            answer = await self.servers.ask(
                lambda model: body_of(request, model, self.encoder.end_id),
                lambda reply: completions_of(reply, request, tokenizer),
            )
        except ServerError as error:
            answer = Failure(error.reason, str(error))
        await asyncio.gather(*(self._complete(longer) for longer in asked.row.take(asked, answer)))


def _too_long(query: JudgeQuery, order: int) -> list[Judged]:
    return [judged_in(order, JudgeAnswer(None, malformed=PROMPT_TOO_LONG))] * query.replies
