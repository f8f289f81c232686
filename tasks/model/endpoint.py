"""A judge behind an OpenAI-compatible endpoint: vLLM's server, or any other that serves chat completions.

The tokenizer is on the server, so prompts are sent as messages, and it is the server that rejects those that are too
long. A rejected prompt fails only its own request.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
from collections.abc import Sequence
from typing import Any

from data.records import Message, ResponsePair
from prompts.judge import JudgePrompt
from prompts.template import ZERO_WIDTH_SPACE
from tasks.model.chat import Encoded
from tasks.model.engine import Completion, Failure, OnAnswer, Request

KEY_VARIABLE = "OPENAI_API_KEY"
_TOP = 20
"""The most alternatives per token that the protocol allows."""
_RETRIES = 5
_SPECIAL = re.compile(
    r"<\|[^|\n]{1,40}\|>|<｜[^｜\n]{1,40}｜>|</?s>|<(?:bos|eos|pad|unk|start_of_turn|end_of_turn)>|\[/?INST\]|<</?SYS>>"
)
_SURE = 1000


def is_endpoint(model: str) -> bool:
    """Whether a judge is given as the URL of an endpoint."""
    return model.startswith(("http://", "https://"))


class MessageEncoder:
    """Replaces `ChatEncoder` for endpoints: leaves prompts as messages. Label tokens are represented by their code points."""

    label_ids = (ord("A"), ord("B"))
    end_id = 0

    def judge_ids(self, prompt: JudgePrompt, pair: ResponsePair, budget: int, overlong: str) -> Encoded:
        turns = (Message(turn.role, _defuse(turn.content)) for turn in prompt.render(pair))
        return Encoded([], messages=tuple(turns))


def _defuse(text: str) -> str:
    """The text with anything that looks like a special token altered, as in `tasks.model.chat.ChatEncoder.defuse`.

    The server's own special tokens are not known here: these are the spellings that model families use.
    """
    return _SPECIAL.sub(lambda match: match[0][0] + ZERO_WIDTH_SPACE + match[0][1:], text)


class EndpointEngine:
    """An `Engine` that sends concurrent requests to an endpoint. The API key is read only from OPENAI_API_KEY."""

    def __init__(
        self,
        url: str,
        model: str | None = None,
        concurrency: int = 32,
        timeout_s: float = 600.0,
        retries: int = _RETRIES,
    ) -> None:
        """`url` is the base URL, including "/v1". Without `model`, the server's only model is used.

        Raises ValueError, listing the models, if the server does not have exactly one.
        """
        self.url, self.concurrency, self.timeout_s, self.retries = url, concurrency, timeout_s, retries
        self.model = model or self._only_model()

    def _client(self) -> Any:
        from openai import AsyncOpenAI

        # The client requires a key; self-hosted servers usually need none.
        key = os.environ.get(KEY_VARIABLE) or "none"
        return AsyncOpenAI(base_url=self.url, api_key=key, timeout=self.timeout_s, max_retries=self.retries)

    def _only_model(self) -> str:
        async def listed() -> list[str]:
            async with self._client() as client:
                return [model.id async for model in client.models.list()]

        found = asyncio.run(listed())
        if len(found) != 1:
            raise ValueError(
                f"{self.url} serves {', '.join(found) or 'no model'}: specify the judge's model as URL#MODEL"
            )
        return found[0]

    def generate(self, requests: Sequence[Request], on_answer: OnAnswer) -> None:
        """See `Engine.generate`. A request for n completions becomes n requests to the endpoint, each with its own seed."""
        asyncio.run(self._serve(requests, on_answer))

    def score(self, texts: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[float]:
        """Not available: an endpoint does not return the probability of a given text."""
        raise NotImplementedError("an endpoint cannot score given texts")

    async def _serve(self, requests: Sequence[Request], on_answer: OnAnswer) -> None:
        slots = asyncio.Semaphore(self.concurrency)
        async with self._client() as client:

            async def one(i: int, request: Request | None) -> None:
                while request is not None:
                    parts = [self._complete(client, slots, request, j) for j in range(request.sampling.n)]
                    made = await asyncio.gather(*parts)
                    failed = [part for part in made if isinstance(part, Failure)]
                    request = on_answer(i, failed[0] if failed else [p for p in made if isinstance(p, Completion)])

            await asyncio.gather(*(one(i, request) for i, request in enumerate(requests)))

    async def _complete(self, client: Any, slots: asyncio.Semaphore, request: Request, j: int) -> Completion | Failure:
        from openai import APIConnectionError, APIStatusError, OpenAIError

        sampling, labels = request.sampling, [chr(token) for token in request.sampling.logprob_ids]
        options: dict[str, Any] = {"logprobs": True, "top_logprobs": _TOP} if labels else {}
        async with slots:
            try:
                reply = await client.chat.completions.create(
                    model=self.model,
                    messages=[message.to_json() for message in request.messages],
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    max_tokens=sampling.max_tokens,
                    seed=sampling.seed + j,
                    **options,
                )
            except APIStatusError as error:
                if error.status_code in (401, 403, 404):  # every request would fail, not just this one
                    raise
                return Failure(f"endpoint_{error.status_code}", str(error))
            except APIConnectionError:
                raise
            except (OpenAIError, ValueError) as error:  # a reply that is not JSON raises ValueError
                return Failure("endpoint_failed", str(error))
        return _completion(reply, labels)


def _completion(reply: Any, labels: Sequence[str]) -> Completion | Failure:
    choices = getattr(reply, "choices", None)
    if not isinstance(choices, list) or len(choices) != 1 or getattr(choices[0], "message", None) is None:
        return Failure("endpoint_bad_reply", f"expected one choice with a message, got {str(reply)[:200]}")
    [choice] = choices
    if choice.finish_reason not in ("stop", "length"):
        return Failure(f"endpoint_{choice.finish_reason}")
    n_tokens = reply.usage.completion_tokens if reply.usage else 0
    # The server reports the number of tokens, not their ids.
    ids = [0] * int(n_tokens)
    text = choice.message.content or ""
    if not labels:
        return Completion(text, ids, finished=choice.finish_reason == "stop")
    first = choice.logprobs.content[0].top_logprobs if choice.logprobs and choice.logprobs.content else []
    return Completion(text, ids, finished=True, id_logprobs=_label_logprobs(first, labels))


def _label_logprobs(alternatives: Sequence[Any], labels: Sequence[str]) -> list[float]:
    """The labels' logprobs among a token's alternatives; −inf for all of them if the verdict remains open.

    A missing label is at most as likely as the least likely alternative: that decides the verdict if the other label is a
    thousand times more likely.
    """
    if not alternatives:
        return [float("-inf")] * len(labels)
    known = {one.token: float(one.logprob) for one in reversed(alternatives)}
    least = min(known.values())
    found = [known.get(label, least) for label in labels]
    settled = all(label in known for label in labels) or max(found) - least > math.log(_SURE)
    return found if settled else [float("-inf")] * len(labels)
