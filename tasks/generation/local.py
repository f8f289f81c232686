"""Generation on this machine: a job's open shards go to engine processes, one per GPU, as these have room for them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from data.files import write_json
from data.store.artifacts import DONE
from tasks.generation.claims import OpenShards
from tasks.generation.shards import GenerationJob, Shard
from tasks.machine import child
from tasks.machine.gpus import visible_gpus
from tasks.model.device import engine_environment
from tasks.model.endpoint import is_endpoint

_ENGINES = f".engines{DONE}"
"""In the folder of a stage in progress: the most engines that have shared its work."""
_MOST_DEATHS = 3
"""Of one engine without a row finished in between: more often than a row that kills it at once can."""


@dataclass(frozen=True)
class GenerationStats:
    """What a stage's engines did, in one attempt or in several. `seconds` are those of all engines, without their startup.

    `engines` is how many there were at most, `memory_mib` the peak of the largest engine process; 0 if unknown, as for
    engines on other machines.
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
        """As metrics; the rate is that of all engines together."""
        rate = round(self.tokens / self.seconds * self.engines, 1) if self.seconds else None
        return {
            "engine_seconds": round(self.seconds, 2),
            "tokens_per_s": rate,
            "engines": self.engines,
            "engine_memory_mib": self.memory_mib or None,
        }

    @classmethod
    def from_json(cls, metrics: Mapping[str, Any]) -> GenerationStats:
        """The inverse of `to_json`, with tokens as far as the rounded rate tells them."""
        seconds, engines = metrics["engine_seconds"], metrics.get("engines", 1)
        tokens = round((metrics["tokens_per_s"] or 0) * seconds / max(engines, 1))
        return cls(tokens, seconds, engines, metrics.get("engine_memory_mib") or 0.0)


class Generator(Protocol):
    """Runs a generation job; in tests, with a fake engine in this process."""

    def __call__(
        self,
        job: GenerationJob,
        log_file: Path,
        on_line: Callable[[str], None],
        on_progress: Callable[[int, int], None],
        say: Callable[[str], None],
    ) -> GenerationStats: ...


def gpu_seconds(metrics: Mapping[str, Any]) -> float:
    """GPU seconds of a generation stage over all its attempts; 0 if its rate is unknown."""
    rate = metrics.get("tokens_per_s")
    gpus = metrics.get("engines", 1) * metrics.get("gpus_an_engine", 1)
    # Not "engine_seconds": those of rows that were written before a kill, in shards that were not finished, are unknown.
    return float(metrics.get("tokens_generated", 0) / rate * gpus) if rate else 0.0


def used(shards: Iterable[Shard]) -> tuple[int, float]:
    """Tokens and engine seconds of all attempts that wrote these shards."""
    usage = [shard.usage() for shard in shards]
    return sum(tokens for tokens, _ in usage), sum(seconds for _, seconds in usage)


def done_before(job: GenerationJob) -> GenerationStats:
    """What engines did for the shards of a job that are written, before an attempt at the others."""
    tokens, seconds = used(job.shards())
    return GenerationStats(tokens, seconds, max(1, _engines_noted(job))) if seconds else GenerationStats()


def note_engines(job: GenerationJob, engines: int) -> None:
    """Notes in the stage's folder how many engines share its work, for whoever resumes it with fewer."""
    if engines > _engines_noted(job):
        write_json(Path(job.out).parent / _ENGINES, {"files": [], "engines": engines})


def _engines_noted(job: GenerationJob) -> int:
    file = Path(job.out).parent / _ENGINES
    return int(json.loads(file.read_bytes())["engines"]) if file.exists() else 0


