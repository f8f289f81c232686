"""A judge behind an OpenAI-compatible endpoint: vLLM's server, or any other that serves chat completions.

The tokenizer is on the server, so prompts are sent as messages, and it is the server that rejects those that are too
long. A rejected prompt fails only its own request. A server may have taken the thoughts out of a reply, or have begun them in
the prompt: the reply is put together again.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from data.records import Message, ResponsePair
from prompts.judge import JudgePrompt
from prompts.template import ZERO_WIDTH_SPACE
from tasks.model.chat import Encoded
from tasks.model.endpoint_errors import KEY_VARIABLE, TOO_BUSY, EndpointError, explained, may_pass, refuses_all, words
from tasks.model.engine import Answer, Completion, Failure, OnAnswer, Request, Requests

_TOP = 20
"""The most alternatives per token that the protocol allows."""
_RETRIES = 5
_PAUSES_S = (20.0, 60.0, 180.0)
"""After the client's retries, which take a quarter of a minute: long enough for a server to be started again."""
_LOOK_S = 0.1
"""How often it is looked for new requests while none is answered."""
_END = object()
_TRIES_AT_FIRST = 2
"""How often a server is asked again for its models: whether it is there at all should be known soon."""
SPECIAL = re.compile(
    r"<\|[^|<>\s]{1,40}\|>|<｜[^｜\n]{1,40}｜>|\[\|(?:system|user|assistant|tool|endofturn)\|\]|</?s>|<(?:bos|eos|pad|unk|sop)>"
    r"|<(?:start|end)_of_turn>|\[/?(?:INST|SYSTEM_PROMPT)\]|<</?SYS>>|\[gMASK\]|<(?:BOS|EOS|PAD|UNK)_TOKEN>|<\|(?:turn|channel)>"
    r"|<(?:turn|channel)\|>|<seed:[a-z_]{1,40}>|\]~!b\[|\]~b\]|\[e~\["
)
_OTHER_LIMIT = "max_completion_tokens"
_SURE = 1000


def is_endpoint(model: str) -> bool:
    """Whether a judge is given as the URL of an endpoint."""
    return model.startswith(("http://", "https://"))


def with_model(judge: str) -> str:
    """An endpoint as URL#MODEL: a server that is started again on the same port may have another model.

    Asks the server if the model is not given. Raises EndpointError as `EndpointEngine` does.
    """
    url, _, model = judge.partition("#")
    return judge if model else f"{url}#{EndpointEngine(url).model}"


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
    return SPECIAL.sub(lambda match: match[0][0] + ZERO_WIDTH_SPACE + match[0][1:], text)


