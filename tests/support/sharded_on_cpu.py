"""``python -m tests.support.sharded_on_cpu JOB.json``: one process of a sharded training (FSDP), on a CPU.

accelerate shards only over GPUs, though torch shards over anything: it is told that these processes have one each. All
else is what runs on GPUs.
"""

from __future__ import annotations

from typing import Any

from accelerate import PartialState
from accelerate.utils import DistributedType

from tasks.training import objectives, rank

_start = PartialState.__init__
_spread = objectives._spread


def _start_as_gpus(self: Any, *given: Any, **named: Any) -> None:
    _start(self, *given, **named)
    if PartialState._shared_state.get("distributed_type") == DistributedType.MULTI_CPU:
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU


def main() -> None:
    PartialState.__init__ = _start_as_gpus
    objectives._spread = lambda gpu, optimization: {
        **_spread(gpu, optimization),
        **{
            name: value for name, value in _spread(True, optimization).items() if name in ("fsdp", "accelerator_config")
        },
    }
    rank.main()


if __name__ == "__main__":
    main()
