"""Generation as seen by a stage: its rows go to engines in shards, on this machine or on others, and the results are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from data.files import BLOCK_ROWS, Lines, StoreError, line_blocks, read_jsonl
from data.store.artifacts import SHARDS, Artifact, Counts, Outcome, StageError
from tasks.generation.claims import rows_a_shard
from tasks.generation.local import GenerationStats, done_before, generate_in_children
from tasks.generation.pool import generate_in_pool
from tasks.generation.shards import GenerationJob, with_rows
from tasks.model.malformed import UselessReplies
from tasks.run.space import check_room, generation_bytes
from tasks.run.stage import Context
from tasks.settings import Role

_SEEN = ("prompt_tokens", "tokens_generated", "shortened", "asked_longer", "cut_off")


def generate_rows(
    context: Context,
    builder: str,
    params: Mapping[str, Any],
    rows: Path,
    model: Path | str,
    role: Role = "judge",
    score_against: Sequence[Mapping[str, str]] | None = None,
    score_if: str | None = None,
    follow: str | None = None,
) -> Outcome:
    """Generates for every row of a file into the stage's ``shards-…`` and counts what became of each.

    `builder`, `score_against`, `score_if` and `follow` are those of a `GenerationJob`.
    Raises StageError if more rows failed than the settings allow; the other rows are kept for the next attempt.
    """
    generation = context.run.settings.generation
    n_rows = sum(1 for _ in read_jsonl(rows))
    shards = _shard_folder(context.work, rows_a_shard(n_rows, generation.shard_rows))
    shard_rows = int(shards.name.removeprefix(SHARDS))
    job = GenerationJob(
        builder,
        params,
        str(rows),
        n_rows,
        str(model),
        str(shards),
        context.run.settings.models.for_role(role).model_dump(mode="json"),
        {**generation.model_dump(mode="json"), "shard_rows": shard_rows},
        score_against,
        score_if=score_if,
        follow=follow,
    )
    reserve = context.run.settings.retention.reserve_gib
    check_room(context.work, f"generating for {n_rows} rows", generation_bytes(params, n_rows), reserve)
    attempts, stats = _generate_with_retry(context, job)
    dropped = UselessReplies()
    failed: Counter[str] = Counter()
    first: dict[str, str] = {}
    seen: Counter[str] = Counter(dict.fromkeys((*_SEEN, *(("scored",) if score_against else ())), 0))
    for _, line in with_rows(job):
        completions = [c for request in line.get("requests", ()) for c in request["completions"]]
        seen["prompt_tokens"] += line.get("prompt_tokens", 0)
        seen["tokens_generated"] += sum(c["n_tokens"] for c in completions) + line.get("discarded_tokens", 0)
        seen["cut_off"] += sum(not c["finished"] for c in completions)
        if score_against:
            seen["scored"] += sum("logprob_alone" in c for c in completions)
        seen["shortened"] += line.get("shortened", False)
        seen["asked_longer"] += line.get("asked_longer", False)
        if "dropped" in line:
            dropped.add(line["dropped"], f"row {line['id']}")
        elif "failed" in line:
            failed[line["failed"]] += 1
            first.setdefault(line["failed"], f"row {line['id']!r}: {line.get('detail', 'the engine gives no reason')}")
    if failed.total() > generation.max_failed_share * max(n_rows, 1):
        shown = "".join(f"\n  {reason}, {failed[reason]} times; {what}" for reason, what in first.items())
        raise StageError(
            f"{failed.total()} of {n_rows} rows failed, over generation.max_failed_share = "
            f"{generation.max_failed_share:.2%}. The first of each kind:{shown}\n"
            "The rows that did not fail are kept; starting the run again retries only the failed ones"
        )
    kept = n_rows - dropped.reasons.total() - failed.total()
    metrics = {**seen, **stats.to_json(), "gpus_an_engine": generation.tensor_parallel}
    metrics |= {"shard_rows": shard_rows, "attempts": attempts}
    outcome = Outcome(Counts(n_rows, kept, dict(dropped.reasons), dict(failed)), metrics)
    return outcome.warning(dropped.warnings(n_rows, "rows"))


def _generate_with_retry(context: Context, job: GenerationJob) -> tuple[int, GenerationStats]:
    """Generates, and retries failed rows once; returns the attempts made so far in all, and what the engines did in them."""
    earlier, stats = context.earlier(), done_before(job)
    if earlier is not None:
        stats = stats.plus(GenerationStats.from_json(earlier.metrics))
        for shard in job.shards():
            shard.adopt()
    most = context.run.settings.generation.max_attempts
    before = int(earlier.metrics["attempts"]) if earlier is not None and earlier.counts.failed else 0
    # Attempts of a stage that was stopped by too many failed rows count too, once all its rows have been tried.
    before = max(before, min((shard.attempts() for shard in job.shards() if not shard.is_finished()), default=0))
    if before:
        context.watch.log(f"retrying rows that failed earlier: attempt {before + 1} of {max(most, before + 1)}")
    stats = stats.plus(_carry_out(context, replace(job, attempt=before + 1)))
    attempts = before + 1
    if attempts < most and not all(shard.is_finished() for shard in job.shards()):
        context.watch.warn("some rows failed; retrying them once")
        attempts += 1
        stats = stats.plus(_carry_out(context, replace(job, attempt=attempts)))
    return attempts, stats


def _carry_out(context: Context, job: GenerationJob) -> GenerationStats:
    """Runs a job on this machine or, if generation.workers is set, on workers of the pool ``gpu``."""
    if context.run.settings.generation.workers:
        return generate_in_pool(job, context.watch.warn, context.progress, context.run.store)
    generate = context.run.generator or generate_in_children
    return generate(job, context.log_file, context.watch.detail, context.progress, context.watch.warn)


def generated_for(generated: Artifact, rows: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each row of `rows` with what a finished generation stage generated for it, streamed."""
    return with_rows(_finished_job(generated, rows))


