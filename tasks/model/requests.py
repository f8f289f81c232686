"""A row's requests to an engine and their answers so far: the same for bulk generation and for `tasks.rank`.

A reply that is cut off by its limit is continued from its own tokens, up to twice the limit in all if the context has room for
that; if it is cut off again, it stays so. Its siblings of the same request are left alone. An endpoint gives no tokens: there
the reply is asked for again, with its own seed and twice the limit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from data.seeds import derive_seed
from tasks.model.chat import ChatEncoder
from tasks.model.engine import Answer, Completion, Failure, Request, Sampling

PROMPT_TOO_LONG = "prompt_too_long"
"""Why a row gets no request, or a game no verdict: its prompt does not fit the context."""

REFUSED = "refused_by_template"
"""Why an example is dropped, or a comparison has failed: the chat template has no place for such turns."""


@dataclass(frozen=True)
class Skip:
    """A row for which no request is made, and why."""

    reason: str


Builder = Callable[[Mapping[str, Any], Mapping[str, Any], ChatEncoder], list[Request] | Skip]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of a row: its i-th, or a further one about completion j of that one's answer, to continue or to score it."""

    row: PendingRow
    request: Request
    i: int
    j: int | None = None


@dataclass(eq=False)
class PendingRow:
    """A row that is being asked for: its requests, their answers so far, and how many answers are still to come.

    `context` limits prompt and reply together. `alone` has the scores of completions, by request and completion, and `tokens`
    counts all that were generated.
    """

    line: dict[str, Any]
    context: int
    requests: list[Request] = field(default_factory=list)
    answers: dict[int, Answer] = field(default_factory=dict)
    alone: dict[tuple[int, int], float] = field(default_factory=dict)
    tokens: int = 0
    open: int = 0

    def ask(self, requests: Sequence[Request]) -> list[Asked]:
        """Adds requests to the row."""
        first = len(self.requests)
        self.requests += requests
        return self._opened([Asked(self, request, first + n) for n, request in enumerate(requests)])

    def ask_scores(self, prefix: Sequence[int], worth: Callable[[str, Mapping[str, Any]], bool]) -> list[Asked]:
        """Requests the logprob of each completion's tokens after `prefix` alone, for those that are `worth` it.

        That is told the name of their request, and the completion as it is written.
        """
        sampling = Sampling(max_tokens=1)
        return self._opened(
            [
                Asked(self, Request("", [*prefix, *one.token_ids], sampling, score_from=len(prefix)), i, j)
                for i, request in enumerate(self.requests)
                for j, one in enumerate(self._completions(i))
                if one.token_ids and worth(request.name, _completion_fields(one))
            ]
        )

    def take(self, asked: Asked, answer: Answer) -> list[Asked]:
        """Records the answer to one of its requests; returns what is to be asked because of it."""
        self.open -= 1
        if asked.j is None:
            return self._opened(self._take_first(asked, answer))
        if asked.request.score_from is not None:
            self._take_score(asked, asked.j, answer)
        else:
            self._take_longer(asked, asked.j, answer)
        return []

    @property
    def failure(self) -> Failure | None:
        """The first request that failed, which means that the row has."""
        return next((a for _, a in sorted(self.answers.items()) if isinstance(a, Failure)), None)

    def finished_line(self) -> dict[str, Any]:
        """The line to write for the row. If one of its requests failed, the row has failed; "answered" has the other answers."""
        answered = [
            {
                "name": request.name,
                "seed": request.sampling.seed,
                "completions": [self._fields(i, j, one) for j, one in enumerate(answer)],
            }
            for i, request in enumerate(self.requests)
            if not isinstance(answer := self.answers[i], Failure)
        ]
        failure = self.failure
        if failure is None:
            return {**self.line, "requests": answered}
        detail = {"detail": failure.detail} if failure.detail else {}
        return {**self.line, "failed": failure.reason, **detail, "answered": answered}

    def _opened(self, asked: list[Asked]) -> list[Asked]:
        self.open += len(asked)
        return asked

    def _completions(self, i: int) -> list[Completion]:
        answer = self.answers[i]
        return [] if isinstance(answer, Failure) else answer

    def _take_first(self, asked: Asked, answer: Answer) -> list[Asked]:
        self.answers[asked.i] = answer = self._whole(asked.request, answer)
        if isinstance(answer, Failure):
            return []
        cut = [(j, self._longer(asked.request, j, one)) for j, one in enumerate(answer) if not one.finished]
        return [Asked(self, request, asked.i, j) for j, request in cut if request is not None]

    def _longer(self, request: Request, j: int, cut: Completion) -> Request | None:
        """The request that continues a reply that was cut off, or asks for it again; None if there is no room for more."""
        sampling = request.sampling
        limit = min(2 * sampling.max_tokens, self.context - len(request.prompt_ids))
        if limit <= sampling.max_tokens:
            return None
        self.line["asked_longer"] = True
        seed = sampling.seed + j
        if not request.prompt_ids:
            return replace(request, sampling=replace(sampling, n=1, max_tokens=limit, seed=seed))
        # A seed of its own: some samplers begin with their first random number again, that of the reply's first token.
        more = replace(sampling, n=1, max_tokens=limit - len(cut.token_ids), seed=derive_seed(seed, "continued"))
        return replace(
            request, prompt_ids=[*request.prompt_ids, *cut.token_ids], sampling=more, begun=len(cut.token_ids)
        )

    def _take_longer(self, asked: Asked, j: int, answer: Answer) -> None:
        whole = self._whole(asked.request, answer)
        if isinstance(whole, Failure):  # the reply stays as it is: cut off
            return
        [longer], completions = whole, self._completions(asked.i)
        first = completions[j]
        if not asked.request.begun:
            self.line["discarded_tokens"] = self.line.get("discarded_tokens", 0) + len(first.token_ids)
        elif first.sum_logprob is not None and longer.sum_logprob is not None:
            longer = replace(longer, sum_logprob=first.sum_logprob + longer.sum_logprob)
        completions[j] = longer

    def _take_score(self, asked: Asked, j: int, answer: Answer) -> None:
        if isinstance(answer, Failure):
            self.answers[asked.i] = answer
        else:
            assert answer[0].sum_logprob is not None
            self.alone[asked.i, j] = answer[0].sum_logprob

    def _whole(self, request: Request, answer: Answer) -> Answer:
        """The answer, with the beginning that the prompt already ended with; its tokens are counted."""
        if isinstance(answer, Failure):
            return answer
        self.tokens += sum(len(one.token_ids) - request.begun for one in answer)
        return [replace(one, text=_whole_reply(request.opened, one.text)) for one in answer]

    def _fields(self, i: int, j: int, completion: Completion) -> dict[str, Any]:
        score = {"logprob_alone": self.alone[i, j]} if (i, j) in self.alone else {}
        request = self.requests[i]
        scored = {} if request.score_from is None else {"n_scored": len(request.prompt_ids) - request.score_from}
        return {**_completion_fields(completion), **score, **scored}


