"""A row's requests to an engine and their answers so far: the same for bulk generation and for `tasks.rank`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tasks.model.chat import ChatEncoder
from tasks.model.engine import Completion, Failure, Request

PROMPT_TOO_LONG = "prompt_too_long"
"""Why a row gets no request, or a game no verdict: its prompt does not fit the context."""


@dataclass(frozen=True)
class Skip:
    """A row for which no request is made, and why."""

    reason: str


Builder = Callable[[Mapping[str, Any], Mapping[str, Any], ChatEncoder], list[Request] | Skip]


@dataclass
class PendingRow:
    """A row whose requests are in the engine: its answers so far, and the indices of its open requests."""

    line: dict[str, Any]
    requests: list[Request]
    answers: dict[int, list[Completion] | Failure]
    open: set[int]

    def take(self, i: int, answer: list[Completion] | Failure, context: int) -> Request | None:
        """Records the answer to request i. If a reply was cut off, returns a request for up to twice the tokens.

        The answer to that one replaces only the completions that were cut off; it is the last attempt. The tokens of what is
        not kept were generated too: the line counts them.
        """
        first, request = self.answers.get(i), self.requests[i]
        if request.opened and isinstance(answer, list):
            answer = [replace(one, text=_whole_reply(request.opened, one.text)) for one in answer]
        if first is None:
            self.answers[i] = answer
            longer = min(2 * request.sampling.max_tokens, context - len(request.prompt_ids))
            cut = isinstance(answer, list) and not all(completion.finished for completion in answer)
            if cut and longer > request.sampling.max_tokens:
                self.line["asked_longer"] = True
                return replace(request, sampling=replace(request.sampling, max_tokens=longer))
        elif isinstance(first, list) and isinstance(answer, list):
            self.answers[i] = [a if a.finished else b for a, b in zip(first, answer, strict=True)]
            discarded = (b if a.finished else a for a, b in zip(first, answer, strict=True))
            tokens = sum(len(one.token_ids) for one in discarded)
            self.line["discarded_tokens"] = self.line.get("discarded_tokens", 0) + tokens
        self.open.discard(i)
        return None

    def finished_line(self, with_ids: bool) -> dict[str, Any]:
        """The line to write for the row. If one of its requests failed, the row has failed; "answered" has the other answers."""
        failures = [answer for _, answer in sorted(self.answers.items()) if isinstance(answer, Failure)]
        answered = [
            {
                "name": request.name,
                "seed": request.sampling.seed,
                "completions": [_completion_fields(c, with_ids and not failures) for c in answer],
            }
            for i, request in enumerate(self.requests)
            if not isinstance(answer := self.answers[i], Failure)
        ]
        if not failures:
            return {**self.line, "requests": answered}
        detail = {"detail": failures[0].detail} if failures[0].detail else {}
        return {**self.line, "failed": failures[0].reason, **detail, "answered": answered}


def _whole_reply(opened: str, text: str) -> str:
    """The reply that a text continues. A model may open its thoughts once more: then the text is the whole reply."""
    return text if text.lstrip().startswith(opened.strip()) else opened + text


def _completion_fields(completion: Completion, with_ids: bool) -> dict[str, Any]:
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
    if with_ids:
        fields["ids"] = list(completion.token_ids)
    return fields