@dataclass(frozen=True)
class GeneratedBlock:
    """Some rows and what was generated for each, not read yet."""

    rows: Lines
    made: Sequence[Lines]

    def pairs(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """As `generated_for`."""
        lines = chain.from_iterable(part.rows() for part in self.made)
        for row, made in zip(self.rows.rows(), lines, strict=True):
            if str(row["id"]) != made["id"]:
                raise StoreError(
                    f"row {made['row']} of {self.rows.path} is not the row {made['id']!r} that was generated for"
                )
            yield row, made


def generated_blocks(generated: Artifact, rows: Path) -> Iterator[GeneratedBlock]:
    """As `generated_for`, in blocks that other processes can read."""
    job, n = _finished_job(generated, rows), 0
    with rows.open("rb") as stream:
        for made in _together(part for shard in job.shards() for part in line_blocks(shard.path)):
            wanted = sum(part.n for part in made)
            lines = Lines.next_in(stream, rows, n + 1, wanted)
            n += lines.n
            if lines.n < wanted:
                raise StoreError(f"{rows} has only {n} rows, but more were generated for")
            yield GeneratedBlock(lines, made)
        if next(stream, None) is not None:
            raise StoreError(f"{rows} has more rows than the {n} that were generated for")


def _together(parts: Iterable[Lines]) -> Iterator[list[Lines]]:
    """Lines of small shards, in blocks of BLOCK_ROWS or more."""
    block: list[Lines] = []
    for part in parts:
        block.append(part)
        if sum(one.n for one in block) >= BLOCK_ROWS:
            yield block
            block = []
    if block:
        yield block


def _finished_job(generated: Artifact, rows: Path) -> GenerationJob:
    manifest = generated.manifest
    if manifest.counts.rows_in:
        generated.folder(f"{SHARDS}{manifest.metrics['shard_rows']}")
    return _job_of(generated.path, rows, Outcome(manifest.counts, manifest.metrics))


def read_generated(folder: Path, rows: Path, outcome: Outcome) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Like `generated_for`, but inside the stage that has just generated."""
    return with_rows(_job_of(folder, rows, outcome))


def _job_of(folder: Path, rows: Path, outcome: Outcome) -> GenerationJob:
    shard_rows = int(outcome.metrics["shard_rows"])
    shards = str(folder / f"{SHARDS}{shard_rows}")
    return GenerationJob("", {}, str(rows), outcome.counts.rows_in, "", shards, {}, {"shard_rows": shard_rows})


def _shard_folder(work: Path, shard_rows: int) -> Path:
    """Where shards go. Those of an attempt with another size are continued: a changed setting must not cost finished work."""
    existing = sorted(work.glob(f"{SHARDS}*"))
    return existing[0] if existing else work / f"{SHARDS}{shard_rows}"
