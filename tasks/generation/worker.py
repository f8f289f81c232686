"""Bulk generation: shards of prompts → shards of completions, one engine per GPU, each in its own process.

A reply cut off by the length limit is requested once more, with the same seed and twice the tokens if the context has
room for them; if it is cut off again, it stays so. A row on which the engine itself dies is found by sending fewer and
fewer rows at a time, and fails alone. `tasks.generation.shards` describes what a shard looks like on disk.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, cast

from data.files import json_line, read_jsonl
from data.records import Message
from prompts.catalog import JUDGE_PROMPTS
from tasks.generation.shards import GenerationJob, Shard
from tasks.machine import child
from tasks.machine.gpus import claim_gpus
from tasks.model.chat import ChatEncoder, ChatTemplateError
from tasks.model.endpoint import EndpointError, MessageEncoder, is_endpoint
from tasks.model.engine import Completion, Engine, Failure, Request
from tasks.model.folder import ModelError
from tasks.model.opening import open_engine
from tasks.model.requests import Builder, PendingRow, Skip
from tasks.settings import GenerationSettings, ModelSettings

_REPORT_EVERY_S = 1.0
_FEWER = 8
_T = TypeVar("_T")
_CRASHED = "the engine's process died while it worked on this row alone"


Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class _Work:
    """What turns a shard's rows into lines: the builder of their requests, and the engine that answers those."""

    job: GenerationJob
    build: Builder
    encoder: ChatEncoder
    engine: Engine


def run_shards(
    job: GenerationJob, engine: Engine, encoder: ChatEncoder, report: Report, worker: int = 0, workers: int = 1
) -> None:
    """Generates this worker's unfinished shards (every `workers`-th, starting at `worker`)."""
    work = _Work(job, _resolve(job.builder), encoder, engine)
    mine = [shard for shard in job.shards() if shard.number % workers == worker]
    # A shard written with failed rows is done for this attempt: rows that killed an engine are not retried in it.
    open_shards = [shard for shard in mine if not shard.is_written(job.attempt)]
    meter = _Meter(report, sum(shard.n_rows for shard in mine))
    meter.done = meter.total - sum(shard.n_rows for shard in open_shards)
    rows = read_jsonl(Path(job.rows))
    for shard in job.shards():
        batch = list(islice(rows, shard.n_rows))
        if shard in open_shards:
            _make_shard(work, shard, batch, meter)
    meter.flush()


def _make_shard(work: _Work, shard: Shard, batch: Sequence[Mapping[str, Any]], meter: _Meter) -> None:
    lines = shard.done()
    meter.rows_done(len(lines))
    todo = [(row, batch[row - shard.start]) for row in range(shard.start, shard.stop) if row not in lines]
    crashes = shard.crashes()
    size = _rows_at_once(shard.n_rows, crashes)
    started, tokens_before = time.monotonic(), meter.tokens
    with shard.appending() as partial:

        def write(line: dict[str, Any]) -> None:
            lines[line["row"]] = line
            partial.write(json_line(line))
            partial.flush()
            meter.rows_done(1)

        for index in {index for index in crashes if index is not None}:
            row = batch[index - shard.start]
            write({"row": index, "id": str(row["id"]), "failed": "engine_crashed", "detail": _CRASHED})
        rest = [(index, row) for index, row in todo if index not in lines]
        for some in _groups(rest, size):
            _make_lines(work, shard, some, write, meter)
    if work.job.score_against is not None:
        for indices in _groups(sorted(lines), size):
            with shard.in_engine(indices):
                _score(work, [lines[index] for index in indices])
    seconds = time.monotonic() - started
    meter.seconds += seconds
    tokens = meter.tokens - tokens_before
    shard.finish(lines, work.job.attempt, tokens, seconds)
    print(f"shard {shard.number}: {len(todo)} rows made, {shard.n_rows - len(todo)} there, {tokens} tokens", flush=True)
    meter.flush()


