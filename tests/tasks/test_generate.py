"""Bulk generation with a fake engine: every row once, in order, whatever was interrupted, failed or left out."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.files import StoreError, write_jsonl
from data.store.artifacts import Artifact, StageError
from data.world import taste
from prompts.prove import PROVE
from tasks.generation.shards import GenerationJob, Shard, read_shards, with_rows
from tasks.generation.worker import run_shards
from tasks.model.chat import ChatEncoder
from tasks.model.engine import Completion, Engine, FakeEngine, Request, Sampling
from tasks.model.requests import Skip
from tasks.run.rows import generate_rows, generated_for
from tasks.run.stage import Context, Run
from tests.conftest import FlakyEngine, InProcess, Reply, run_with, settings_with

N_ROWS = 11
BUILDER = "tests.tasks.test_generate:build"


def build(row: Mapping[str, Any], params: Mapping[str, Any], encoder: ChatEncoder) -> list[Request] | Skip:
    """Two requests a row, of two completions each; none for the rows that are too long."""
    if row["id"] in params.get("skipped", ()):
        return Skip("prompt_too_long")
    ids = encoder.text_ids(row["id"])
    return [Request(name, ids, Sampling(n=2, seed=10 * int(row["id"]))) for name in ("ab", "ba")]


def echo(request: Request, j: int) -> str:
    return f"{request.name}{request.sampling.seed}.{j}"


def row_ids(request: Request) -> str:
    return str(request.sampling.seed // 10)


@pytest.fixture
def job(tmp_path: Path) -> GenerationJob:
    write_jsonl(tmp_path / "rows.jsonl", ({"id": str(i), "text": f"row {i}"} for i in range(N_ROWS)))
    return GenerationJob(
        BUILDER,
        {},
        str(tmp_path / "rows.jsonl"),
        N_ROWS,
        "",
        str(tmp_path / "shards"),
        {"max_tokens": 256},
        {"shard_rows": 3},
    )


def generate(job: GenerationJob, encoder: ChatEncoder, engine: Any = None, worker: int = 0, workers: int = 1) -> int:
    """Runs the job and returns the number of requests that the engine was given."""
    inner = FakeEngine(echo)
    run_shards(job, replace(engine, inner=inner) if engine else inner, encoder, lambda facts: None, worker, workers)
    return inner.requests_seen


def shard_bytes(job: GenerationJob) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(job.out).glob("[0-9]*"))}


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


def test_finished_shards_are_not_made_again(job: GenerationJob, encoder: ChatEncoder) -> None:
    generate(job, encoder)
    before = {path: path.stat().st_mtime_ns for path in Path(job.out).iterdir()}
    assert generate(job, encoder) == 0
    assert {path: path.stat().st_mtime_ns for path in Path(job.out).iterdir()} == before


def test_a_missing_shard_alone_is_made(job: GenerationJob, encoder: ChatEncoder) -> None:
    generate(job, encoder)
    before = shard_bytes(job)
    job.shard(3).path.unlink()
    assert generate(job, encoder) == 4
    assert shard_bytes(job) == before


def test_a_crash_keeps_the_shards_before_it_and_the_next_attempt_makes_the_rest(
    job: GenerationJob, encoder: ChatEncoder
) -> None:
    undisturbed = replace(job, out=job.out + "-undisturbed")
    generate(undisturbed, encoder)
    crash = FlakyEngine(FakeEngine(echo), crashes=lambda requests: row_ids(requests[0]) == "6")
    with pytest.raises(MemoryError):
        generate(job, encoder, crash)
    assert list(shard_bytes(job)) == ["000000.jsonl", "000001.jsonl"]
    assert generate(job, encoder) == 2 * (N_ROWS - 6)
    assert shard_bytes(job) == shard_bytes(undisturbed)


def test_a_row_that_kills_the_engine_is_found_and_fails_alone(job: GenerationJob, encoder: ChatEncoder) -> None:
    """Two such rows in one shard; whatever is asked for together with one of them is not lost by its deaths."""
    big = replace(job, generation={**job.generation, "shard_rows": 10})
    killer = FlakyEngine(
        FakeEngine(echo), crashes=lambda requests: {"4", "7"} & {row_ids(r) for r in requests} != set()
    )
    until_it_ends(big, encoder, killer, most_deaths=6)  # each row: twice among all, and once alone
    lines = list(read_shards(big))
    assert [line["id"] for line in lines if "failed" in line] == ["4", "7"]
    assert {line["failed"] for line in lines if "failed" in line} == {"engine_crashed"}
    assert all("requests" in line for line in lines if line["id"] not in ("4", "7"))
    assert not list(Path(big.out).glob(".*.crashes"))


def test_rows_that_kill_the_engine_in_two_shards_are_not_asked_for_again_and_again(
    job: GenerationJob, encoder: ChatEncoder
) -> None:
    two = replace(job, generation={**job.generation, "shard_rows": 6})
    deadly = {"2", "9"}
    killer = FlakyEngine(FakeEngine(echo), crashes=lambda requests: deadly & {row_ids(r) for r in requests} != set())
    until_it_ends(two, encoder, killer, most_deaths=6)
    assert [line["id"] for line in read_shards(two) if "failed" in line] == ["2", "9"]


def test_a_kill_takes_no_attempt_from_rows_that_were_not_asked_for(
    tmp_path: Path, job: GenerationJob, encoder: ChatEncoder
) -> None:
    """The first shard is finished with a failed row when the kill comes: the others are still at their first attempt."""
    allowed = {"max_failed_share": 0.5, "max_attempts": 3}
    flaky = FlakyEngine(
        FakeEngine(echo), lambda request: row_ids(request) == "1", lambda requests: row_ids(requests[0]) == "3"
    )
    with pytest.raises(MemoryError):
        stage(run_with(tmp_path, encoder, flaky, generation=allowed), Path(job.rows))
    again = FlakyEngine(FakeEngine(echo), lambda request: row_ids(request) in ("1", "7"))
    made = stage(run_with(tmp_path, encoder, again, generation=allowed), Path(job.rows))
    assert made.manifest.metrics["attempts"] == 2
    assert made.manifest.counts.failed == {"engine_abort": 2}


def until_it_ends(job: GenerationJob, encoder: ChatEncoder, engine: Engine, most_deaths: int) -> None:
    """Has the job done as its parent does, which lives to see its engines die."""
    for deaths in itertools.count():
        try:
            generate(job, encoder, engine)
            return
        except MemoryError:
            assert deaths < most_deaths
            assert [shard.number for shard in job.shards() if shard.note_death()] != []


def test_a_row_that_kills_the_engine_while_it_is_scored_fails_alone(job: GenerationJob, encoder: ChatEncoder) -> None:
    scored = replace(job, score_against=[{"role": "user", "content": "alone"}], generation={"shard_rows": N_ROWS})
    marked = [*map(ord, "ab40")]  # what the fake engine says to the row 4

    class DiesScoring(FlakyEngine):
        def score(self, texts: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[float]:
            if any(list(text)[: len(marked)] == marked for _, text in texts):
                raise MemoryError("the logits did not fit")
            return super().score(texts)

    until_it_ends(scored, encoder, DiesScoring(FakeEngine(echo)), most_deaths=3)
    lines = list(read_shards(scored))
    assert [line["id"] for line in lines if line.get("failed") == "engine_crashed"] == ["4"]
    rest = [c for line in lines if "requests" in line for r in line["requests"] for c in r["completions"]]
    assert len(rest) == 4 * (N_ROWS - 1)
    assert all("logprob_alone" in completion for completion in rest)


def test_kills_from_outside_are_no_reason_to_suspect_a_row(job: GenerationJob, encoder: ChatEncoder) -> None:
    """Kill −9 of the whole run, five times: nobody lives to see the engine die."""
    sizes: list[int] = []

    def noted(requests: Sequence[Request]) -> bool:
        sizes.append(len(requests))
        return len(sizes) <= 5

    whole = replace(job, generation={**job.generation, "shard_rows": N_ROWS})
    for _ in range(5):
        with pytest.raises(MemoryError):
            generate(whole, encoder, FlakyEngine(FakeEngine(echo), crashes=noted))
        for shard in whole.shards():
            shard.forget_work()
    assert generate(whole, encoder) == 2 * N_ROWS
    assert sizes == [2 * N_ROWS] * 5
    assert all("requests" in line for line in read_shards(whole))


def test_a_shard_can_be_looked_at_while_it_is_written(job: GenerationJob, tmp_path: Path) -> None:
    shard = Shard(tmp_path, 0, 0, 2)
    lines = {row: {"row": row, "id": str(row)} for row in range(2)}
    errors: list[Exception] = []
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            try:
                assert 0 <= shard.rows_done() <= 2
                shard.is_written(1)
                shard.crashes()
                shard.attempts()
            except Exception as error:
                errors.append(error)

    looking = threading.Thread(target=look)
    looking.start()
    for _ in range(100):
        with shard.appending() as partial:
            partial.write(json.dumps(lines[0]) + "\n")
        shard.finish(lines, 1)
    over.set()
    looking.join()
    assert errors == []


def test_a_shard_file_without_its_facts_is_not_made_again(job: GenerationJob, encoder: ChatEncoder) -> None:
    """A kill between the two; of an attempt in which a row had failed, only that one is asked for."""
    flaky = FlakyEngine(FakeEngine(echo), fails=lambda request: row_ids(request) == "4")
    generate(job, encoder, flaky)
    for facts in Path(job.out).glob(".*.done"):
        facts.unlink()
    assert generate(job, encoder) == 2
    assert all("requests" in line for line in read_shards(job))


def test_a_stage_that_was_stopped_for_its_failed_rows_asks_for_them_on_every_start(
    tmp_path: Path, job: GenerationJob, encoder: ChatEncoder
) -> None:
    """With attempts that go on from the last one: shards on other machines are done with an attempt only once."""
    seen: list[int] = []
    for _ in range(3):
        run = run_with(tmp_path, encoder, FlakyEngine(FakeEngine(echo), fails=lambda request: True))
        inner = run.generator

        def noted(told: GenerationJob, *more: Any, inner: Any = inner) -> Any:
            seen.append(told.attempt)
            return inner(told, *more)

        run.generator = noted
        with pytest.raises(StageError, match="11 of 11 rows failed"):
            stage(run, Path(job.rows))
    assert seen == [1, 2, 3, 4]


def test_an_engine_that_is_asked_to_stop_has_not_crashed(job: GenerationJob, encoder: ChatEncoder) -> None:
    def stopped(request: Request, j: int) -> str:
        raise SystemExit(143)

    for _ in range(5):
        with pytest.raises(SystemExit):
            run_shards(job, FakeEngine(stopped), encoder, lambda facts: None)
    assert not list(Path(job.out).glob(".*.crashes"))


def test_half_of_a_shard_file_of_a_killed_process_is_not_taken_for_a_shard(
    job: GenerationJob, encoder: ChatEncoder
) -> None:
    Path(job.out).mkdir()
    (Path(job.out) / ".000001.jsonl.tmp").write_text('{"row": 3, "id": "3", "requ')
    assert generate(job, encoder) == 2 * N_ROWS
    assert len(shard_bytes(job)) == 4


def test_a_kill_inside_a_shard_loses_only_the_rows_that_were_not_done(job: GenerationJob, encoder: ChatEncoder) -> None:
    undisturbed = replace(job, out=job.out + "-undisturbed")
    generate(undisturbed, encoder)

    def killed(request: Request, j: int) -> str:
        if row_ids(request) == "5" and request.name == "ba":
            raise KeyboardInterrupt
        return echo(request, j)

    with pytest.raises(KeyboardInterrupt):
        run_shards(job, FakeEngine(killed), encoder, lambda facts: None)
    assert list(shard_bytes(job)) == ["000000.jsonl"]
    partial = Path(job.out) / ".000001.partial"
    assert [json.loads(line)["row"] for line in partial.read_text().splitlines()] == [3, 4]
    partial.write_text(partial.read_text() + '{"row": 5, "id": "5", "requ')  # the line under way is torn
    assert generate(job, encoder) == 2 * (N_ROWS - 5)
    assert shard_bytes(job) == shard_bytes(undisturbed)
    assert not partial.exists()


def test_rows_of_a_killed_shard_are_scored_with_the_tokens_that_they_were_made_of(
    job: GenerationJob, encoder: ChatEncoder
) -> None:
    def killed(request: Request, j: int) -> str:
        if row_ids(request) == "2":
            raise KeyboardInterrupt
        return echo(request, j)

    scored = replace(job, score_against=[{"role": "user", "content": "Why?"}])
    with pytest.raises(KeyboardInterrupt):
        run_shards(scored, FakeEngine(killed), encoder, lambda facts: None)
    generate(scored, encoder)
    completions = [c for line in read_shards(scored) for request in line["requests"] for c in request["completions"]]
    assert len(completions) == 4 * N_ROWS
    assert all(c.keys() == {"text", "finished", "n_tokens", "logprob", "logprob_alone"} for c in completions)
    assert all(c["logprob_alone"] == -2.0 * c["n_tokens"] for c in completions)


@pytest.mark.parametrize("damage", ["cut", "altered"])
def test_a_damaged_shard_is_named_moved_aside_and_made_again(
    job: GenerationJob, encoder: ChatEncoder, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    generate(job, encoder)
    before = shard_bytes(job)
    path = job.shard(1).path
    whole = path.read_bytes()
    damaged = whole[:-9] if damage == "cut" else whole.replace(b"ab30.1", b"ab30.7")
    path.write_bytes(damaged)
    assert generate(job, encoder) == 6
    assert shard_bytes(job) == before
    assert path.with_name(".000001.jsonl.damaged").read_bytes() == damaged
    assert "000001.jsonl is damaged (its sha256 is not the one that was written)" in capsys.readouterr().out


def test_failed_rows_are_asked_for_again_and_the_others_kept_as_they_are(
    job: GenerationJob, encoder: ChatEncoder
) -> None:
    # One of the two requests of rows 4 and 7 fails: the row as a whole has.
    flaky = FlakyEngine(FakeEngine(echo), fails=lambda r: row_ids(r) in ("4", "7") and r.name == "ba")
    generate(job, encoder, flaky)
    first = [path.read_text().splitlines() for path in (shard.path for shard in job.shards())]
    for identity, line in (("4", first[1][1]), ("7", first[2][1])):
        failed = json.loads(line)
        assert (failed["id"], failed["failed"], failed["detail"]) == (identity, "engine_abort", "no reason")
        assert "requests" not in failed  # the row has failed; what its other request got is kept beside
        assert [request["name"] for request in failed["answered"]] == ["ab"]
    assert generate(job, encoder) == 0, "not in the same attempt"
    assert generate(replace(job, attempt=2), encoder) == 4
    second = [path.read_text().splitlines() for path in (shard.path for shard in job.shards())]
    changed = [(s, i) for s in range(4) for i in range(len(first[s])) if first[s][i] != second[s][i]]
    assert changed == [(1, 1), (2, 1)]
    assert all("requests" in line for line in read_shards(job))
    assert generate(job, encoder) == 0


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


@pytest.mark.parametrize("workers", [2, 3, 7])
def test_workers_split_the_shards_exactly(job: GenerationJob, encoder: ChatEncoder, workers: int) -> None:
    alone = replace(job, out=job.out + "-alone")
    generate(alone, encoder)
    requests = []
    made: list[set[str]] = []
    for worker in range(workers):
        before = set(shard_bytes(job)) if Path(job.out).exists() else set()
        requests.append(generate(job, encoder, worker=worker, workers=workers))
        made.append((set(shard_bytes(job)) if Path(job.out).exists() else set()) - before)
    assert sum(requests) == 2 * N_ROWS
    assert sorted(name for names in made for name in names) == sorted(shard_bytes(alone))
    assert shard_bytes(job) == shard_bytes(alone)


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


# ---- as a stage sees it -----------------------------------------------------------------------------------------------


def stage(run: Run, rows: Path, name: str = "round-1/votes", params: Mapping[str, Any] | None = None) -> Any:
    def body(context: Context) -> Any:
        return generate_rows(context, BUILDER, params or {}, rows, rows.parent)

    return run.find_or_make(name, "vote", {"name": name}, {}, body)


def engine_of(run: Run) -> InProcess:
    assert isinstance(run.generator, InProcess)
    return run.generator


def test_the_counts_of_a_stage_say_where_every_row_went(
    tmp_path: Path, job: GenerationJob, encoder: ChatEncoder
) -> None:
    flaky = FlakyEngine(FakeEngine(echo), fails=lambda r: row_ids(r) == "4")
    run = run_with(tmp_path, encoder, flaky, generation={"shard_rows": 4, "max_failed_share": 0.1})
    made = stage(run, Path(job.rows), params={"skipped": ["0", "9"]})
    counts = made.manifest.counts
    assert (counts.rows_in, counts.kept) == (N_ROWS, N_ROWS - 3)
    assert (counts.dropped, counts.failed) == ({"prompt_too_long": 2}, {"engine_abort": 1})
    lines = [line for _, line in generated_for(made, Path(job.rows))]
    written = [c["n_tokens"] for line in lines for r in line.get("requests", ()) for c in r["completions"]]
    # The failed row was asked for once more, so the engine's own figures count two passes.
    assert made.manifest.metrics == {
        "prompt_tokens": 2 * sum(len(encoder.text_ids(str(i))) for i in range(N_ROWS) if i not in (0, 9)),
        "tokens_generated": sum(written),
        "shortened": 0,
        "asked_longer": 0,
        "cut_off": 0,
        "engine_seconds": 4.0,
        "tokens_per_s": 5.0,
        "engines": 1,
        "gpus_an_engine": 1,
        "shard_rows": 4,
        "attempts": 2,
    }
    assert sorted(made.manifest.files) == [f"shards-4/{shard:06d}.jsonl" for shard in range(3)]
    pairs = list(generated_for(made, Path(job.rows)))
    assert [(row["id"], line["id"]) for row, line in pairs] == [(str(i), str(i)) for i in range(N_ROWS)]


def test_too_many_failed_rows_stop_the_stage_and_the_next_attempt_asks_for_them_only(
    tmp_path: Path, job: GenerationJob, encoder: ChatEncoder
) -> None:
    flaky = FlakyEngine(FakeEngine(echo), fails=lambda r: row_ids(r) in ("4", "7"))
    run = run_with(tmp_path, encoder, flaky, generation={"max_failed_share": 0.1})
    with pytest.raises(
        StageError,
        match=r"2 of 11 rows failed, over generation\.max_failed_share = 10\.00%.*"
        r"\n  engine_abort, 2 times; row '4': no reason\nThe rows that did not fail are kept",
    ):
        stage(run, Path(job.rows))
    healthy = run_with(tmp_path, encoder, echo, generation={"max_failed_share": 0.1})
    made = stage(healthy, Path(job.rows))
    assert engine_of(healthy).requests == 4
    assert (made.manifest.counts.kept, made.manifest.counts.failed) == (N_ROWS, {})


def test_no_failed_row_is_allowed_where_the_share_is_zero(
    tmp_path: Path, job: GenerationJob, encoder: ChatEncoder
) -> None:
    flaky = FlakyEngine(FakeEngine(echo), fails=lambda r: row_ids(r) == "4")
    with pytest.raises(StageError, match="1 of 11 rows failed"):
        stage(run_with(tmp_path, encoder, flaky, generation={"max_failed_share": 0}), Path(job.rows))


def test_another_size_of_shards_goes_on_with_those_of_an_earlier_attempt(
    tmp_path: Path, job: GenerationJob, encoder: ChatEncoder
) -> None:
    crash = FlakyEngine(FakeEngine(echo), crashes=lambda requests: row_ids(requests[0]) == "6")
    with pytest.raises(MemoryError):
        stage(run_with(tmp_path, encoder, crash, generation={"shard_rows": 3}), Path(job.rows))
    run = run_with(tmp_path, encoder, echo, generation={"shard_rows": 5})
    made = stage(run, Path(job.rows))
    assert sorted(made.manifest.files) == [f"shards-3/{shard:06d}.jsonl" for shard in range(4)]
    assert (made.manifest.counts.kept, engine_of(run).requests) == (N_ROWS, 2 * (N_ROWS - 6))
    assert len(list(generated_for(made, Path(job.rows)))) == N_ROWS


def test_failed_rows_of_a_finished_stage_are_tried_again_on_the_next_run_up_to_a_bound(
    tmp_path: Path, job: GenerationJob, encoder: ChatEncoder
) -> None:
    def again(fails: str, max_attempts: int) -> tuple[Artifact, int]:
        flaky = FlakyEngine(FakeEngine(echo), fails=lambda r: row_ids(r) in fails.split())
        allowed = {"max_failed_share": 0.5, "max_attempts": max_attempts}
        run = run_with(tmp_path, encoder, flaky, generation=allowed)
        return stage(run, Path(job.rows)), engine_of(run).requests

    made, asked = again("4 7", 3)
    assert (made.manifest.counts.failed, asked) == ({"engine_abort": 2}, 2 * N_ROWS + 4)
    untouched = (made.path / "shards-3/000000.jsonl").read_bytes()
    third, asked = again("7", 3)
    assert (third.manifest.counts.failed, third.manifest.metrics["attempts"], asked) == ({"engine_abort": 1}, 3, 4)
    assert third.content != made.content
    assert (third.path / "shards-3/000000.jsonl").read_bytes() == untouched
    assert all("requests" in line for _, line in generated_for(third, Path(job.rows)) if line["id"] != "7")
    at_the_bound, asked = again("", 3)
    assert (at_the_bound.reused, asked) == (True, 0)
    with_a_higher_bound, asked = again("", 4)
    assert (with_a_higher_bound.manifest.counts.failed, asked) == ({}, 2)


def test_a_damaged_shard_of_a_finished_stage_alone_is_made_again(
    tmp_path: Path, job: GenerationJob, encoder: ChatEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    made = stage(run_with(tmp_path, encoder, echo), Path(job.rows))
    shard = made.path / "shards-3/000002.jsonl"
    shard.write_text(shard.read_text().replace("ab60.1", "ab60.2"))
    run = run_with(tmp_path, encoder, echo)
    with caplog.at_level("INFO", logger="gram_r2"):
        mended = stage(run, Path(job.rows))
    assert f"{shard} is not what was written (its sha256 differs); round-1/votes is moved aside to" in caplog.text
    assert engine_of(run).requests == 2 * 3
    assert mended.content == made.content
    assert not mended.reused
    [aside] = (tmp_path / "run/.damaged").iterdir()
    assert "ab60.2" in (aside / "shards-3/000002.jsonl").read_text().split("ab60.0")[1]


# ---- seeds ------------------------------------------------------------------------------------------------------------


def test_no_two_votes_or_proofs_have_the_same_seed(tmp_path: Path, encoder: ChatEncoder) -> None:
    """Over rows, orders and completions, where completion j uses seed + j; and the same again for the same run."""
    write_jsonl(tmp_path / "pairs.jsonl", (p.to_json() for p in taste.draw_pairs(150, 0)))
    settings = settings_with()
    params = {
        "temperature": 1.0,
        "top_p": 1.0,
        "max_tokens": 64,
        "context": settings.models.max_tokens,
        "overlong": "drop",
        "votes": 8,
        "k": 4,
        "seed": 3,
    }
    for builder, prompt in (("tasks.label:vote_requests", "compact"), ("tasks.prove:proof_requests", "prove-compact")):
        seeds = [seeds_of(tmp_path, encoder, builder, {**params, "prompt": prompt, "seed": seed}) for seed in (3, 3, 4)]
        assert len(set(seeds[0])) == len(seeds[0]) == 150 * 2 * 4
        assert seeds[0] == seeds[1]
        assert not set(seeds[0]) & set(seeds[2])


def seeds_of(folder: Path, encoder: ChatEncoder, builder: str, params: Mapping[str, Any]) -> list[int]:
    seen: list[int] = []

    def reply(request: Request, j: int) -> str:
        seen.append(request.sampling.seed + j)
        return ""

    as_reply: Reply = reply
    out = folder / f"{builder.split(':')[1]}-{params['seed']}-{len(list(folder.iterdir()))}"
    job = GenerationJob(
        builder, params, str(folder / "pairs.jsonl"), 150, "", str(out), {"max_tokens": 256}, {"shard_rows": 64}
    )
    run_shards(job, FakeEngine(as_reply), encoder, lambda facts: None)
    return seen


# ---- on another machine ---------------------------------------------------------------------------------------------------


def test_a_job_goes_to_another_machine_with_paths_of_the_store(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    job = GenerationJob(
        BUILDER, {}, f"{here}/run/rows.jsonl", 3, f"{here}/run/judge/checkpoint", f"{here}/run/out", {}, {}
    )
    told = job.relative_to(here)
    assert (told.rows, told.model, told.out) == ("run/rows.jsonl", "run/judge/checkpoint", "run/out")
    assert told.under(there).rows == f"{there}/run/rows.jsonl"
    assert told.under(here) == job


@pytest.mark.parametrize("path", ["../outside/rows.jsonl", "/etc/passwd", "run/../../x"])
def test_a_job_cannot_name_files_outside_the_store(tmp_path: Path, path: str) -> None:
    job = GenerationJob(BUILDER, {}, path, 3, "run/judge", "run/out", {}, {})
    with pytest.raises(StoreError, match="may name files of its store only"):
        job.under(tmp_path)
