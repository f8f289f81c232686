"""The stream of rows through an engine: what it holds, what follows from answers, and rows that cannot be asked for."""

from __future__ import annotations

import shutil
import time
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.files import StoreError, write_jsonl
from tasks.generation.shards import GenerationJob, Shard, read_shards
from tasks.generation.worker import run_shards
from tasks.model.chat import ChatEncoder, ChatTemplateError
from tasks.model.engine import FakeEngine, OnAnswer, Request, Requests, Sampling
from tests.conftest import FlakyEngine
from tests.support.generating import N_ROWS, build, echo, generate

HERE = "tests.tasks.test_stream"


def many(job: GenerationJob, n_rows: int, shard_rows: int) -> GenerationJob:
    out = Path(job.out).with_name(f"shards-of-{n_rows}")
    write_jsonl(out.with_suffix(".rows.jsonl"), ({"id": str(i)} for i in range(n_rows)))
    rows = str(out.with_suffix(".rows.jsonl"))
    return replace(job, out=str(out), rows=rows, n_rows=n_rows, generation={"shard_rows": shard_rows})


def short_requests(row: Mapping[str, Any], params: Mapping[str, Any], encoder: ChatEncoder) -> list[Request]:
    return [Request("ab", [*range(300, 300 + params.get("n", 3))], Sampling(seed=10 * int(row["id"])))]


# ---- what it holds --------------------------------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_rows(job: GenerationJob, encoder: ChatEncoder) -> None:
    def reply(request: Request, j: int) -> str:
        if request.sampling.seed == 0:  # time for all the rows to be made that may be ahead
            time.sleep(0.2)
        return "x" * 50

    peaks = []
    for n_rows in (700, 700, 2500):  # the first warms up
        some = replace(many(job, n_rows, 100), builder=f"{HERE}:short_requests", params={"n": 200})
        shutil.rmtree(some.out, ignore_errors=True)
        tracemalloc.start()
        run_shards(some, FakeEngine(reply), encoder, lambda facts: None)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] == pytest.approx(peaks[1], rel=0.1)


def test_shards_are_taken_as_there_is_room_for_their_rows(job: GenerationJob, encoder: ChatEncoder) -> None:
    """An engine that stands still holds its own requests; some hundred rows more are ready, and no other shard is taken."""
    taken: list[int] = []
    job = many(job, 2000, 100)

    def shards() -> Iterator[Shard]:
        for shard in job.shards():
            taken.append(shard.number)
            yield shard

    class StandsStill(FakeEngine):
        def generate(self, requests: Requests, on_answer: OnAnswer) -> None:
            pulled = (request for request in requests if request is not None)
            assert len([next(pulled) for _ in range(200)]) == 200  # 100 rows
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_shards(job, StandsStill(echo), encoder, lambda facts: None, shards())
    assert taken == list(range(max(taken) + 1))
    assert max(taken) <= 4


def test_shards_in_any_order_get_their_own_rows(job: GenerationJob, encoder: ChatEncoder) -> None:
    order = [2, 0, 3, 1]
    run_shards(job, FakeEngine(echo), encoder, lambda facts: None, (job.shard(number) for number in order))
    assert [line["requests"][0]["completions"][0]["text"] for line in read_shards(job)] == [
        f"ab{10 * i}.0" for i in range(N_ROWS)
    ]


def test_rows_that_are_missing_or_broken_stop_the_stage(job: GenerationJob, encoder: ChatEncoder) -> None:
    with pytest.raises(StoreError, match=r"rows\.jsonl has no row 11: it is shorter than when the stage began"):
        generate(replace(job, n_rows=N_ROWS + 1), encoder)
    rows = Path(job.rows)
    rows.write_text(rows.read_text().replace('"id": "7"', '"id": 7"'))
    with pytest.raises(StoreError, match=r"rows\.jsonl, line 8: not JSON"):
        generate(replace(job, out=job.out + "-2"), encoder)
    assert not list(Path(job.out).parent.glob("*/.*.at-work")), "the rows are under no suspicion"


# ---- rows that cannot be asked for --------------------------------------------------------------------------------------------


def picky(row: Mapping[str, Any], params: Mapping[str, Any], encoder: ChatEncoder) -> Any:
    if row["id"] in params["bad"]:
        raise params["raises"](f"nothing can be made of row {row['id']}")
    return build(row, params, encoder)


