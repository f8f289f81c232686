"""A judge's request as vLLM's ``/v1/completions`` takes it, and its reply as the engine in this process gives it.

Both sides are token ids, so that the server's chat template and tokenizer have no say. Held against vLLM 0.32,
``entrypoints/openai/completion``::

    {"model": "judge", "prompt": [1, 17, 9], "n": 1, "seed": 5, "max_tokens": 60, "stop_token_ids": [4], "return_token_ids": true}
    {"choices": [{"index": 0, "token_ids": [8, 30, 4], "finish_reason": "stop", "logprobs": null}]}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tasks.model.engine import Completion, Request
from tasks.model.vllm import completion_of

_NEUTRAL = {
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""Otherwise the model's generation_config.json decides, which the engine in this process does not ask."""
_NO_LOGPROB = -9999.0
"""What the server writes for a logprob of −inf, as JSON has none."""


class BadReplyError(ValueError):
    """A server's reply that is not what `body_of` asks for: what is wrong with it."""


def body_of(request: Request, model: str, end_id: int) -> dict[str, Any]:
    """The body that asks for a request's completions; `end_id` ends a reply."""
    sampling = request.sampling
    body = {
        "model": model,
        "prompt": list(request.prompt_ids),
        "n": sampling.n,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "seed": sampling.seed,
        "stop_token_ids": [end_id],
        "return_token_ids": True,
        **_NEUTRAL,
    }
    if sampling.logprob_ids:
        labels = {"logprob_token_ids": list(sampling.logprob_ids), "return_tokens_as_token_ids": True}
        return {**body, "logprobs": 1, **labels}
    return body


def completions_of(reply: Any, request: Request, tokenizer: Any) -> list[Completion]:
    """The completions in a reply. Raises BadReplyError for anything that is not one: no guess is made about a part of it."""
    choices = reply.get("choices") if isinstance(reply, Mapping) else None
    if not isinstance(choices, list) or len(choices) != request.sampling.n:
        raise BadReplyError(f"expected {request.sampling.n} choices, got {_shown(reply)}")
    try:
        ordered = sorted(choices, key=lambda one: int(one["index"]))
        for one in ordered:
            if one["finish_reason"] not in ("stop", "length"):
                raise BadReplyError(f"a reply has ended with {one['finish_reason']!r}")
        return [_completion(one, request, tokenizer) for one in ordered]
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise BadReplyError(f"a choice lacks {error} or has it in another shape: {_shown(choices)}") from error


def _completion(choice: Mapping[str, Any], request: Request, tokenizer: Any) -> Completion:
    ids = choice["token_ids"]
    if not isinstance(ids, list) or not ids or not all(type(token) is int for token in ids):
        raise BadReplyError(f"no token ids, which vLLM's own server gives: {_shown(choice)}")
    if len(ids) > request.sampling.max_tokens:
        raise BadReplyError(f"{len(ids)} tokens, where at most {request.sampling.max_tokens} were asked for")
    made = completion_of(tokenizer, request, ids, stopped=choice["finish_reason"] == "stop")
    if not request.sampling.logprob_ids:
        return made
    first = choice["logprobs"]["top_logprobs"][0]
    found = [float(first[f"token_id:{token}"]) for token in request.sampling.logprob_ids]
    return replace(made, id_logprobs=[value if value > _NO_LOGPROB else float("-inf") for value in found])


def _shown(reply: object) -> str:
    return " ".join(str(reply).split())[:200]
