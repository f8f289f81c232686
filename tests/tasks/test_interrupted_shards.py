"""Shards that were interrupted: what is on disk is kept, what killed an engine is found, and what is damaged is made again."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.store.artifacts import StageError
from tasks.generation.open_shard import OpenShard
from tasks.generation.shards import GenerationJob, Shard, read_shards
from tasks.generation.worker import run_shards
from tasks.model.chat import ChatEncoder
from tasks.model.endpoint_errors import EndpointError
from tasks.model.engine import FakeEngine, Request
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


def test_a_shard_can_be_looked_at_while_it_is_written(job: GenerationJob, tmp_path: Path) -> None:
    shard = Shard(tmp_path, 0, 0, 2)
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
        opened = OpenShard(shard, attempt=1)
        for row in opened.todo:
            opened.write({"row": row, "id": str(row)})
        opened.commit(0.0)
        shard.path.unlink()
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


@pytest.mark.parametrize("end", [SystemExit(143), EndpointError("wrong key"), OSError("no space left")])
def test_an_engine_that_ends_for_a_reason_of_its_own_has_not_crashed(
    job: GenerationJob, encoder: ChatEncoder, end: BaseException
) -> None:
    """Asked to stop, without access to its endpoint, or without room on the disk: that is no row's fault."""

    def ended(request: Request, j: int) -> str:
        raise end

    for _ in range(5):
        with pytest.raises(type(end)):
            run_shards(job, FakeEngine(ended), encoder, lambda facts: None)
        assert not any([shard.note_death() for shard in job.shards()])
    assert not list(Path(job.out).glob(".*.crashes"))


def test_a_shard_that_cannot_be_written_has_not_killed_its_engine(job: GenerationJob, encoder: ChatEncoder) -> None:
    def in_the_way(request: Request, j: int) -> str:
        job.shard(0).path.mkdir(exist_ok=True)
        return echo(request, j)

    with pytest.raises(IsADirectoryError):
        run_shards(job, FakeEngine(in_the_way), encoder, lambda facts: None)
    assert not any([shard.note_death() for shard in job.shards()])


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


def test_rows_that_an_earlier_version_left_without_their_scores_are_made_again(
    job: GenerationJob, encoder: ChatEncoder
) -> None:
    """It wrote their tokens, to be scored when the shard was complete."""
    scored = replace(job, score_against=[{"role": "user", "content": "Why?"}])
    generate(scored, encoder)
    before, shard = shard_bytes(scored), scored.shard(0)
    lines = [json.loads(line) for line in shard.path.read_text().splitlines()]
    for completion in (c for request in lines[1]["requests"] for c in request["completions"]):
        completion["ids"] = [1, 2, completion.pop("logprob_alone")]
    for file in (shard.path, *Path(job.out).glob(".000000.*")):
        file.unlink()
    (Path(job.out) / ".000000.partial").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert generate(scored, encoder) == 2
    assert shard_bytes(scored) == before


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
