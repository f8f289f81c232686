"""The child process that a training stage starts: ``python -m tasks.training JOB.json``."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
from pathlib import Path
from typing import Any

from data.files import flush, write_json
from data.store.artifacts import SCRATCH
from tasks.machine import child
from tasks.machine.gpus import claim_gpus, enough_gpus, visible_gpus
from tasks.machine.parallel import in_another_process
from tasks.settings import Optimization
from tasks.training.encoded import encode_sets
from tasks.training.job import RESULT, TrainingJob
from tasks.training.objectives import batch_arguments
from tasks.training.rank import METRICS, train_part


def run_training(job: TrainingJob, job_file: Path) -> dict[str, Any]:
    """Encodes the examples and trains on them, in as many processes as the settings specify; returns counts and metrics."""
    processes = job.settings()[1].processes or max(len(visible_gpus()), 1)
    batch_arguments(Optimization.model_validate(job.optimization), processes)  # raises before the work starts
    enough_gpus(processes)
    # Libraries look for GPUs as they are imported, which must not happen here before some are claimed.
    encoded = in_another_process(encode_sets, job) if visible_gpus() else encode_sets(job)
    locks = claim_gpus(processes)
    metrics = train_part(job) if processes == 1 else _train_in_parts(job, job_file, processes)
    metrics["trainer_memory_mib"] = child.peak_memory_mib()
    del locks
    counts = encoded.counts
    kept = counts.rows_in - counts.too_long
    dropped = {"too_long": counts.too_long} if counts.too_long else {}
    return {"counts": {"rows_in": counts.rows_in, "kept": kept, "dropped": dropped}, "metrics": metrics}


def _train_in_parts(job: TrainingJob, job_file: Path, processes: int) -> dict[str, Any]:
    """Trains in several processes, one per GPU if there are any. Raises ChildError if one of them fails."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    parts = [
        child.Command(
            "tasks.training.rank",
            [str(job_file)],
            {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            f"process {rank}",
        )
        for rank in range(processes)
    ]
    child.run_children(
        parts,
        Path(os.devnull),
        lambda line: print(line, flush=True),
        lambda _, facts: child.report_progress(**facts),
    )
    metrics: dict[str, Any] = json.loads((Path(job.out) / SCRATCH / METRICS).read_text(encoding="utf-8"))
    return metrics


def main() -> None:
    """Runs the training described in a job file, and writes the result into the job's folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("job", type=Path)
    arguments = parser.parse_args()
    child.die_with_parent()
    child.expect_many_objects()
    carry_out(TrainingJob.read(arguments.job), arguments.job)


def carry_out(job: TrainingJob, job_file: Path) -> None:
    """Trains in this process, and writes the result into the job's folder, last of all."""
    out = Path(job.out)
    result = run_training(job, job_file)
    made = sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file() and path.name[0] != ".")
    files = [path.as_posix() for path in made if path.parts[0] != SCRATCH]
    for name in files:
        flush(out / name)
    # The result marks the training as finished; until then it can be resumed from its checkpoints.
    write_json(out / RESULT, {"files": files, **result})
    shutil.rmtree(out / SCRATCH, ignore_errors=True)  # the process that waited for the result may be doing this too


if __name__ == "__main__":
    main()
