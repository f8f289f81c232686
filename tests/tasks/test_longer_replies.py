"""Replies that are cut off go on from their own tokens, up to twice the length; their siblings are left alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from data.records import Message
from tasks.generation.shards import GenerationJob, read_shards
from tasks.generation.worker import run_shards
from tasks.model.chat import ChatEncoder
from tasks.model.engine import Completion, FakeEngine, Request, Sampling
from tasks.model.requests import PendingRow

LENGTHS = (60, 100, 140)
"""Of the three replies, in tokens: with a limit of 60, the first is whole."""


def limited_requests(row: Mapping[str, Any], params: Mapping[str, Any], encoder: ChatEncoder) -> list[Request]:
    return [Request("ab", [5] * params["prompt_tokens"], Sampling(n=3, max_tokens=60, seed=7, logprobs=True))]


class Limited(FakeEngine):
    """Replies "000…", "111…", "222…", each token with logprob −1. It keeps the requests that it was given."""

    def __init__(self) -> None:
        super().__init__(lambda request, j: "")
        self.given: list[Request] = []

    def answer(self, request: Request) -> list[Completion]:
        self.given.append(request)
        begun = list(request.prompt_ids[len(request.prompt_ids) - request.begun :])
        number = int(chr(begun[0])) if begun else None
        return [self.reply_of(j if number is None else number, begun, request) for j in range(request.sampling.n)]

    def reply_of(self, number: int, begun: list[int], request: Request) -> Completion:
        whole = [*map(ord, str(number) * (LENGTHS[number] - 1)), 0]
        assert whole[: len(begun)] == begun, "a reply goes on from its own tokens"
        ids = whole[: len(begun) + request.sampling.max_tokens]
        text = "".join(map(chr, ids)).rstrip("\0")
        return Completion(text, ids, len(ids) == len(whole), sum_logprob=-1.0 * (len(ids) - len(begun)))


@pytest.mark.parametrize(
    ("prompt_tokens", "more", "lengths"),
    [(10, 60, [60, 100, 120]), (166, 30, [60, 90, 90]), (196, 0, [60, 60, 60])],
)
def test_only_what_was_cut_off_goes_on_as_far_as_the_context_has_room(
    job: GenerationJob, encoder: ChatEncoder, prompt_tokens: int, more: int, lengths: list[int]
) -> None:
    """A context of 256 tokens. Nothing that was generated is thrown away, or counted twice."""
    engine = Limited()
    one = replace(
        job,
        n_rows=1,
        builder="tests.tasks.test_longer_replies:limited_requests",
        params={"prompt_tokens": prompt_tokens},
    )
    reports: list[dict[str, Any]] = []
    run_shards(one, engine, encoder, reports.append)
    [line] = read_shards(one)
    replies = line["requests"][0]["completions"]
    assert [reply["n_tokens"] for reply in replies] == lengths
    assert [reply["text"] for reply in replies] == [str(j) * (n - (n == LENGTHS[j])) for j, n in enumerate(lengths)]
    assert [reply["finished"] for reply in replies] == [n == LENGTHS[j] for j, n in enumerate(lengths)]
    assert [reply["logprob"] for reply in replies] == [-1.0 * n for n in lengths]
    assert line.get("asked_longer", False) == (more > 0)
    assert "discarded_tokens" not in line
    assert reports[-1]["tokens"] == sum(lengths)
    first, *longer = engine.given
    assert (first.sampling.n, [request.sampling.n for request in longer]) == (3, [1, 1] if more else [])
    assert {(request.sampling.max_tokens, request.begun) for request in longer} == ({(more, 60)} if more else set())
    seeds = {request.sampling.seed for request in longer} | {7, 8, 9}
    assert len(seeds) == 3 + len(longer), "each continues with random numbers of its own"


def test_without_tokens_only_what_was_cut_off_is_asked_for_again(encoder: ChatEncoder) -> None:
    """As with an endpoint: with the seed of that very reply, at twice the length."""
    row = PendingRow({}, context=256)
    request = Request(
        "ab", [], Sampling(n=2, max_tokens=60, seed=7), messages=(Message("user", "Why?"),), opened="<think>"
    )
    [asked] = row.ask([request])
    whole, cut = Completion("x", [0] * 9, finished=True), Completion("y", [0] * 60, finished=False)
    [again] = row.take(asked, [whole, cut])
    assert again.request == replace(request, sampling=Sampling(n=1, max_tokens=120, seed=8))
    assert row.open == 1
    assert row.take(again, [Completion("yz", [0] * 70, finished=True)]) == []
    assert row.open == 0
    line = row.finished_line()
    assert [(c["text"], c["n_tokens"]) for c in line["requests"][0]["completions"]] == [
        ("<think>x", 9),
        ("<think>yz", 70),
    ]
    assert (line["discarded_tokens"], row.tokens) == (60, 9 + 60 + 70)