def test_a_row_that_cannot_be_asked_for_fails_alone(job: GenerationJob, encoder: ChatEncoder) -> None:
    picking = replace(job, builder=f"{HERE}:picky", params={"bad": ["4", "5"], "raises": KeyError})
    assert generate(picking, encoder) == 2 * (N_ROWS - 2)
    failed = [line for line in read_shards(picking) if "failed" in line]
    assert failed[0] == {
        "row": 4, "id": "4", "failed": "could_not_be_asked", "detail": "KeyError: 'nothing can be made of row 4'",
    }  # fmt: skip
    assert [line["id"] for line in failed] == ["4", "5"]
    again = replace(picking, attempt=2, params={"bad": ["5"], "raises": KeyError})
    assert generate(again, encoder) == 2
    assert [line["id"] for line in read_shards(picking) if "failed" in line] == ["5"]


def test_a_chat_template_that_cannot_be_used_stops_the_stage(job: GenerationJob, encoder: ChatEncoder) -> None:
    picking = replace(job, builder=f"{HERE}:picky", params={"bad": ["4"], "raises": ChatTemplateError})
    with pytest.raises(ChatTemplateError, match="nothing can be made of row 4"):
        generate(picking, encoder)


# ---- what follows from answers ------------------------------------------------------------------------------------------------


def until_it_says_2(
    row: Mapping[str, Any], params: Mapping[str, Any], requests: Sequence[Mapping[str, Any]], encoder: ChatEncoder
) -> list[Request]:
    """Asks again for rows below 3, until a reply is "2"; row 5 cannot be judged."""
    if row["id"] == "5":
        raise ValueError("what is this?")
    texts = [completion["text"] for request in requests for completion in request["completions"]]
    assert texts == [str(n) for n in range(len(texts))]
    return [Request("more", [1, 2], Sampling(seed=len(texts)))] if int(row["id"]) < 3 and texts[-1] != "2" else []


def test_more_is_asked_about_a_row_until_nothing_follows(job: GenerationJob, encoder: ChatEncoder) -> None:
    following = replace(job, builder=f"{HERE}:short_requests", follow=f"{HERE}:until_it_says_2")
    assert GenerationJob(**following.to_json()).follow == following.follow
    said = FakeEngine(lambda request, j: str(request.sampling.seed if request.name == "more" else 0))
    run_shards(following, said, encoder, lambda facts: None)
    lines = list(read_shards(following))
    names = [[request["name"] for request in line.get("requests", ())] for line in lines]
    assert names == [["ab", "more", "more"] if i < 3 else [] if i == 5 else ["ab"] for i in range(N_ROWS)]
    assert [line.get("prompt_tokens") for line in lines[:4]] == [3 + 2 + 2] * 3 + [3]
    assert (lines[5]["failed"], lines[5]["detail"]) == ("could_not_be_asked", "ValueError: what is this?")


def test_nothing_follows_from_a_row_that_has_failed(job: GenerationJob, encoder: ChatEncoder) -> None:
    following = replace(job, follow=f"{HERE}:never", score_against=[{"role": "user", "content": "Why?"}])
    flaky = FlakyEngine(FakeEngine(echo), fails=lambda request: True)
    assert generate(following, encoder, flaky) == 0
    assert {line["failed"] for line in read_shards(following)} == {"engine_abort"}


def never(*_: object) -> list[Request]:
    raise AssertionError("nothing is known of this row")


def only_first(row: Mapping[str, Any], params: Mapping[str, Any], name: str, completion: Mapping[str, Any]) -> bool:
    assert completion.keys() == {"text", "finished", "n_tokens", "logprob"}
    return name == "ab" and str(completion["text"]).endswith(".0")


def test_only_what_is_worth_it_is_scored(job: GenerationJob, encoder: ChatEncoder) -> None:
    scored = replace(job, score_against=[{"role": "user", "content": "Why?"}], score_if=f"{HERE}:only_first")
    generate(scored, encoder)
    for line in read_shards(scored):
        for request in line["requests"]:
            assert ["logprob_alone" in completion for completion in request["completions"]] == [
                request["name"] == "ab", False
            ]  # fmt: skip


def test_a_score_that_the_engine_cannot_give_fails_the_row(job: GenerationJob, encoder: ChatEncoder) -> None:
    scored = replace(job, score_against=[{"role": "user", "content": "Why?"}])

    def is_score_of_row_4(request: Request) -> bool:
        return request.score_from is not None and "ab40" in "".join(map(chr, request.prompt_ids[request.score_from :]))

    generate(scored, encoder, FlakyEngine(FakeEngine(echo), fails=is_score_of_row_4))
    assert [line["id"] for line in read_shards(scored) if line.get("failed") == "engine_abort"] == ["4"]