class Asking:
    """What is asked of an engine, as its `Requests`: what follows from an answer first, then the next of `groups`.

    Those are the requests of new rows, or None if there are none at the moment; they may wait only while nothing is
    `waiting`. `on_done` is called with each row that has no open request left.
    """

    def __init__(
        self, groups: Iterable[Sequence[Asked] | None], on_done: Callable[[PendingRow], None] = lambda row: None
    ) -> None:
        self.groups, self.on_done = groups, on_done
        self.waiting: dict[int, Asked] = {}
        self._ready: deque[Asked] = deque()
        self._given = 0

    def __iter__(self) -> Iterator[Request | None]:
        groups, over = iter(self.groups), False
        while True:
            if self._ready:
                asked = self._ready.popleft()
                self.waiting[self._given] = asked
                self._given += 1
                yield asked.request
                continue
            group: Sequence[Asked] | None = None
            if not over:
                try:
                    group = next(groups)
                except StopIteration:
                    over = True
            if group:
                self._ready.extend(group)
            elif over and not self.waiting:
                return
            elif group is None:
                yield None

    def answered(self, number: int, answer: Answer) -> None:
        """The engine's `OnAnswer`."""
        asked = self.waiting.pop(number)
        self._ready.extend(asked.row.take(asked, answer))
        if not asked.row.open:
            self.on_done(asked.row)


def _whole_reply(opened: str, text: str) -> str:
    """The reply that a text continues. A model may open its thoughts once more: then the text is the whole reply."""
    return text if text.lstrip().startswith(opened.strip()) else opened + text


def _completion_fields(completion: Completion) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "text": completion.text,
        "finished": completion.finished,
        "n_tokens": len(completion.token_ids),
    }
    if completion.sum_logprob is not None:
        fields["logprob"] = completion.sum_logprob
    if completion.id_logprobs is not None:
        fields["id_logprobs"] = list(completion.id_logprobs)
    if completion.score is not None:
        fields["score"] = completion.score
    return fields
