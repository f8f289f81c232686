"""The child process that a training stage starts: ``python -m tasks.training JOB.json``.

Where another launcher (torchrun, or srun with torch's variables) starts it on every GPU, it is one of that launcher's processes.
"""

from __future__ import annotations

import argparse
import os
import socket
import time
from pathlib import Path
from typing import NoReturn

from tasks.machine import child
from tasks.machine.gpus import claim_gpus, enough_gpus, visible_gpus
from tasks.machine.parallel import in_another_process
from tasks.settings import Optimization
from tasks.training.distributed import is_connected, world_size
from tasks.training.encoded import encode_sets, found_sets
from tasks.training.job import TrainingJob
from tasks.training.nodes import train_on_node
from tasks.training.objectives import batch_arguments
from tasks.training.rank import finish, take_part, train_part

_LOOK_EVERY_S = 1.0


def run_training(job: TrainingJob, job_file: Path) -> None:
    """Encodes the examples and trains on them, in as many processes as the settings specify; the result is in its folder.

    With several machines, this is one of them.
    """
    _, mechanics, optimization = job.settings()
    processes = mechanics.processes or max(len(visible_gpus()), 1)
    batch_arguments(optimization, mechanics.nodes * processes)  # raises before the work starts
    enough_gpus(processes)
    if job.node == 0:
        # Libraries look for GPUs as they are imported, which must not happen here before some are claimed.
        if visible_gpus():
            in_another_process(encode_sets, job)
        else:
            encode_sets(job)
    if mechanics.nodes > 1:
        train_on_node(job, job_file, processes)
        return
    locks = claim_gpus(processes)
    if processes == 1:
        finish(job, train_part(job))
    else:
        _train_in_parts(job_file, processes)
    del locks


def _train_in_parts(job_file: Path, processes: int) -> None:
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


def train_as_launched(job: TrainingJob) -> NoReturn:
    """Trains as one of the processes that another launcher has started and connected, on their GPUs, and ends this one.

    Raises ValueError if it has not said which process on its machine this is: each would train alone.
    """
    if "LOCAL_RANK" not in os.environ:
        raise ValueError("RANK and WORLD_SIZE are set, but not LOCAL_RANK: with srun, it is $SLURM_LOCALID")
    batch_arguments(Optimization.model_validate(job.optimization), world_size())
    if os.environ["RANK"] == "0":
        encode_sets(job)
    while found_sets(job) is None:  # the first process is at it; if it fails, its launcher ends all
        time.sleep(_LOOK_EVERY_S)
    take_part(job)


def main() -> None:
    """Runs the training described in a job file, and writes the result into the job's folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("job", type=Path)
    arguments = parser.parse_args()
    if child.PARENT in os.environ:  # started by a run, not by hand
        child.die_with_parent()
    child.expect_many_objects()
    carry_out(TrainingJob.read(arguments.job), arguments.job)


def carry_out(job: TrainingJob, job_file: Path) -> None:
    """Does what `main` does for a job that has been read."""
    if is_connected():
        train_as_launched(job)
    else:
        run_training(job, job_file)


if __name__ == "__main__":
    main()
