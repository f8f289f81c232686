"""A part of a generation stage, on a worker of the pool ``gpu``: what `tasks.fan_out` starts; not meant for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.logging import get_run_logger

from tasks.dispatch import run_engines
from tasks.fan_out import read_job


@flow(name="generate", log_prints=False, persist_result=False)
def generate_shards(job: dict[str, Any], store: str, worker: int, workers: int) -> None:
    """Makes every `workers`-th shard of a generation stage that is not there yet, from number `worker`.

    Args:
        job: What to generate, with paths inside the store.
        store: The folder that holds run folders, as all machines see it.
        worker: Which part of the stage this is.
        workers: How many parts the stage has.
    """
    told = read_job(job, Path(store))
    log_file = Path(told.out).parent / f".engine-{worker}.log"
    run_engines(told, [(worker, workers)], log_file, get_run_logger().info, lambda done, total: None)
