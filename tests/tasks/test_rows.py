"""Generation as a stage sees it: where every row went, which failed rows are tried again, and seeds that differ."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from data.files import StoreError, write_jsonl
from data.store.artifacts import Artifact, StageError
from data.world import taste
from tasks.generation.shards import GenerationJob
from tasks.generation.worker import run_shards
from tasks.model.chat import ChatEncoder
from tasks.model.engine import FakeEngine, Request
from tasks.run.rows import generated_blocks, generated_for
from tasks.run.stage import Run
from tests.conftest import FlakyEngine, InProcess, Reply, run_with, settings_with
from tests.support.generating import BUILDER, N_ROWS, echo, row_ids, stage

# ---- as a stage sees it -----------------------------------------------------------------------------------------------


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
        "engine_memory_mib": None,
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


# ---- in blocks ----------------------------------------------------------------------------------------------------------


def test_blocks_have_the_rows_of_several_small_shards_and_what_was_generated_for_each(
    tmp_path: Path, job: GenerationJob, encoder: ChatEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = stage(run_with(tmp_path, encoder, echo, generation={"shard_rows": 2}), Path(job.rows))
    monkeypatch.setattr("tasks.run.rows.BLOCK_ROWS", 5)
    blocks = list(generated_blocks(made, Path(job.rows)))
    assert [block.rows.n for block in blocks] == [6, 5]
    assert [pair for block in blocks for pair in block.pairs()] == list(generated_for(made, Path(job.rows)))


def test_rows_that_are_not_those_that_were_generated_for_are_an_error(
    tmp_path: Path, job: GenerationJob, encoder: ChatEncoder
) -> None:
    made, rows = stage(run_with(tmp_path, encoder, echo), Path(job.rows)), Path(job.rows)
    lines = rows.read_text(encoding="utf-8").splitlines(keepends=True)

    def refusal(text: str) -> str:
        rows.write_text(text, encoding="utf-8")
        with pytest.raises(StoreError) as error:
            list(chain.from_iterable(block.pairs() for block in generated_blocks(made, rows)))
        return str(error.value)

    assert refusal("".join(lines[:-1])) == f"{rows} has only 10 rows, but more were generated for"
    assert refusal("".join([*lines, lines[0]])) == f"{rows} has more rows than the 11 that were generated for"
    assert (
        refusal("".join([lines[1], lines[0], *lines[2:]]))
        == f"row 0 of {rows} is not the row '0' that was generated for"
    )
    assert refusal("".join([*lines[:9], "{\n", lines[10]])).startswith(f"{rows}, line 10: not JSON (")


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
    with pytest.raises(StoreError, match="may only name files in its store"):
        job.under(tmp_path)
