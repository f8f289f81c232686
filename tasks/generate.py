"""Bulk generation: shards of prompts → shards of completions, one engine a GPU, each in a process of its own.

A shard is a range of rows of one JSONL file. Its file appears when all of it is done, so a crash loses at most the shard
under way on each GPU. A line of it::

    {"row": 17, "id": "3f0c…", "requests": [{"name": "ab", "seed": 91, "completions":
        [{"text": "<think>…", "finished": true, "n_tokens": 212, "logprob": -81.2, "logprob_alone": -310.5}]}]}
    {"row": 18, "id": "77aa…", "dropped": "prompt_too_long"}
    {"row": 19, "id": "0b1d…", "failed": "engine_abort"}

A failed row is not done: the next attempt at its stage asks for it again.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.records import Message
from data.store import Artifact, Counts, Outcome, StageError, json_line, read_jsonl, write_json
from tasks import child
from tasks.chat import ChatEncoder
from tasks.engines import Completion, Engine, Failure, Request
from tasks.settings import GenerationSettings, ModelSettings

if TYPE_CHECKING:
    from tasks.stage import Context

_REPORT_EVERY_S = 1.0


@dataclass(frozen=True)
class Skip:
    """A row that no request is made for, and why."""

    reason: str


@dataclass(frozen=True)
class GenerationJob:
    """What a generation child is told. `builder` is ``module:function``, which turns a row into its requests.

    `score_against` asks for each completion's logprob behind these messages alone (the denominator of Eq. 5).
    """

    builder: str
    params: Mapping[str, Any]
    rows: str
    n_rows: int
    model: str
    out: str
    models: Mapping[str, Any]
    generation: Mapping[str, Any]
    score_against: Sequence[Mapping[str, str]] | None = None

    @property
    def shard_rows(self) -> int:
        return int(self.generation["shard_rows"])

    @property
    def n_shards(self) -> int:
        return -(-self.n_rows // self.shard_rows)

    def shard_path(self, shard: int) -> Path:
        return Path(self.out) / f"{shard:06d}.jsonl"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


Builder = Callable[[Mapping[str, Any], Mapping[str, Any], ChatEncoder], list[Request] | Skip]
Report = Callable[[dict[str, Any]], None]


def read_shards(job: GenerationJob) -> Iterator[dict[str, Any]]:
    """All lines of all shards in the order of the rows."""
    for shard in range(job.n_shards):
        yield from read_jsonl(job.shard_path(shard))


def with_rows(job: GenerationJob) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each input row with what was generated for it, streamed."""
    for row, made in zip(read_jsonl(Path(job.rows)), read_shards(job), strict=True):
        assert str(row["id"]) == made["id"], f"row {made['row']} of {job.rows} changed since it was generated for"
        yield row, made


# ---- in the child, or in a test with a fake engine --------------------------------------------------------------------


def run_shards(
    job: GenerationJob, engine: Engine, encoder: ChatEncoder, report: Report, worker: int = 0, workers: int = 1
) -> None:
    """Makes this worker's shards (every `workers`-th, from `worker`) that are not done yet."""
    build = _resolve(job.builder)
    prefix = encoder.prompt_ids([Message(m["role"], m["content"]) for m in job.score_against or []]) if job.score_against else None  # type: ignore[arg-type]
    meter = _Meter(report, sum(_rows_of(job, s) for s in range(worker, job.n_shards, workers)))
    rows = read_jsonl(Path(job.rows))
    for shard in range(job.n_shards):
        batch = list(islice(rows, job.shard_rows))
        if shard % workers != worker:
            continue
        done = _finished_lines(job.shard_path(shard))
        todo = [(shard * job.shard_rows + i, row) for i, row in enumerate(batch) if shard * job.shard_rows + i not in done]
        meter.rows_done(len(batch) - len(todo))
        if todo or not job.shard_path(shard).exists():
            for line in _generate_rows(todo, build, job, engine, encoder, prefix, meter):
                done[line["row"]] = line
            _write_shard(job.shard_path(shard), [done[row] for row in sorted(done)])
    meter.flush()


