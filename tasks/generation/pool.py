"""Generation over several machines: runs of the deployment ``generate/shards`` share a stage's shards among themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from data.files import write_json
from data.store.artifacts import DONE
from data.store.store import RunStore
from tasks.generation.local import GenerationStats, note_engines, used
from tasks.generation.shards import GenerationJob
from tasks.machine.remote_runs import Part, run_parts

DEPLOYMENT = "generate/shards"


def generate_in_pool(
    job: GenerationJob,
    say: Callable[[str], None],
    on_progress: Callable[[int, int], None],
    store: RunStore,
) -> GenerationStats:
    """Runs the job's open shards on workers of the pool ``gpu``, and waits for them. For one machine: `tasks.generation.local`.

    Raises ChildError if a worker's run fails twice or is lost too often. Whatever ends this function early cancels the runs
    that it is waiting for.
    """
    open_shards = [shard for shard in job.shards() if not shard.is_finished()]
    for shard in open_shards:
        if shard.is_committed(job.attempt) and not shard.is_written(job.attempt):
            shard.done()  # moves aside what is damaged: workers do not look for damage
    workers = max(1, min(int(job.generation["workers"]), job.n_shards))
    work = Path(job.out).parent
    watched = WatchedShards(job, workers, {shard.number for shard in open_shards if not shard.is_written(job.attempt)})
    parameters = {"job": job.relative_to(store.root).to_json(), "store": store.url}
    parts = [Part(f"engine {i}", {**parameters, "worker": i}, partial(watched.left_for, i)) for i in range(workers)]
    engines = min(workers, len(watched.left))
    note_engines(job, engines)
    tokens_before, seconds_before = used(open_shards)

    def look() -> None:
        store.refresh(work)
        on_progress(watched.rows_done(), job.n_rows)

    run_parts(DEPLOYMENT, store, work, parts, look, say)
    on_progress(job.n_rows, job.n_rows)
    tokens, seconds = used(open_shards)
    return GenerationStats(tokens - tokens_before, seconds - seconds_before, engines)


class WatchedShards:
    """The shards of a job that workers are making; one that has been seen complete is not looked at again."""

    def __init__(self, job: GenerationJob, workers: int, left: set[int]) -> None:
        self.job, self.workers, self.left = job, workers, left
        self._most = 0

    def rows_done(self) -> int:
        """How many rows are done, those of unfinished shards included, a lost worker's too until another is in its place."""
        names: set[str] = set()
        with suppress(FileNotFoundError):
            names = {path.name for path in Path(self.job.out).iterdir()}
        seen = {number for number in self.left if f".{number:06d}{DONE}" in names}
        self.left -= {number for number in seen if self.job.shard(number).is_written(self.job.attempt)}
        work = Path(self.job.out).parent
        done = self.job.n_rows - sum(self.job.shard(number).n_rows for number in self.left)
        done += sum(_rows_open(work, worker) for worker in range(self.workers))
        self._most = max(self._most, min(done, self.job.n_rows))
        return self._most

    def left_for(self, worker: int) -> str:
        """What is left to do, if there is still a shard for each of the workers up to this one."""
        n = len(self.left)
        return f"{n} shard{'s' if n > 1 else ''}" if n > worker else ""


def report_rows(work: Path, worker: int, rows: int) -> None:
    """Tells the run that waits for a worker how many rows it has done of shards that are not finished."""
    if work.is_dir():  # not after the stage has ended without it
        write_json(_counter(work, worker), {"files": [], "rows": rows})


def _rows_open(work: Path, worker: int) -> int:
    try:
        return int(json.loads(_counter(work, worker).read_bytes())["rows"])
    except FileNotFoundError:
        return 0


def _counter(work: Path, worker: int) -> Path:
    return work / f".engine-{worker}{DONE}"
