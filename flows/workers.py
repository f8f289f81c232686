"""Flows for workers of the pools ``gpu`` and ``train``: parts of a run, started by that run and not by people."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.logging import get_run_logger

from data.files import StoreError, inside, write_json
from data.store.lease import Lease, LeaseError
from data.store.store import RunStore
from flows.running.cancelling import cancellable
from flows.running.tokens import tokens_from_blocks
from tasks.generation.claims import SharedShards
from tasks.generation.local import run_engines
from tasks.generation.pool import report_rows
from tasks.generation.shards import GenerationJob
from tasks.machine.checkout import Facts, check_same
from tasks.run.base_models import found_by_worker
from tasks.train import STEPS, train_in_child
from tasks.training.job import RESULT, TrainingJob

_REPORT_EVERY_S = 2.0
_KEEP_EVERY_S = 30.0
"""How often rows of unfinished shards are uploaded: a machine that is lost takes no more than these with it."""


@flow(name="generate", log_prints=False, persist_result=False)
def generate_shards(job: dict[str, Any], store: str, worker: int, checkout: Facts | None = None) -> None:
    """Generates shards of a generation stage that no other worker has, one after the other, until all are written.

    Args:
        job: What to generate, with paths inside the store.
        store: The folder or URL that holds run folders, as all machines see it.
        worker: Which of the stage's workers this is.
        checkout: The run's prompts and versions, which this machine's are compared with.
    """
    check_same(checkout, lambda line: get_run_logger().warning(line))
    tokens_from_blocks()
    runs = RunStore(store, _run_name(job))
    generation = GenerationJob(**job).under(runs.root)
    work = Path(generation.out).parent
    if _has_ended(runs, work):
        return
    log_file = runs.path / "logs" / f"{work.name}.engine-{worker}.log"
    logger = get_run_logger()
    shards = SharedShards(generation, runs, logger.info)
    reported = kept = 0.0

    def tell(rows: int) -> None:
        if runs.is_under_way(work):  # what has ended without this worker must not come back
            report_rows(work, worker, rows)
            runs.keep(work)

    def report(done: int, total: int) -> None:
        nonlocal reported, kept
        if time.monotonic() - reported >= _REPORT_EVERY_S:
            reported = time.monotonic()
            tell(shards.rows_open)
        if time.monotonic() - kept >= _KEEP_EVERY_S:
            kept = time.monotonic()
            shards.keep_rows()

    with cancellable(or_replaced=True), contextlib.closing(shards):
        runs.forget_copies_like(Path(generation.model))
        runs.bring_all([generation.rows, generation.model])
        run_engines(shards, [f"engine {worker}"], log_file, logger.debug, report, logger.warning)
        tell(0)
    runs.share(log_file)


@flow(name="train", log_prints=False, persist_result=False)
def train_model(
    job: dict[str, Any],
    store: str,
    base_model: dict[str, Any] | None = None,
    reserve_gib: float = 0.0,
    node: int = 0,
    checkout: Facts | None = None,
) -> None:
    """Trains a prover or a judge, or resumes a training from its last checkpoint; with several machines, on one of them.

    Args:
        job: What to train, with paths inside the store.
        store: The folder or URL that holds run folders, as all machines see it.
        base_model: Where to find the base model, and what identifies it, if it is not in the store.
        reserve_gib: Disk space to leave free, in GiB.
        node: Which of the training's machines this is.
        checkout: The run's prompts and versions, which this machine's are compared with.
    """
    check_same(checkout, lambda line: get_run_logger().warning(line))
    tokens_from_blocks()
    runs = RunStore(store, _run_name(job))
    paths = {name: inside(runs.root, job[name]) for name in ("examples", "out", "validation", "cache") if job.get(name)}
    base = _the_same_model(base_model) if base_model is not None else inside(runs.root, job["base"])
    training = TrainingJob(**{**job, **paths, "base": base, "node": node})
    work, part = Path(training.out), f".node-{node}" if node else ""
    log_file = runs.path / "logs" / f"{work.name}.train{part}.log"
    if _has_ended(runs, work):
        return
    # A run that was presumed lost may still be training: two would write the same checkpoint.
    with cancellable(or_replaced=True), _alone(runs, work, part) as lease:
        if _has_ended(runs, work):
            return
        runs.bring_all(
            [
                training.examples,
                *([training.validation] if training.validation else []),
                *([] if base_model else [base]),
            ]
        )
        runs.refresh(work)
        if not (work / RESULT).exists():
            train_in_child(training, log_file, reserve_gib, get_run_logger().debug, _reporting(runs, work, lease))
        lease.check()
        runs.keep(work)
        runs.share(log_file)


def _run_name(job: Mapping[str, Any]) -> str:
    return Path(job["out"]).parts[0]


def _has_ended(runs: RunStore, work: Path) -> bool:
    """Whether the stage has ended already, so that this run comes too late. Deletes local copies of such stages."""
    runs.forget_ended_work()
    if runs.is_under_way(work):
        return False
    get_run_logger().warning("the stage of %s has already ended: there is nothing to do", work.name)
    return True


@contextlib.contextmanager
def _alone(runs: RunStore, work: Path, part: str) -> Iterator[Lease]:
    """Holds the lease of a training, or of its part on one machine, for this process alone, once no other process holds it."""
    say = get_run_logger().warning
    announced = False
    while True:
        try:
            lease = runs.lease_on(work, say, part=part)
            break
        except LeaseError as error:
            if not announced:
                say(str(error))
            announced = True
            time.sleep(_REPORT_EVERY_S)
    try:
        yield lease
    finally:
        lease.release()


def _the_same_model(wanted: Mapping[str, Any]) -> str:
    """The folder of a base model on this machine. Raises StoreError if it is not the one that the run started with."""
    folder, known = found_by_worker(wanted)
    if known != wanted["known"]:
        raise StoreError(
            f"the base model {wanted['model']!r} on this machine is {known}, but the run started with {wanted['known']}: "
            "all machines must have the same model"
        )
    return folder


def _reporting(runs: RunStore, work: Path, lease: Lease) -> Callable[[int, int], None]:
    """Reports progress to the waiting run, and keeps checkpoints in the store, every few seconds."""
    last = 0.0

    def report(done: int, total: int) -> None:
        nonlocal last
        lease.raise_if_lost()
        if time.monotonic() - last >= _REPORT_EVERY_S or done == total:
            last = time.monotonic()
            write_json(work / STEPS, {"files": [], "done": done, "total": total})
            runs.keep(work)

    return report
