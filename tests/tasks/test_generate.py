"""Bulk generation with a fake engine: every row once, in order, whatever was interrupted, failed or left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.files import StoreError, write_jsonl
from prompts.prove import PROVE
from tasks.generation.shards import GenerationJob, read_shards, with_rows
from tasks.generation.worker import run_shards
from tasks.model.chat import ChatEncoder
from tasks.model.engine import Completion, FakeEngine, Request, Sampling
from tests.conftest import FlakyEngine
from tests.support.generating import N_ROWS, echo, generate, row_ids, shard_bytes

# ---- shards ---------------------------------------------------------------------------------------------------------


def test_every_row_has_its_line_in_the_order_of_the_rows(job: GenerationJob, encoder: ChatEncoder) -> None:
    assert generate(job, encoder) == 2 * N_ROWS
    assert list(shard_bytes(job)) == [f"{shard:06d}.jsonl" for shard in range(4)]
    lines = list(read_shards(job))
    assert [line["row"] for line in lines] == list(range(N_ROWS))
    assert [line["id"] for line in lines] == [str(i) for i in range(N_ROWS)]
    for i, (row, line) in enumerate(with_rows(job)):
        assert row["text"] == f"row {i}"
        assert [request["name"] for request in line["requests"]] == ["ab", "ba"]
        for request in line["requests"]:
            texts = [completion["text"] for completion in request["completions"]]
            assert texts == [f"{request['name']}{10 * i}.0", f"{request['name']}{10 * i}.1"]
            assert request["seed"] == 10 * i


def test_a_completion_is_written_with_all_that_is_known_of_it(job: GenerationJob, encoder: ChatEncoder) -> None:
    generate(job, encoder)
    completion = next(read_shards(job))["requests"][0]["completions"][0]
    assert completion == {"text": "ab0.0", "finished": True, "n_tokens": 6, "logprob": -6.0}


def test_the_logprob_alone_is_of_the_same_tokens_behind_the_given_messages(
    job: GenerationJob, encoder: ChatEncoder
) -> None:
    seen: list[tuple[list[int], list[int]]] = []

    class Recording(FakeEngine):
        def score(self, texts: Any) -> list[float]:
            seen.extend((list(prefix), list(ids)) for prefix, ids in texts)
            return super().score(texts)

    alone = PROVE.render_unconditional()
    scored = replace(job, score_against=[message.to_json() for message in alone])
    run_shards(scored, Recording(echo), encoder, lambda facts: None)
    assert len(seen) == 4 * N_ROWS
    assert {tuple(prefix) for prefix, _ in seen} == {tuple(encoder.prompt_ids(alone))}
    assert seen[1][1] == [*map(ord, "ab0.1"), 0]
    assert all(
        completion["logprob_alone"] == -2.0 * completion["n_tokens"]
        for line in read_shards(scored)
        for request in line["requests"]
        for completion in request["completions"]
    )


# ---- rows and workers ------------------------------------------------------------


def test_a_row_that_no_request_is_made_for_is_dropped_with_its_reason_and_done(
    job: GenerationJob, encoder: ChatEncoder
) -> None:
    skipping = replace(job, params={"skipped": ["3", "4", "5", "10"]})
    assert generate(skipping, encoder) == 2 * (N_ROWS - 4)
    lines = list(read_shards(skipping))
    assert [line["id"] for line in lines if line.get("dropped") == "prompt_too_long"] == ["3", "4", "5", "10"]
    assert lines[10] == {"row": 10, "id": "10", "dropped": "prompt_too_long"}
    assert generate(skipping, encoder) == 0


def limited(request: Request, j: int) -> Completion:
    """Replies of 60, 100, 140 tokens for completions 0, 1, 2, cut off at the request's limit."""
    text = f"{j}" * (59 + 40 * j)
    ids = [*map(ord, text), 0][: request.sampling.max_tokens]
    return Completion(text[: len(ids)], ids, finished=len(ids) == len(text) + 1, sum_logprob=-1.0 * len(ids))


