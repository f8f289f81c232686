"""Generation on this machine: a job's open shards go to engine processes, one per GPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from data.files import write_json
from tasks.generation.shards import GenerationJob, Shard
from tasks.machine import child
from tasks.machine.gpus import visible_gpus
from tasks.model.device import engine_environment
from tasks.model.endpoint import is_endpoint

_MOST_DEATHS = 3
"""Of one engine without a row finished in between: a row that kills it at once is found at the third, see `OpenShard`."""


@dataclass(frozen=True)
class GenerationStats:
    """What a stage's engines did in this attempt. `seconds` excludes engine startup and shards that were already finished.

    `memory_mib` is the peak of the largest engine process; 0 if unknown, as for engines on other machines.
    """

    tokens: int = 0
    seconds: float = 0.0
    engines: int = 0
    memory_mib: float = 0.0

    def plus(self, other: GenerationStats) -> GenerationStats:
        """The total of two attempts, one after the other."""
        return GenerationStats(
            self.tokens + other.tokens,
            self.seconds + other.seconds,
            max(self.engines, other.engines),
            max(self.memory_mib, other.memory_mib),
        )

    def to_json(self) -> dict[str, Any]:
        """Seconds and rate of this attempt only; the rate is that of all engines together."""
        rate = round(self.tokens / self.seconds * self.engines, 1) if self.seconds else None
        return {
            "engine_seconds": round(self.seconds, 2),
            "tokens_per_s": rate,
            "engines": self.engines,
            "engine_memory_mib": self.memory_mib or None,
        }


class Generator(Protocol):
    """Runs a generation job; in tests, with a fake engine in this process."""

    def __call__(
        self,
        job: GenerationJob,
        log_file: Path,
        on_line: Callable[[str], None],
        on_progress: Callable[[int, int], None],
    ) -> GenerationStats: ...


def gpu_seconds(metrics: Mapping[str, Any]) -> float:
    """GPU seconds of a generation stage over all its attempts, at the rate of the last one; 0 if that is unknown."""
    rate = metrics.get("tokens_per_s")
    gpus = metrics.get("engines", 1) * metrics.get("gpus_an_engine", 1)
    return float(metrics.get("tokens_generated", 0) / rate * gpus) if rate else 0.0


def generate_in_children(
    job: GenerationJob, log_file: Path, on_line: Callable[[str], None], on_progress: Callable[[int, int], None]
) -> GenerationStats:
    """Runs the job's open shards, one child process per GPU (a single one on a machine without GPUs), and waits for them."""
    if all(shard.is_finished() for shard in job.shards()):
        on_progress(job.n_rows, job.n_rows)
        return GenerationStats()
    engines = max(1, min(len(visible_gpus()) // int(job.generation["tensor_parallel"]), job.n_shards))
    if is_endpoint(job.model):
        engines = 1  # it sends the requests of many rows at once
    return run_engines(job, [(i, engines) for i in range(engines)], log_file, on_line, on_progress)


def run_engines(
    job: GenerationJob,
    shares: Sequence[tuple[int, int]],
    log_file: Path,
    on_line: Callable[[str], None],
    on_progress: Callable[[int, int], None],
) -> GenerationStats:
    """Runs one engine process for each share (i, n) of the job's shards: every n-th shard, starting at the i-th.

    An engine that dies while it generates is started again, so that a row that kills it is found; the others go on. Raises
    ChildError if one dies at any other time, or too often without having finished a row.
    """
    # Beside the log and not in the artifact: it contains paths of this machine.
    job_file = log_file.with_suffix(".job.json")
    write_json(job_file, job.to_json())
    mine = {f"engine {i}" if n > 1 else "engine": (i, n) for i, n in shares}
    commands = [
        child.Command(
            "tasks.generation.worker",
            [str(job_file), "--worker", str(i), "--workers", str(n)],
            engine_environment(on_gpus=bool(visible_gpus())),
            label,
        )
        for label, (i, n) in mine.items()
    ]
    latest: dict[str, dict[str, Any]] = {}
    earlier: list[GenerationStats] = []
    deaths: Counter[str] = Counter()

    def shards_of(label: str) -> Iterator[Shard]:
        i, n = mine[label]
        return (shard for shard in job.shards() if shard.number % n == i)

    def progressed(label: str, facts: dict[str, Any]) -> None:
        latest[label] = facts
        on_progress(sum(f["done"] for f in latest.values()), job.n_rows)

    def died(label: str, error: child.ChildError) -> bool:
        facts = latest.pop(label, {})
        was_at_work = any([shard.note_death() for shard in shards_of(label)])
        if too_many_deaths(deaths, label, facts.get("made", 0)) or not was_at_work:
            raise error
        if facts:
            earlier.append(_stats({label: facts}))
        on_line(f"{error}\nRestarting it; finished rows are kept")
        return True

    for shard in (shard for label in mine for shard in shards_of(label)):
        shard.forget_work()
    child.run_children(commands, log_file, on_line, progressed, died)
    stats = _stats(latest)
    for one in earlier:
        stats = stats.plus(one)
    return stats


def too_many_deaths(deaths: Counter[str], engine: str, made: int) -> bool:
    """Notes a death in `deaths`, and says whether it is one too many: `made` rows were finished since the engine was started."""
    deaths[engine] = 1 if made else deaths[engine] + 1
    return deaths[engine] > _MOST_DEATHS


def _stats(latest: Mapping[str, Mapping[str, Any]]) -> GenerationStats:
    return GenerationStats(
        sum(f["tokens"] for f in latest.values()),
        sum(f["seconds"] for f in latest.values()),
        len(latest),
        max((f["memory_mib"] for f in latest.values()), default=0.0),
    )
