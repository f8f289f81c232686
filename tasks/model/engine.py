"""The interface of every engine that runs a language model: a Protocol, implemented by vLLM and by a fake for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from data.records import Message


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one request is sampled. `n` completions; completion j uses seed + j. Temperature 0 is greedy.

    `logprob_ids` requests the logprobs of these tokens as the reply's first token; such a reply is one token long.
    """

    n: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 1024
    seed: int = 0
    logprobs: bool = False
    logprob_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt to complete. `name` distinguishes the requests of a row; `shortened` is true if its pair was cut.

    Engines that take chat messages get `messages`, and no token ids. `opened` is the beginning of the reply that the prompt
    already ends with: completions continue it.
    The last `begun` tokens of the prompt are a reply that was cut off: the completion's text and tokens are those of the whole
    reply, its logprob that of the new tokens.
    With `score_from`, nothing is sampled: the answer is one completion without text, whose `sum_logprob` is that of the
    prompt's tokens from this position on, each given all tokens before it.
    """

    name: str
    prompt_ids: Sequence[int]
    sampling: Sampling
    shortened: bool = False
    messages: tuple[Message, ...] = ()
    opened: str = ""
    begun: int = 0
    score_from: int | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """One completion. `token_ids` ends with the end-of-turn token unless it was cut off.

    `sum_logprob` is the natural log of the model's probability of all of `token_ids` at temperature 1, if requested;
    `id_logprobs` are the logprobs of the request's `logprob_ids`, in the same order.
    `score` is what a discriminative model returns instead of text.
    """

    text: str
    token_ids: Sequence[int]
    finished: bool
    sum_logprob: float | None = None
    id_logprobs: Sequence[float] | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that the engine could not serve: `reason` is a word that is counted, `detail` the engine's own message."""

    reason: str
    detail: str = ""


Answer = list[Completion] | Failure
"""The n completions of a request in order, or why it failed."""

Requests = Iterable[Request | None]
"""Requests for an engine to pull as it has room for them.

None says that there is none at the moment, while answers are still to come: the engine goes on, and asks again. If no answer is
to come, the iterator waits instead.
"""

OnAnswer = Callable[[int, Answer], None]
"""Called with the number of a request, counted from 0 in the order in which they were pulled, and its answer."""


class Engine(Protocol):
    """What a stage needs from a language model."""

    def generate(self, requests: Requests, on_answer: OnAnswer) -> None:
        """Serves all requests, as many at once as the engine can use, and holds no more than about twice as many.

        Reports each answer as soon as it is there. What follows from an answer can be pulled next.
        """
        ...


@dataclass
class FakeEngine:
    """An engine for tests: `reply` maps a request and a completion's number to its text.

    Tokens are the code points of the text; each has logprob −1, or −2 where a given text is scored. If a request has
    `logprob_ids`, `id_logprobs` returns their logprobs.
    """

    reply: Callable[[Request, int], str]
    end_id: int = 0
    id_logprobs: Callable[[Request], Sequence[float]] = lambda request: [0.0] * len(request.sampling.logprob_ids)
    scores: Callable[[Request], float | None] = lambda request: None
    requests_seen: int = field(default=0)

    def generate(self, requests: Requests, on_answer: OnAnswer) -> None:
        asked = (request for request in requests if request is not None)
        for i, request in enumerate(asked):
            on_answer(i, self.answer(request))

    def answer(self, request: Request) -> list[Completion]:
        """The answer to one request; `requests_seen` counts those that are not for scores."""
        if request.score_from is not None:
            return [Completion("", [], finished=True, sum_logprob=-2.0 * len(request.prompt_ids[request.score_from :]))]
        self.requests_seen += 1
        return [self._complete(request, j) for j in range(request.sampling.n)]

    def _complete(self, request: Request, j: int) -> Completion:
        text = self.reply(request, j)
        ids = [*map(ord, text), self.end_id]
        asked = self.id_logprobs(request) if request.sampling.logprob_ids else None
        return Completion(
            text, ids, finished=True, sum_logprob=-1.0 * len(ids), id_logprobs=asked, score=self.scores(request)
        )