def limited_requests(row: Mapping[str, Any], params: Mapping[str, Any], encoder: ChatEncoder) -> list[Request]:
    return [Request("ab", [5] * params["prompt_tokens"], Sampling(n=3, max_tokens=60, seed=7))]


@pytest.mark.parametrize(
    ("prompt_tokens", "limits", "finished"),
    [(10, [60, 120], [True, True, False]), (166, [60, 90], [True, False, False]), (196, [60], [True, False, False])],
)
def test_replies_that_are_cut_off_are_asked_for_once_more_at_twice_the_length(
    job: GenerationJob, encoder: ChatEncoder, prompt_tokens: int, limits: list[int], finished: list[bool]
) -> None:
    """As far as the context of 256 tokens has room; what was whole the first time stays as it was."""
    seen: list[int] = []

    class Limited(FakeEngine):
        def _complete(self, request: Request, j: int) -> Completion:
            if j == 0:
                seen.append(request.sampling.max_tokens)
            assert request.sampling.seed == 7
            made = limited(request, j)
            return replace(made, text=made.text.upper() + "!") if len(seen) > 1 and j == 0 else made

    params = {"prompt_tokens": prompt_tokens}
    one = replace(job, builder="tests.tasks.test_generate:limited_requests", params=params, n_rows=1)
    run_shards(one, Limited(echo), encoder, lambda facts: None)
    [line] = read_shards(one)
    assert seen == limits
    assert [c["finished"] for c in line["requests"][0]["completions"]] == finished
    assert [c["n_tokens"] for c in line["requests"][0]["completions"]] == [60, min(100, limits[-1]), limits[-1]]
    assert line["requests"][0]["completions"][0]["text"] == "0" * 59
    assert line.get("asked_longer", False) == (len(limits) > 1)
    # Discarded: the second try of the first reply, and the first tries of the other two.
    assert line.get("discarded_tokens", 0) == (60 + 60 + 60 if len(limits) > 1 else 0)


def test_progress_grows_to_the_total_and_counts_finished_rows(job: GenerationJob, encoder: ChatEncoder) -> None:
    crash = FlakyEngine(FakeEngine(echo), crashes=lambda requests: row_ids(requests[0]) == "6")
    with pytest.raises(MemoryError):
        generate(job, encoder, crash)
    reports: list[dict[str, Any]] = []
    run_shards(job, FakeEngine(echo), encoder, reports.append)
    assert [facts["done"] for facts in reports] == sorted(facts["done"] for facts in reports)
    assert reports[0]["done"] >= 6
    assert (reports[-1]["done"], reports[-1]["total"]) == (N_ROWS, N_ROWS)
    # Of this attempt only: two requests of two completions a row, 7 or 8 tokens each.
    assert reports[-1]["tokens"] == sum(
        completion["n_tokens"]
        for line in list(read_shards(job))[6:]
        for request in line["requests"]
        for completion in request["completions"]
    )


def test_rows_that_changed_since_are_noticed(job: GenerationJob, encoder: ChatEncoder) -> None:
    generate(job, encoder)
    write_jsonl(Path(job.rows), ({"id": str(i + (i > 5))} for i in range(N_ROWS)))
    with pytest.raises(StoreError, match="row 6 of"):
        list(with_rows(job))
    write_jsonl(Path(job.rows), ({"id": str(i)} for i in range(N_ROWS - 1)))
    with pytest.raises(ValueError, match="argument 2 is longer than argument 1"):
        list(with_rows(job))


def test_no_rows_make_no_shards(job: GenerationJob, encoder: ChatEncoder) -> None:
    write_jsonl(Path(job.rows), [])
    empty = replace(job, n_rows=0)
    assert generate(empty, encoder) == 0
    assert list(with_rows(empty)) == []
