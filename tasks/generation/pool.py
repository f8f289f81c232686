"""Generation over several machines: a stage's shards are spread over runs of the deployment ``generate/shards``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data.store.store import RunStore
from tasks.generation.local import GenerationStats
from tasks.generation.shards import GenerationJob, Shard
from tasks.machine.remote_runs import Part, run_parts

DEPLOYMENT = "generate/shards"


@dataclass
class _Open:
    """The unfinished shards of one part; a shard once seen complete is not read again."""

    shards: Sequence[Shard]
    attempt: int
    seen: set[int] = field(default_factory=set)

    def left(self) -> str:
        self.seen |= {s.number for s in self.shards if s.number not in self.seen and s.is_written(self.attempt)}
        n = len(self.shards) - len(self.seen)
        return f"{n} shard{'s' if n > 1 else ''}" if n else ""


def generate_in_pool(
    job: GenerationJob,
    on_line: Callable[[str], None],
    on_progress: Callable[[int, int], None],
    store: RunStore,
) -> GenerationStats:
    """Runs the job's open shards on workers of the pool ``gpu``, and waits for them. For one machine: `tasks.generation.local`.

    Raises ChildError if a part's run fails twice or is lost too often. Whatever ends this function early cancels the runs
    that it is waiting for.
    """
    open_shards = [shard for shard in job.shards() if not shard.is_finished()]
    workers = max(1, min(int(job.generation["workers"]), job.n_shards))
    parameters = {"job": job.relative_to(store.root).to_json(), "store": store.url, "workers": workers}
    parts = []
    for i in range(workers):
        mine = _Open([shard for shard in open_shards if shard.number % workers == i], job.attempt)
        parts.append(Part(f"engine {i}", {**parameters, "worker": i}, mine.left))
    engines = sum(bool(part.left()) for part in parts)
    work = Path(job.out).parent

    def look() -> None:
        store.refresh(work)
        on_progress(sum(shard.rows_done() for shard in job.shards()), job.n_rows)

    run_parts(DEPLOYMENT, store, work, parts, look, on_line)
    on_progress(job.n_rows, job.n_rows)
    usage = [shard.usage() for shard in open_shards]
    return GenerationStats(sum(t for t, _ in usage), sum(s for _, s in usage), engines)
