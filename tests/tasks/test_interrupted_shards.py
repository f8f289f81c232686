"""Shards that were interrupted: what is on disk is kept, what killed an engine is found, and what is damaged is made again."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.store.artifacts import StageError
from tasks.generation.shards import GenerationJob, Shard, read_shards
from tasks.generation.worker import run_shards
from tasks.model.chat import ChatEncoder
from tasks.model.engine import Engine, FakeEngine, Request
from tests.conftest import FlakyEngine, run_with
from tests.support.generating import N_ROWS, echo, generate, row_ids, shard_bytes, stage


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
                shard.is_written(1)
                shard.is_committed(1)
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
    assert "000001.jsonl is damaged (its sha256 differs from the one recorded)" in capsys.readouterr().out


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