def generate_in_children(
    job: GenerationJob,
    log_file: Path,
    on_line: Callable[[str], None],
    on_progress: Callable[[int, int], None],
    say: Callable[[str], None] = print,
) -> GenerationStats:
    """Runs the job's open shards, one child process per GPU (a single one on a machine without GPUs), and waits for them."""
    # An endpoint is sent the requests of many rows at once.
    engines = 1 if is_endpoint(job.model) else max(1, len(visible_gpus()) // int(job.generation["tensor_parallel"]))
    shards = OpenShards(job, engines)
    if shards.are_written():
        on_progress(job.n_rows, job.n_rows)
        return GenerationStats()
    note_engines(job, shards.engines)
    labels = [f"engine {i}" for i in range(shards.engines)] if shards.engines > 1 else ["engine"]
    return run_engines(shards, labels, log_file, on_line, on_progress, say)


def run_engines(
    shards: OpenShards,
    labels: Sequence[str],
    log_file: Path,
    on_line: Callable[[str], None],
    on_progress: Callable[[int, int], None],
    say: Callable[[str], None],
) -> GenerationStats:
    """Runs one engine process for each label until all shards are written. `on_line` gets what the engines print, `say` what
    became of one that died.

    An engine that dies while generating is restarted, so that a row that kills it is found; see `tasks.generation.worker`.
    The others go on meanwhile, and without it if it dies too often or cannot be started again. Raises ChildError if the last
    one is lost, or if one dies before it has generated anything.
    """
    job = shards.job
    # Beside the log and not in the artifact: it contains paths of this machine.
    job_file = log_file.with_suffix(".job.json")
    write_json(job_file, job.to_json())
    environment = engine_environment(on_gpus=bool(visible_gpus()))
    commands = [
        child.Command("tasks.generation.worker", [str(job_file)], environment, label, asks=True) for label in labels
    ]
    engines = Engines(shards, say, set(labels))

    def heard(label: str, facts: dict[str, Any]) -> object:
        if child.QUESTION not in facts:
            engines.latest[label] = facts
            shards.report(label, facts["done"])
        on_progress(shards.rows_done, job.n_rows)
        return shards.answer(label) if child.QUESTION in facts else None

    # One that is still starting when all shards are written, or waits for a GPU, is not waited for.
    child.run_children(commands, log_file, on_line, heard, engines.starts_again, shards.are_written)
    on_progress(job.n_rows, job.n_rows)
    return engines.stats()


@dataclass
class Engines:
    """The engines of one job that are at work: what they last reported, and what becomes of one that dies."""

    shards: OpenShards
    say: Callable[[str], None]
    running: set[str]
    latest: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    before: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    deaths: Counter[str] = field(default_factory=Counter)

    def starts_again(self, label: str, error: child.ChildError) -> bool:
        """Whether an engine that died is started again. Raises the error if the stage cannot go on."""
        try:
            at_work = self.shards.died(label)
        except OSError as unwritten:  # the engine may have died of the same: a full disk
            raise child.ChildError(f"{error}\nIts death could not be recorded: {unwritten}") from unwritten
        worked = self.latest.pop(label, None)
        self.before += [(label, worked)] if worked else []
        if self.shards.are_written():
            self.say(f"{error}\nAll rows had been written by then")
            return False
        restarted = label in self.deaths
        if not too_many_deaths(self.deaths, label, worked["made"] if worked else 0) and at_work:
            self.say(f"{error}\nRestarting it; finished rows are kept")
            return True
        self.running.remove(label)
        if not (restarted and self.running):
            raise error
        self.say(f"{error}\nIt is given up; its rows are left to {', '.join(sorted(self.running))}")
        return False

    def stats(self) -> GenerationStats:
        reports = [*self.before, *self.latest.items()]
        return GenerationStats(
            sum(f["tokens"] for _, f in reports),
            sum(f["seconds"] for _, f in reports),
            len({label for label, _ in reports}),
            max((f["memory_mib"] for _, f in reports), default=0.0),
        )


def too_many_deaths(deaths: Counter[str], engine: str, made: int) -> bool:
    """Notes a death in `deaths`, and says whether it is one too many: `made` rows were finished since the engine was started."""
    deaths[engine] = 1 if made else deaths[engine] + 1
    return deaths[engine] > _MOST_DEATHS
