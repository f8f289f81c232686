"""A reward service that judges by length, for what calls it: it speaks the native API, on the loopback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.endpoints import Answer, Served, serving


def by_length(body: dict[str, Any]) -> tuple[int, Any]:
    """A response's characters ÷ 100 as its reward; none for "?", and for one that has nothing to be compared with."""
    responses = body["responses"]
    alone = len(responses) == 1 and "reference" not in body
    reasons = ["group_of_one" if alone else "no_verdict" if text == "?" else None for text in responses]
    rewards = [None if reason else len(text) / 100 for text, reason in zip(responses, reasons, strict=True)]
    return 200, {"rewards": rewards, "reasons": reasons, "comparisons_planned": len(responses), "tokens": 7}


@contextlib.contextmanager
def rewarding(answer: Answer = by_length) -> Iterator[Served]:
    """A service, which the environment names."""
    with serving(answer) as served, pytest.MonkeyPatch.context() as patch:
        served.url = served.url.removesuffix("/v1")
        patch.setenv("GRAM_R2_REWARD_URL", served.url)
        yield served


def said(text: str) -> dict[str, Any]:
    """A response of the Responses API, with the reasoning that comes before it."""
    reasoning = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}
    return {"output": [reasoning, {"type": "message", "content": [{"type": "output_text", "text": text}]}]}
