"""Generation as seen by a stage: its rows go to engine processes in shards, and come back counted and streamed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.files import read_jsonl, write_json
from data.store.artifacts import SHARDS, Artifact, Counts, Outcome, StageError
from tasks.generation.shards import GenerationJob, with_rows
from tasks.machine import child
from tasks.machine.gpus import visible_gpus
from tasks.model.endpoint import is_endpoint
from tasks.run.space import check_room, generation_bytes
from tasks.settings import Role

if TYPE_CHECKING:
    from tasks.run.stage import Context

_MOST_RESTARTS = 16
"""Of the engines of one stage: a row among 16,384 that kills them is known after six deaths and fails at the seventh."""

_SEEN = ("prompt_tokens", "tokens_generated", "shortened", "asked_longer", "cut_off")


@dataclass(frozen=True)
class GenerationStats:
    """What a stage's engines did in this attempt. Engine start and shards found done are not in the seconds."""

    tokens: int = 0
    seconds: float = 0.0
    engines: int = 0

    def plus(self, other: GenerationStats) -> GenerationStats:
        """Both, one after the other."""
        return GenerationStats(
            self.tokens + other.tokens, self.seconds + other.seconds, max(self.engines, other.engines)
        )

    def to_json(self) -> dict[str, Any]:
        """Seconds and rate, of this attempt alone; the rate is that of all engines together."""
        rate = round(self.tokens / self.seconds * self.engines, 1) if self.seconds else None
        return {"engine_seconds": round(self.seconds, 2), "tokens_per_s": rate, "engines": self.engines}


def gpu_seconds(metrics: Mapping[str, Any]) -> float:
    """What a generation stage took of GPUs in all its attempts, at the rate of its last one; 0 where that is not known."""
    rate = metrics.get("tokens_per_s")
    gpus = metrics.get("engines", 1) * metrics.get("gpus_an_engine", 1)
    return float(metrics.get("tokens_generated", 0) / rate * gpus) if rate else 0.0


