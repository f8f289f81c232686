"""What encoding costs, and what it costs a training that goes on: ``python -m tests.benchmarks.encoding``.

``rate``: examples of about 2,000 tokens a second, by this process alone and by one process a core, with the tokenizer of
SmolLM2 (`make real-model`); and how long it takes to find all of them in the cache, as the next round does.
``resume N``: from the start of a training that goes on from a checkpoint to its first step, with N examples of the small
world.
"""

from __future__ import annotations

import json
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from data.files import json_line, write_json
from data.records import PreferencePair, ResponsePair
from data.world import taste
from tasks.machine import child
from tasks.model.chat import ChatEncoder
from tasks.settings import Optimization, TrainingSettings
from tasks.training.encoded import encode_sets
from tasks.training.examples import ExampleCounts, encode_rows
from tasks.training.job import TrainingJob
from tests.real.model import real_model
from tests.support.training_jobs import example_rows, models_for, training_job

ROOT = Path(__file__).parents[2]
EXAMPLES, ALONE = 8_000, 1_000
Figures = dict[str, Any]


def long_rows(n: int) -> Iterator[dict[str, Any]]:
    """Pairs with rationales, about 2,000 tokens each: slices of this project's own text files."""
    text = "\n".join(file.read_text(encoding="utf-8") for file in sorted(ROOT.glob("*.md")))
    rng = random.Random(3)

    def cut(chars: int) -> str:
        start = rng.randrange(len(text) - chars)
        return text[start : start + chars]

    for i in range(n):
        prompt = replace(taste.draw_pairs(1, seed=0)[0].pair.prompt[0], content=cut(800))
        pair = PreferencePair(ResponsePair(str(i), (prompt,), cut(2400), cut(2400)), "A")
        yield {**pair.to_json(), "id": str(i), "rationale": cut(800), "origin": {"round": 0}}


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def rate() -> Figures:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    base = str(real_model())
    models = models_for("gram-r2").model_copy(update={"max_tokens": 4096, "judge_base": base, "prover_base": base})
    with tempfile.TemporaryDirectory() as scratch:
        job = training_job(Path(scratch) / "one", [], TrainingSettings(), Optimization(max_steps=1), "judge", models)
        job = replace(job, cache=str(Path(scratch) / "cache"))
        with Path(job.examples).open("w", encoding="utf-8") as stream:
            stream.writelines(map(json_line, long_rows(EXAMPLES)))
        rows, encoder, counts = list(long_rows(ALONE)), ChatEncoder.load(base), ExampleCounts()
        started, before = time.perf_counter(), cpu_seconds()
        for _ in encode_rows(rows, job, encoder, models, counts):
            pass
        alone_s, alone_cpu = time.perf_counter() - started, cpu_seconds() - before
        found = []
        for name in ("encoded", "found"):
            again = replace(job, out=str(Path(scratch) / name))
            Path(again.out).mkdir()
            started, before = time.perf_counter(), cpu_seconds()
            counts = encode_sets(again).counts
            found.append((time.perf_counter() - started, cpu_seconds() - before))
        stored = sum(file.stat().st_size for file in Path(job.cache).iterdir())
    (pool_s, pool_cpu), (found_s, _) = found
    return {
        "mean_tokens": round(counts.tokens / counts.rows_in),
        "alone_per_s": round(ALONE / alone_s),
        "alone_per_cpu_s": round(ALONE / alone_cpu),
        "pool_per_s": round(EXAMPLES / pool_s),
        "pool_per_cpu_s": round(EXAMPLES / pool_cpu),
        "pool_to_alone": round(EXAMPLES / pool_s * alone_s / ALONE, 2),
        "cores_used": round(pool_cpu / pool_s, 2),
        "found_per_s": round(EXAMPLES / found_s),
        "bytes_a_token": round(stored / counts.tokens, 2),
    }


def until_step(job: TrainingJob, folder: Path, step: int) -> tuple[float, float]:
    """Starts a training and stops it at a step; the seconds to its first step, and the CPU seconds of all of it."""
    reached = 0.0

    def progressed(_: str, facts: dict[str, Any]) -> None:
        nonlocal reached
        reached = reached or time.perf_counter()
        if facts["done"] >= step:
            raise KeyboardInterrupt

    write_json(folder / "job.json", asdict(job))
    command = child.Command("tasks.training", [str(folder / "job.json")], {"OMP_WAIT_POLICY": "PASSIVE"}, "train")
    started, before = time.perf_counter(), cpu_seconds()
    try:
        child.run_children([command], folder / "log", lambda line: None, progressed)
    except KeyboardInterrupt:
        return reached - started, cpu_seconds() - before
    raise AssertionError("the training ended before the step")


def resume(n: int) -> Figures:
    training = TrainingSettings(log_every=2, checkpoint_minutes=0)
    optimization = Optimization(max_steps=1000, batch_size=8, learning_rate=1e-3)
    few = example_rows(1000)
    rows = [{**few[i % len(few)], "id": str(i), "origin": {"round": 0}} for i in range(n)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        job = training_job(folder, rows, training, optimization)
        first_s, first_cpu = until_step(job, folder, 5)
        again = [until_step(job, folder, 7 + 2 * i) for i in range(3)]
        assert "resuming from checkpoint-" in (folder / "log").read_text()
    return {
        "examples": n,
        "first_s": round(first_s, 1),
        "first_cpu_s": round(first_cpu, 1),
        "again_s": [round(seconds, 1) for seconds, _ in again],
        "again_cpu_s": [round(seconds, 1) for _, seconds in again],
    }


if __name__ == "__main__":
    what, *given = sys.argv[1:] or ["rate"]
    print(json.dumps(rate() if what == "rate" else resume(int(given[0]))))
