"""Bulk generation: shards of prompts → shards of completions, one engine a GPU, each in a process of its own.

A shard is a range of rows of one JSONL file. Its file appears when all of it is done, so a crash loses at most the shard
under way on each GPU. A line of it::

    {"row": 17, "id": "3f0c…", "requests": [{"name": "ab", "seed": 91, "completions":
        [{"text": "<think>…", "finished": true, "n_tokens": 212, "logprob": -81.2, "logprob_alone": -310.5}]}]}
    {"row": 18, "id": "77aa…", "dropped": "prompt_too_long"}
    {"row": 19, "id": "0b1d…", "failed": "engine_abort"}

A failed row is not done: the next attempt at its stage asks for it again. What is still failed when the stage is
committed, within generation.max_failed_share, is counted as failed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from data.files import StoreError, json_line, read_jsonl
from data.records import Message
from tasks import child
from tasks.chat import ChatEncoder
from tasks.engines import Completion, Engine, Failure, Request
from tasks.settings import GenerationSettings, ModelSettings

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
        if str(row["id"]) != made["id"]:
            raise StoreError(f"row {made['row']} of {job.rows} is not the one that was generated for, {made['id']!r}")
        yield row, made


# ---- in the child, or in a test with a fake engine --------------------------------------------------------------------


def run_shards(
    job: GenerationJob, engine: Engine, encoder: ChatEncoder, report: Report, worker: int = 0, workers: int = 1
) -> None:
    """Makes this worker's shards (every `workers`-th, from `worker`) that are not done yet."""
    build = _resolve(job.builder)
    prefix = (
        encoder.prompt_ids([Message("user", m["content"]) for m in job.score_against]) if job.score_against else None
    )
    meter = _Meter(report, sum(_rows_of(job, s) for s in range(worker, job.n_shards, workers)))
    rows = read_jsonl(Path(job.rows))
    for shard in range(job.n_shards):
        batch = list(islice(rows, job.shard_rows))
        if shard % workers != worker:
            continue
        done = _finished_lines(job.shard_path(shard))
        todo = [
            (shard * job.shard_rows + i, row) for i, row in enumerate(batch) if shard * job.shard_rows + i not in done
        ]
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
    lines: list[dict[str, Any]] = []
    completions: list[tuple[Completion, dict[str, Any]]] = []
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
        if any(request.shortened for request in made):
            line["shortened"] = True
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


def main() -> None:
    """The child: ``python -m tasks.generate JOB.json --worker 0 --workers 1 --gpus 0``."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("job", type=Path)
    parser.add_argument("--worker", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--gpus", default="")
    arguments = parser.parse_args()
    child.die_with_parent()
    locks = child.lock_gpus([gpu for gpu in arguments.gpus.split(",") if gpu])
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
    # Run as a script this module is `__main__`, and its classes are not those that other modules import from here.
    from tasks.generate import main as run_main

    run_main()
