"""One of two processes of several trainings, one after the other: ``python -m tests.support.processes JOB.json …``.

Those in folders whose names begin with "sharded" are sharded (FSDP), and come last. accelerate shards only over GPUs, though
torch shards over anything: it is told that these processes have one each. All else is what runs on GPUs.
"""

from __future__ import annotations

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
from tasks.training.job import TrainingJob
from tasks.training.rank import METRICS, train_part

_start = PartialState.__init__
_spread = objectives._spread


def _start_as_gpus(self: Any, *given: Any, **named: Any) -> None:
    _start(self, *given, **named)
    if PartialState._shared_state.get("distributed_type") == DistributedType.MULTI_CPU:
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU


def _shard() -> None:
    PartialState.__init__ = _start_as_gpus
    objectives._spread = lambda gpu, optimization: {
        **_spread(gpu, optimization),
        **{
            name: value for name, value in _spread(True, optimization).items() if name in ("fsdp", "accelerator_config")
        },
    }


def main() -> None:
    child.die_with_parent()
    for path in map(Path, sys.argv[1:]):
        if path.parent.name.startswith("sharded"):
            _shard()
        job = TrainingJob.read(path)
        metrics = train_part(job)
        if dist.get_rank() == 0:
            write_json(Path(job.out) / SCRATCH / METRICS, metrics)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