class EndpointEngine:
    """An `Engine` that sends concurrent requests to an endpoint. The API key is read only from OPENAI_API_KEY."""

    def __init__(
        self,
        url: str,
        model: str | None = None,
        concurrency: int = 32,
        timeout_s: float = 600.0,
        retries: int = _RETRIES,
        pauses_s: Sequence[float] = _PAUSES_S,
    ) -> None:
        """`url` is the base URL, including "/v1". Without `model`, the server's only model is used.

        Asks the server for its models. Raises EndpointError if nothing answers there, if it refuses the key, and if it does
        not have exactly one model although none is named.
        """
        self.url, self.concurrency, self.timeout_s, self.retries = url, concurrency, timeout_s, retries
        self.pauses_s, self.answered = pauses_s, 0
        self.in_vain = 0
        self.limit = "max_tokens"
        self.model = self._find_model(model)

    def _client(self, retries: int) -> Any:
        from openai import AsyncOpenAI

        # The client requires a key; self-hosted servers usually need none.
        key = os.environ.get(KEY_VARIABLE) or "none"
        return AsyncOpenAI(base_url=self.url, api_key=key, timeout=self.timeout_s, max_retries=retries)

    def _find_model(self, model: str | None) -> str:
        from openai import APIConnectionError, APIStatusError, OpenAIError

        async def listed() -> list[str]:
            async with self._client(min(self.retries, _TRIES_AT_FIRST)) as client:
                return [str(model.id) async for model in client.models.list()]

        try:
            found = asyncio.run(listed())
        except (OpenAIError, ValueError, TypeError, AttributeError) as error:
            refused = isinstance(error, APIStatusError) and error.status_code in (401, 403)
            if model and not refused and not isinstance(error, APIConnectionError):
                return model  # some servers do not list their models
            raise EndpointError(explained(self.url, error)) from error
        if not model and len(found) != 1:
            raise EndpointError(
                f"{self.url} serves {', '.join(found) or 'no model'}: specify the judge's model as URL#MODEL"
            )
        return model or found[0]

    def generate(self, requests: Requests, on_answer: OnAnswer) -> None:
        """See `Engine.generate`. A request for n completions becomes n requests to the endpoint, each with its own seed.

        A server that cannot be reached, has an error or is too busy is asked again, at last after minutes; then it is given up.
        Raises EndpointError for that, for as many timeouts in a row as requests are sent at once, and at once for an answer that
        every request would get.
        """
        asyncio.run(self._serve(iter(requests), on_answer))

    async def _serve(self, pulled: Iterator[Request | None], on_answer: OnAnswer) -> None:
        slots, numbers = asyncio.Semaphore(self.concurrency), count()
        running: dict[asyncio.Task[Answer], int] = {}
        over = False
        async with self._client(self.retries) as client:
            try:
                while not over or running:
                    while not over and len(running) < 2 * self.concurrency:
                        request = next(pulled, _END)
                        over = request is _END
                        if not isinstance(request, Request):
                            break
                        running[asyncio.create_task(self._answer(client, slots, request))] = next(numbers)
                    if running:
                        done, _ = await asyncio.wait(running, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
                        for task in done:
                            on_answer(running.pop(task), task.result())
            finally:
                for task in running:
                    task.cancel()

    async def _answer(self, client: Any, slots: asyncio.Semaphore, request: Request) -> Answer:
        made = await asyncio.gather(*(self._complete(client, slots, request, j) for j in range(request.sampling.n)))
        failed = next((part for part in made if isinstance(part, Failure)), None)
        return failed or [part for part in made if isinstance(part, Completion)]

    async def _complete(self, client: Any, slots: asyncio.Semaphore, request: Request, j: int) -> Completion | Failure:
        from openai import APIStatusError, APITimeoutError, OpenAIError

        labels = [chr(token) for token in request.sampling.logprob_ids]
        async with slots:
            try:
                reply = await self._ask_patiently(client, request, j)
            except EndpointError:
                raise
            except APIStatusError as error:
                if refuses_all(error):
                    raise EndpointError(explained(self.url, error)) from error
                return Failure(f"endpoint_{error.status_code}", words(error))
            except APITimeoutError:
                return Failure("endpoint_timeout", f"no reply within {self.timeout_s:g} s, {self.retries + 1} times")
            except (OpenAIError, ValueError) as error:  # a reply that is not JSON raises ValueError
                return Failure("endpoint_failed", words(error))
        return _completion(reply, labels)

    async def _ask_patiently(self, client: Any, request: Request, j: int) -> Any:
        """The server's reply. What may pass is asked again after each of `pauses_s`; EndpointError says that it did not pass.

        An error of the server is this request's own if others were answered meanwhile, unless the server is just too busy. So is
        a timeout: the last replies of a stage may all be too long, but hardly as many as are asked for at once.
        """
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        pauses, answered = deque(self.pauses_s), self.answered
        while True:
            try:
                reply = await self._ask(client, request, j)
                self.answered += 1
                self.in_vain = 0
                return reply
            except APITimeoutError as error:
                self.in_vain += 1
                if self.in_vain < max(self.concurrency, 2):
                    raise
                raise EndpointError(
                    f"{self.url} has answered none of the last {self.in_vain} requests within {self.timeout_s:g} s: "
                    "once it does, start again; what is done is kept"
                ) from error
            except (APIConnectionError, APIStatusError) as error:
                code = getattr(error, "status_code", None)
                if code is not None and not may_pass(error):
                    raise
                if not pauses and code is not None and self.answered > answered:
                    if code != TOO_BUSY:
                        raise
                    pauses.extend(self.pauses_s)
                if not pauses:
                    raise EndpointError(explained(self.url, error)) from error
                answered = self.answered
                await asyncio.sleep(pauses.popleft())

    async def _ask(self, client: Any, request: Request, j: int) -> Any:
        """The server's reply. Newer models of OpenAI's call the limit of a reply otherwise, and say so when they refuse it."""
        from openai import BadRequestError

        sampling, limit = request.sampling, self.limit
        options: dict[str, Any] = {"logprobs": True, "top_logprobs": _TOP} if sampling.logprob_ids else {}
        try:
            return await client.chat.completions.create(
                model=self.model,
                messages=[message.to_json() for message in request.messages],
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                seed=sampling.seed + j,
                **{limit: sampling.max_tokens},
                **options,
            )
        except BadRequestError as error:
            if limit == _OTHER_LIMIT or _OTHER_LIMIT not in words(error):
                raise
            self.limit = _OTHER_LIMIT
        return await self._ask(client, request, j)


def _completion(reply: Any, labels: Sequence[str]) -> Completion | Failure:
    choices = getattr(reply, "choices", None)
    if not isinstance(choices, list) or len(choices) != 1 or getattr(choices[0], "message", None) is None:
        return Failure("endpoint_bad_reply", f"expected one choice with a message, got {str(reply)[:200]}")
    [choice] = choices
    if choice.finish_reason not in ("stop", "length"):
        return Failure(f"endpoint_{choice.finish_reason}")
    # The server reports the number of tokens, not their ids; some report none.
    ids = [0] * int(getattr(reply.usage, "completion_tokens", None) or 0)
    text = _text_of(choice.message.content)
    if text is None:
        return Failure("endpoint_bad_reply", f"the content is not text: {str(choice.message.content)[:200]}")
    if not labels:
        text = _whole_reply(text, choice.message)
        return Completion(text, ids, finished=choice.finish_reason == "stop")
    first = choice.logprobs.content[0].top_logprobs if choice.logprobs and choice.logprobs.content else []
    return Completion(text, ids, finished=True, id_logprobs=_label_logprobs(first, labels))


def _text_of(content: object) -> str | None:
    """The text of a message's content, which may be a list of parts; None if it has anything that is no text."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        return None
    texts = [part.get("text") if isinstance(part, Mapping) else None for part in content]
    return "".join(map(str, texts)) if all(isinstance(text, str) for text in texts) else None


def _whole_reply(text: str, message: Any) -> str:
    """The reply as the model wrote it, from its tag of thoughts on.

    A server with a reasoning parser gives the thoughts apart (vLLM has called the field both names); with a chat template
    that opens the thoughts, the reply begins behind the tag.
    """
    thoughts = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)
    if "</think>" in text:
        return text if "<think>" in text else f"<think>{text}"
    return f"<think>{thoughts}</think>{text}" if isinstance(thoughts, str) and thoughts.strip() else text


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
