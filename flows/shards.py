"""A part of a generation stage, on a worker of the pool ``gpu``: what `tasks.fan_out` starts; not meant for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.logging import get_run_logger

from data.store import RunStore
from tasks.dispatch import run_engines
from tasks.shards import GenerationJob


@flow(name="generate", log_prints=False, persist_result=False)
def generate_shards(job: dict[str, Any], store: str, worker: int, workers: int) -> None:
    """Makes every `workers`-th shard of a generation stage that is not there yet, from number `worker`.

    Args:
        job: What to generate, with paths inside the store.
        store: The folder or URL that holds run folders, as all machines see it.
        worker: Which part of the stage this is.
        workers: How many parts the stage has.
    """
    run_name = Path(job["out"]).parts[0]
    runs = RunStore(store, run_name)
    told = GenerationJob(**job).under(runs.root)
    work = Path(told.out).parent
    runs.bring_all([told.rows, told.model])
    runs.refresh(work)
    log_file = runs.path / "logs" / f"{work.name}.engine-{worker}.log"
    run_engines(told, [(worker, workers)], log_file, get_run_logger().info, lambda done, total: runs.keep(work))
    runs.keep(work)
    runs.share(log_file)
