"""Bulk generation with a fake engine: every row once, in order, whatever was interrupted, failed or left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.files import StoreError, write_jsonl
from prompts.prove import PROVE
from tasks.generation.shards import GenerationJob, read_shards, with_rows
from tasks.generation.worker import run_shards
from tasks.model.chat import ChatEncoder
from tasks.model.engine import Completion, FakeEngine, Request
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
        def answer(self, request: Request) -> list[Completion]:
            if request.score_from is not None:
                seen.append(
                    (list(request.prompt_ids[: request.score_from]), list(request.prompt_ids[request.score_from :]))
                )
            return super().answer(request)

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


def test_progress_grows_to_the_total_and_counts_finished_rows(job: GenerationJob, encoder: ChatEncoder) -> None:
    crash = FlakyEngine(FakeEngine(echo), crashes=lambda requests: row_ids(requests[0]) == "6")
    with pytest.raises(MemoryError):
        generate(job, encoder, crash)
    reports: list[dict[str, Any]] = []
    run_shards(job, FakeEngine(echo), encoder, reports.append)
    assert [facts["done"] for facts in reports] == sorted(facts["done"] for facts in reports)
    assert reports[0]["done"] == 3, "the first shard was finished"
    assert reports[-1]["made"] == N_ROWS - 6
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
