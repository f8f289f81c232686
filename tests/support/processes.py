"""One of two processes of several trainings, one after the other: ``python -m tests.support.processes JOB.json …``.

Those in folders whose names begin with "sharded" are sharded (FSDP), and come last. accelerate shards only over GPUs, though
torch shards over anything: it is told that these processes have one each. All else is what runs on GPUs. A folder with a
file "resumes" goes on from the checkpoint that is named in it.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import DistributedType

from data.files import write_json
from data.store.artifacts import SCRATCH
from tasks.machine import child
from tasks.training import objectives
from tasks.training.distributed import leave
from tasks.training.job import TrainingJob
from tasks.training.rank import train_part

METRICS = "metrics.json"
"""File in the scratch folder of each: what it reports."""

_start = PartialState.__init__
_reduce_scatter = dist.reduce_scatter_single
_reduced_in: set[str] = set()


def _start_as_gpus(self: Any, *given: Any, **named: Any) -> None:
    _start(self, *given, **named)
    if PartialState._shared_state.get("distributed_type") == DistributedType.MULTI_CPU:
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU


def _reduce_scatter_seen(*given: Any, **named: Any) -> Any:
    _reduced_in.add(str(named["input"].dtype))
    return _reduce_scatter(*given, **named)


def shard() -> None:
    """From now on, trainings of this process are sharded, and the dtype in which gradients are summed is noted."""
    PartialState.__init__ = _start_as_gpus
    objectives.is_sharded = lambda gpu, optimization: True
    dist.reduce_scatter_single = _reduce_scatter_seen


def main() -> None:
    child.die_with_parent()
    for path in map(Path, sys.argv[1:]):
        if path.parent.name.startswith("sharded"):
            shard()
        job = TrainingJob.read(path)
        scratch = Path(job.out) / SCRATCH
        if (path.parent / "resumes").exists():
            checkpoint = Path((path.parent / "resumes").read_text())
            if dist.get_rank() == 0:
                shutil.copytree(checkpoint, scratch / "trainer" / checkpoint.name)
            dist.barrier()
        _reduced_in.clear()
        metrics = train_part(job)
        if dist.get_rank() == 0:
            write_json(scratch / METRICS, {**metrics, "reduced_in": sorted(_reduced_in)})
    leave()


if __name__ == "__main__":
    main()