def generate_in_children(
    job: GenerationJob, log_file: Path, on_line: Callable[[str], None], on_progress: Callable[[int, int], None]
) -> GenerationStats:
    """Runs the job's open shards, one child process for each GPU (one on a machine without), and waits for them."""
    if all(shard.is_finished() for shard in job.shards()):
        on_progress(job.n_rows, job.n_rows)
        return GenerationStats()
    engines = max(1, min(len(visible_gpus()) // int(job.generation["tensor_parallel"]), job.n_shards))
    if is_endpoint(job.model):
        engines = 1  # which asks for many rows at once
    return run_engines(job, [(i, engines) for i in range(engines)], log_file, on_line, on_progress)


def run_engines(
    job: GenerationJob,
    shares: Sequence[tuple[int, int]],
    log_file: Path,
    on_line: Callable[[str], None],
    on_progress: Callable[[int, int], None],
) -> GenerationStats:
    """Runs an engine, in a process of its own, for each share of the job's shards: the i-th of every n.

    Engines that die at work are started again, so that a row that kills them is found; see `tasks.generation.worker`. Raises
    ChildError where they die otherwise, or too often.
    """
    # Beside the work folder's other files but not one of the artifact's: it names paths of this machine.
    job_file = log_file.with_suffix(".job.json")
    write_json(job_file, job.to_json())
    commands = [
        child.Command(
            "tasks.generation.worker",
            [str(job_file), "--worker", str(i), "--workers", str(n)],
            engine_environment(on_gpus=bool(visible_gpus())),
            f"engine {i}" if n > 1 else "engine",
        )
        for i, n in shares
    ]
    latest: dict[str, dict[str, Any]] = {}

    def progressed(label: str, facts: dict[str, Any]) -> None:
        latest[label] = facts
        on_progress(sum(f["done"] for f in latest.values()), job.n_rows)

    mine = [shard for shard in job.shards() if any(shard.number % n == i for i, n in shares)]
    for shard in mine:
        shard.forget_work()
    stats = GenerationStats()
    for restarts_left in range(_MOST_RESTARTS, -1, -1):
        try:
            child.run_children(commands, log_file, on_line, progressed)
            break
        except child.ChildError as error:
            at_work = [shard for shard in mine if shard.note_death()]
            if not at_work or not restarts_left:
                raise
            on_line(f"{error}\nIt is started again: what it had finished is kept")
            stats = stats.plus(_stats(latest))
            latest.clear()
    return stats.plus(_stats(latest))


def _stats(latest: Mapping[str, Mapping[str, Any]]) -> GenerationStats:
    return GenerationStats(
        sum(f["tokens"] for f in latest.values()), sum(f["seconds"] for f in latest.values()), len(latest)
    )


def engine_environment(on_gpus: bool) -> dict[str, str]:
    """What vLLM and torch read from the environment as they are imported, so it must be there before. The user's stays."""
    wanted = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    if on_gpus:
        # The engine looks for GPUs before it forks workers for tensor parallelism: CUDA must not be started by that,
        # and workers must start afresh.
        wanted |= {"PYTORCH_NVML_BASED_CUDA_CHECK": "1", "VLLM_WORKER_MULTIPROC_METHOD": "spawn"}
    else:
        # One thread: 4,915 tokens/s were measured on 2 cores with a small model, 473 with two.
        # No compilation: the first logprob call would take 25 s and a C++ compiler.
        wanted |= {"OMP_NUM_THREADS": "1", "TORCHDYNAMO_DISABLE": "1"}
    return {name: value for name, value in wanted.items() if name not in os.environ}


def generate_rows(
    context: Context,
    builder: str,
    params: Mapping[str, Any],
    rows: Path,
    model: Path | str,
    role: Role = "judge",
    score_against: Sequence[Mapping[str, str]] | None = None,
) -> Outcome:
    """Generates for every row of a file into the stage's ``shards-…`` and counts what became of each.

    Raises StageError where more rows failed than the settings allow; those that did not are kept for the next attempt.
    """
    generation = context.run.settings.generation
    n_rows = sum(1 for _ in read_jsonl(rows))
    shards = _shard_folder(context.work, generation.shard_rows)
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
    )
    reserve = context.run.settings.retention.reserve_gib
    check_room(context.work, f"generating for {n_rows} rows", generation_bytes(params, n_rows), reserve)
    attempts, stats = _generate_with_retry(context, job)
    dropped: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    first: dict[str, str] = {}
    seen: Counter[str] = Counter(dict.fromkeys(_SEEN, 0))
    for _, line in with_rows(job):
        completions = [c for request in line.get("requests", ()) for c in request["completions"]]
        seen["prompt_tokens"] += line.get("prompt_tokens", 0)
        seen["tokens_generated"] += sum(c["n_tokens"] for c in completions)
        seen["cut_off"] += sum(not c["finished"] for c in completions)
        seen["shortened"] += line.get("shortened", False)
        seen["asked_longer"] += line.get("asked_longer", False)
        if "dropped" in line:
            dropped[line["dropped"]] += 1
        elif "failed" in line:
            failed[line["failed"]] += 1
            first.setdefault(line["failed"], f"row {line['id']!r}: {line.get('detail', 'the engine gives no reason')}")
    if failed.total() > generation.max_failed_share * max(n_rows, 1):
        shown = "".join(f"\n  {reason}, {failed[reason]} times; {what}" for reason, what in first.items())
        raise StageError(
            f"{failed.total()} of {n_rows} rows failed, over generation.max_failed_share = "
            f"{generation.max_failed_share:.2%}. The first of each kind:{shown}\n"
            "The rows that did not fail are kept; starting the run again asks for the failed ones only"
        )
    kept = n_rows - dropped.total() - failed.total()
    metrics = {**seen, **stats.to_json(), "gpus_an_engine": generation.tensor_parallel}
    metrics |= {"shard_rows": shard_rows, "attempts": attempts}
    return Outcome(Counts(n_rows, kept, dict(dropped), dict(failed)), metrics)


def _generate_with_retry(context: Context, job: GenerationJob) -> tuple[int, GenerationStats]:
    """Generates, and once more for rows that failed; how often they have been tried in all, and what the engines did."""
    earlier = context.earlier()
    if earlier is not None:
        for shard in job.shards():
            shard.adopt()
    most = context.run.settings.generation.max_attempts
    before = int(earlier.metrics["attempts"]) if earlier is not None and earlier.counts.failed else 0
    # Those of a stage that was stopped because too many rows had failed count too, once all of it has been tried.
    before = max(before, min((shard.attempts() for shard in job.shards() if not shard.is_finished()), default=0))
    if before:
        context.watch.log(f"rows that failed earlier are tried again: attempt {before + 1} of {max(most, before + 1)}")
    stats = context.generate(replace(job, attempt=before + 1))
    attempts = before + 1
    if attempts < most and not all(shard.is_finished() for shard in job.shards()):
        context.watch.log("some rows failed; asking for them once more")
        attempts += 1
        stats = stats.plus(context.generate(replace(job, attempt=attempts)))
    return attempts, stats


def generated_for(generated: Artifact, rows: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each row of `rows` with what a finished generation stage made for it, streamed."""
    manifest = generated.manifest
    if manifest.counts.rows_in:
        generated.folder(f"{SHARDS}{manifest.metrics['shard_rows']}")
    return read_generated(generated.path, rows, Outcome(manifest.counts, manifest.metrics))


def read_generated(folder: Path, rows: Path, outcome: Outcome) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Like `generated_for`, inside the stage that has just generated."""
    shard_rows = int(outcome.metrics["shard_rows"])
    shards = str(folder / f"{SHARDS}{shard_rows}")
    return with_rows(
        GenerationJob("", {}, str(rows), outcome.counts.rows_in, "", shards, {}, {"shard_rows": shard_rows})
    )


def _shard_folder(work: Path, shard_rows: int) -> Path:
    """Where shards go. Those of an attempt with another size are gone on with: a setting must not cost finished work."""
    begun = sorted(work.glob(f"{SHARDS}*"))
    return begun[0] if begun else work / f"{SHARDS}{shard_rows}"