def _generate_rows(
    rows: Sequence[tuple[int, Mapping[str, Any]]],
    build: Builder,
    job: GenerationJob,
    engine: Engine,
    encoder: ChatEncoder,
    prefix: list[int] | None,
    meter: _Meter,
) -> Iterator[dict[str, Any]]:
    built = [(index, row, build(row, job.params, encoder)) for index, row in rows]
    requests = [request for _, _, made in built if not isinstance(made, Skip) for request in made]
    started = time.monotonic()
    meter.shard_started(len(rows), len(requests))
    results = iter(engine.generate(requests, meter.requests_done) if requests else [])
    lines, completions = [], []
    for index, row, made in built:
        line: dict[str, Any] = {"row": index, "id": str(row["id"])}
        if isinstance(made, Skip):
            lines.append({**line, "dropped": made.reason})
            continue
        answers = [(request, next(results)) for request in made]
        failures = [answer.reason for _, answer in answers if isinstance(answer, Failure)]
        if failures:
            lines.append({**line, "failed": failures[0]})
            continue
        line["requests"] = [_answer(request, answer, completions) for request, answer in answers]  # type: ignore[arg-type]
        lines.append(line)
    if prefix is not None and completions:
        scores = engine.score([(prefix, completion.token_ids) for completion, _ in completions], lambda _: None)
        for (_, fields), score in zip(completions, scores, strict=True):
            fields["logprob_alone"] = score
    meter.shard_ended(len(rows), sum(len(c.token_ids) for c, _ in completions), time.monotonic() - started)
    yield from lines


def _answer(
    request: Request, answer: list[Completion], collected: list[tuple[Completion, dict[str, Any]]]
) -> dict[str, Any]:
    fields: list[dict[str, Any]] = []
    for completion in answer:
        one: dict[str, Any] = {
            "text": completion.text,
            "finished": completion.finished,
            "n_tokens": len(completion.token_ids),
        }
        if completion.sum_logprob is not None:
            one["logprob"] = completion.sum_logprob
        fields.append(one)
        collected.append((completion, one))
    return {"name": request.name, "seed": request.sampling.seed, "completions": fields}


def _finished_lines(path: Path) -> dict[int, dict[str, Any]]:
    """The lines of a shard that need not be made again, by row: all that did not fail."""
    if not path.exists():
        return {}
    return {line["row"]: line for line in read_jsonl(path) if "failed" not in line}


