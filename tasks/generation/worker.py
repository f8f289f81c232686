"""Bulk generation: shards of prompts → shards of completions, one engine per GPU, each in its own process.

`tasks.generation.stream` is how an engine is kept busy, `tasks.generation.shards` describes what a shard looks like on disk. A
row on which the engine itself dies is found by taking fewer rows at once, and fails alone.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from prompts.catalog import JUDGE_PROMPTS
from tasks.generation.claims import given
from tasks.generation.shards import GenerationJob, Shard
from tasks.generation.stream import Stream, resolve
from tasks.machine import child
from tasks.machine.gpus import claim_gpus
from tasks.model.chat import ChatEncoder, ChatTemplateError
from tasks.model.endpoint import MessageEncoder, is_endpoint
from tasks.model.endpoint_errors import EndpointError
from tasks.model.engine import Engine
from tasks.model.folder import ModelError
from tasks.model.opening import open_engine
from tasks.settings import GenerationSettings, ModelSettings

_REPORT_EVERY_S = 1.0

Report = Callable[[dict[str, Any]], None]


def run_shards(
    job: GenerationJob, engine: Engine, encoder: ChatEncoder, report: Report, shards: Iterable[Shard] | None = None
) -> None:
    """Generates those of the job's `shards` (by default all) that are not written yet, and takes each when it has room for it.

    A shard that this attempt at the job has written with failed rows is done: rows that killed an engine are not retried in it.
    """
    last = 0.0

    def tell() -> None:
        nonlocal last
        last = time.monotonic()
        facts = {"done": stream.done, "total": job.n_rows, "made": stream.made, "tokens": stream.tokens}
        report({**facts, "seconds": round(stream.seconds, 3), "memory_mib": child.peak_memory_mib()})

    def rows_done() -> None:
        # The first at once: whether it got that far is to be known of an engine that dies.
        if stream.made == 1 or time.monotonic() - last >= _REPORT_EVERY_S:
            tell()

    stream = Stream(job, engine, encoder, job.shards() if shards is None else shards, rows_done)
    stream.run()
    tell()


def reads_labels(params: Mapping[str, Any]) -> bool:
    """Whether the probabilities of labels are read: of a label-only judge, or by an audit ("read") of what a judge thinks."""
    judge = JUDGE_PROMPTS.get(str(params.get("prompt")))
    return "read" in params or (judge is not None and not judge.has_rationale)


def main() -> None:
    """The child process: ``python -m tasks.generation.worker JOB.json``; its parent tells it which shards to make."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("job", type=Path)
    arguments = parser.parse_args()
    child.die_with_parent()
    child.expect_many_objects()
    try:
        _carry_out(arguments)
    except (EndpointError, ConnectionError, ModelError, ChatTemplateError) as error:  # one line says it all
        sys.exit(str(error))


def _carry_out(arguments: argparse.Namespace) -> None:
    job = GenerationJob(**json.loads(arguments.job.read_text(encoding="utf-8")))
    resolve(job.builder)  # a builder that does not exist must not cost the start of an engine
    locks = [] if is_endpoint(job.model) else claim_gpus(int(job.generation["tensor_parallel"]))
    models = ModelSettings.model_validate(job.models)
    # If the judge is an endpoint, builders use only those methods that `MessageEncoder` has.
    encoder = cast("ChatEncoder", MessageEncoder())
    if not is_endpoint(job.model):
        encoder = ChatEncoder.load(job.model, bool(models.trust_remote_code))
    generation = GenerationSettings.model_validate(job.generation)
    by_label = reads_labels(job.params)
    engine = open_engine(job.model, models, generation, encoder, job.score_against is not None, by_label)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    report = child.report_progress
    try:
        run_shards(job, engine, encoder, lambda facts: report(**facts), given(job))
    except SystemExit as stop:  # exit at once: the engine must not delay it
        os._exit(int(str(stop.code)))
    del locks


if __name__ == "__main__":
    # Run as a script, this module is `__main__`, whose classes differ from those that other modules import.
    from tasks.generation.worker import main as run_main

    run_main()