def _rows_at_once(n_rows: int, crashes: Sequence[int | None]) -> int:
    """How many rows are sent to the engine together: all, until it has died twice with no row known to be the cause."""
    since = len(crashes) - max((i + 1 for i, row in enumerate(crashes) if row is not None), default=0)
    return n_rows if since < 2 else max(1, n_rows // _FEWER ** (since - 1))


def _groups(rows: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    return (rows[i : i + size] for i in range(0, len(rows), size))


def _make_lines(
    work: _Work,
    shard: Shard,
    rows: Sequence[tuple[int, Mapping[str, Any]]],
    write: Callable[[dict[str, Any]], None],
    meter: _Meter,
) -> None:
    """Writes the line of each row as soon as it is done, in any order. Follow-up requests wait for all rows."""
    follow: Callable[..., list[Request]] | None = _resolve(work.job.follow) if work.job.follow else None
    with_ids, of_index = work.job.score_against is not None, dict(rows)
    asked: list[tuple[PendingRow, int]] = []
    for index, row in rows:
        made = work.build(row, work.job.params, work.encoder)
        line: dict[str, Any] = {"row": index, "id": str(row["id"])}
        if isinstance(made, Skip):
            write({**line, "dropped": made.reason})
            continue
        line["prompt_tokens"] = sum(len(request.prompt_ids) for request in made)
        if any(request.shortened for request in made):
            line["shortened"] = True
        one = PendingRow(line, made, {}, set(range(len(made))))
        asked += [(one, i) for i in range(len(made))]

    def answered(number: int, answer: list[Completion] | Failure) -> Request | None:
        row, i = asked[number]
        if isinstance(answer, list):
            meter.tokens += sum(len(completion.token_ids) for completion in answer)
        longer = row.take(i, answer, work.job.context)
        if not row.open and follow is None:
            write(row.finished_line(with_ids))
        return longer

    while asked:
        with shard.in_engine([index for index, _ in rows]):
            work.engine.generate([row.requests[i] for row, i in asked], answered)
        if follow is None:
            return
        done, asked = {id(row): row for row, _ in asked}, []
        for one in done.values():
            line = one.finished_line(with_ids)
            source = of_index[line["row"]]
            more = follow(source, work.job.params, line["requests"], work.encoder) if "requests" in line else []
            if not more:
                write(line)
                continue
            one.line["prompt_tokens"] += sum(len(request.prompt_ids) for request in more)
            one.open |= set(range(len(one.requests), len(one.requests) + len(more)))
            asked += [(one, i) for i in sorted(one.open)]
            one.requests += more


def _score(work: _Work, lines: Sequence[Mapping[str, Any]]) -> None:
    """Replaces the token ids of these lines' completions with their logprob after `score_against` alone."""
    assert work.job.score_against is not None
    prefix = work.encoder.prompt_ids([Message("user", m["content"]) for m in work.job.score_against])
    completions = [c for line in lines for request in line.get("requests", ()) for c in request["completions"]]
    unscored = [completion for completion in completions if "ids" in completion]
    if not unscored:
        return
    scores = work.engine.score([(prefix, completion.pop("ids")) for completion in unscored])
    for completion, score in zip(unscored, scores, strict=True):
        completion["logprob_alone"] = score


def _resolve(name: str) -> Any:
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


class _Meter:
    """Adds up the finished work and reports it, at most once a second."""

    def __init__(self, report: Report, total: int) -> None:
        self.report, self.total = report, total
        self.done = self.tokens = 0
        self.seconds = 0.0
        self._last = 0.0

    def rows_done(self, n: int) -> None:
        self.done += n
        if time.monotonic() - self._last >= _REPORT_EVERY_S:
            self.flush()

    def flush(self) -> None:
        self._last = time.monotonic()
        facts = {"done": self.done, "total": self.total, "tokens": self.tokens, "seconds": round(self.seconds, 3)}
        self.report({**facts, "memory_mib": child.peak_memory_mib()})


def main() -> None:
    """The child process: ``python -m tasks.generation.worker JOB.json --worker 0 --workers 1``."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("job", type=Path)
    parser.add_argument("--worker", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    arguments = parser.parse_args()
    child.die_with_parent()
    try:
        _carry_out(arguments)
    except (EndpointError, ConnectionError, ModelError, ChatTemplateError) as error:  # one line says it all
        sys.exit(str(error))


def _carry_out(arguments: argparse.Namespace) -> None:
    job = GenerationJob(**json.loads(arguments.job.read_text(encoding="utf-8")))
    _resolve(job.builder)  # a builder that does not exist must not cost the start of an engine
    locks = [] if is_endpoint(job.model) else claim_gpus(int(job.generation["tensor_parallel"]))
    models = ModelSettings.model_validate(job.models)
    # If the judge is an endpoint, builders use only those methods that `MessageEncoder` has.
    encoder = cast("ChatEncoder", MessageEncoder())
    if not is_endpoint(job.model):
        encoder = ChatEncoder.load(job.model, bool(models.trust_remote_code))
    generation = GenerationSettings.model_validate(job.generation)
    judge = JUDGE_PROMPTS.get(str(job.params.get("prompt")))
    by_label = judge is not None and not judge.has_rationale
    engine = open_engine(job.model, models, generation, encoder, job.score_against is not None, by_label)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    report = child.report_progress
    try:
        run_shards(job, engine, encoder, lambda facts: report(**facts), arguments.worker, arguments.workers)
    except SystemExit as stop:  # exit at once: the engine must not delay it
        os._exit(int(str(stop.code)))
    del locks


if __name__ == "__main__":
    # Run as a script, this module is `__main__`, whose classes differ from those that other modules import.
    from tasks.generation.worker import main as run_main

    run_main()