def _write_shard(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(json_line(line) for line in lines)
    temporary.replace(path)


def _rows_of(job: GenerationJob, shard: int) -> int:
    return min(job.shard_rows, job.n_rows - shard * job.shard_rows)


def _resolve(name: str) -> Builder:
    module, _, function = name.partition(":")
    builder: Builder = getattr(importlib.import_module(module), function)
    return builder


class _Meter:
    """Adds up what is done and reports it, at most once a second."""

    def __init__(self, report: Report, total: int) -> None:
        self.report, self.total = report, total
        self.done = self.tokens = 0
        self.seconds = 0.0
        self._in_shard = 0.0
        self._rows_per_request = 0.0
        self._last = 0.0

    def rows_done(self, n: int) -> None:
        self.done += n

    def shard_started(self, rows: int, requests: int) -> None:
        self._rows_per_request = rows / requests if requests else 0.0
        self._in_shard = 0.0

    def requests_done(self, n: int) -> None:
        self._in_shard += n * self._rows_per_request
        if time.monotonic() - self._last >= _REPORT_EVERY_S:
            self.flush()

    def shard_ended(self, rows: int, tokens: int, seconds: float) -> None:
        self.done += rows
        self.tokens += tokens
        self.seconds += seconds
        self._in_shard = 0.0
        self.flush()

    def flush(self) -> None:
        self._last = time.monotonic()
        self.report(
            {
                "done": int(self.done + self._in_shard),
                "total": self.total,
                "tokens": self.tokens,
                "seconds": round(self.seconds, 3),
            }
        )


# ---- in the parent ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GenerationStats:
    """What a stage's engines did in this attempt. Engine start and shards found done are not in the seconds."""

    tokens: int = 0
    seconds: float = 0.0
    engines: int = 0

    def to_json(self) -> dict[str, Any]:
        rate = round(self.tokens / self.seconds * self.engines, 1) if self.seconds else None
        return {"tokens_generated": self.tokens, "engine_seconds": round(self.seconds, 2), "tokens_per_s": rate}


def generate_in_children(
    job: GenerationJob, log_file: Path, on_line: Callable[[str], None], on_progress: Callable[[int, int], None]
) -> GenerationStats:
    """Runs the job's open shards, one child process for each GPU (one on a machine without), and waits for them."""
    if all(job.shard_path(s).exists() and not _has_failed(job.shard_path(s)) for s in range(job.n_shards)):
        on_progress(job.n_rows, job.n_rows)
        return GenerationStats()
    # Beside the work folder's other files but not one of the artifact's: it names paths of this machine.
    job_file = log_file.with_suffix(".job.json")
    write_json(job_file, job.to_json())
    groups = _gpu_groups(int(job.generation["tensor_parallel"]), job.n_shards)
    commands = [
        child.Command(
            "tasks.generate",
            [str(job_file), "--worker", str(i), "--workers", str(len(groups)), "--gpus", ",".join(group)],
            {"CUDA_VISIBLE_DEVICES": ",".join(group)} if group else {},
            f"engine {i}" if len(groups) > 1 else "engine",
        )
        for i, group in enumerate(groups)
    ]
    latest: dict[str, dict[str, Any]] = {}

    def progressed(label: str, facts: dict[str, Any]) -> None:
        latest[label] = facts
        on_progress(sum(f["done"] for f in latest.values()), job.n_rows)

    child.run_children(commands, log_file, on_line, progressed)
    return GenerationStats(
        sum(f["tokens"] for f in latest.values()), sum(f["seconds"] for f in latest.values()), len(groups)
    )


def _has_failed(path: Path) -> bool:
    return any("failed" in line for line in read_jsonl(path))


def _gpu_groups(tensor_parallel: int, n_shards: int) -> list[list[str]]:
    """Which GPUs each engine gets; one empty group stands for the CPU. Never more engines than shards."""
    gpus = child.visible_gpus()
    if not gpus:
        return [[]]
    if len(gpus) < tensor_parallel:
        raise ValueError(f"generation.tensor_parallel is {tensor_parallel}, but only {len(gpus)} GPUs are visible")
    groups = [gpus[i : i + tensor_parallel] for i in range(0, len(gpus) - tensor_parallel + 1, tensor_parallel)]
    return groups[: max(1, n_shards)]


def generate_rows(
    context: Context,
    builder: str,
    params: Mapping[str, Any],
    rows: Path,
    model: Path,
    models: ModelSettings,
    generation: GenerationSettings,
    score_against: Sequence[Mapping[str, str]] | None = None,
) -> Outcome:
    """Generates for every row of a file into the stage's ``shards`` and counts what became of each.

    Raises StageError where more rows failed than the settings allow; those that did not are kept for the next attempt.
    """
    n_rows = sum(1 for _ in read_jsonl(rows))
    job = GenerationJob(
        builder,
        params,
        str(rows),
        n_rows,
        str(model),
        str(_shard_folder(context.work, generation.shard_rows)),
        models.model_dump(mode="json"),
        generation.model_dump(mode="json"),
        score_against,
    )
    stats = context.generate(job)
    dropped: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    first: dict[str, str] = {}
    for _, line in with_rows(job):
        if "dropped" in line:
            dropped[line["dropped"]] += 1
        elif "failed" in line:
            failed[line["failed"]] += 1
            first.setdefault(line["failed"], line["id"])
    if failed.total() > generation.max_failed_share * max(n_rows, 1):
        raise StageError(
            f"{failed.total()} of {n_rows} rows failed, over generation.max_failed_share; the first of each kind: {first}"
        )
    kept = n_rows - dropped.total() - failed.total()
    metrics = {**stats.to_json(), "shard_rows": generation.shard_rows}
    return Outcome(Counts(n_rows, kept, dict(dropped), dict(failed)), metrics)


def generated_for(generated: Artifact, rows: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each row of `rows` with what a finished generation stage made for it, streamed."""
    return read_generated(generated.path, rows, Outcome(generated.manifest.counts, generated.manifest.metrics))


def read_generated(folder: Path, rows: Path, outcome: Outcome) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Like `generated_for`, inside the stage that has just generated."""
    shard_rows = int(outcome.metrics["shard_rows"])
    shards = str(folder / f"shards-{shard_rows}")
    return with_rows(GenerationJob("", {}, str(rows), outcome.counts.rows_in, "", shards, {}, {"shard_rows": shard_rows}))


def _shard_folder(work: Path, shard_rows: int) -> Path:
    """Where shards of this size go. Those of another size, from an attempt with other settings, cannot be used."""
    for other in work.glob("shards-*"):
        if other.name != f"shards-{shard_rows}":
            shutil.rmtree(other)
    return work / f"shards-{shard_rows}"


def main() -> None:
    """The child: ``python -m tasks.generate JOB.json --worker 0 --workers 1 --gpus 0``."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("job", type=Path)
    parser.add_argument("--worker", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--gpus", default="")
    arguments = parser.parse_args()
    child.die_with_parent()
    locks = [child.lock_gpu(gpu) for gpu in arguments.gpus.split(",") if gpu]
    job = GenerationJob(**json.loads(arguments.job.read_text(encoding="utf-8")))
    models = ModelSettings.model_validate(job.models)
    encoder = ChatEncoder.load(job.model, models.trust_remote_code)
    from tasks.vllm_engine import VLLMEngine

    engine = VLLMEngine(
        job.model,
        models,
        GenerationSettings.model_validate(job.generation),
        encoder.end_id,
        scoring=job.score_against is not None,
    )
    run_shards(job, engine, encoder, lambda facts: child.report_progress(**facts), arguments.worker, arguments.workers)
    del locks


if __name__ == "__main__":
    main()
