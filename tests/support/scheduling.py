"""Which process runs which tests, where there are several: those of a file, or of a group of files, are for the same one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xdist.scheduler import LoadScopeScheduling

TOGETHER = (
    ("self_train", "benchmark_flow", "up", "kubernetes"),
    ("other_flows", "workers", "training_workers", "prefect"),
    ("elsewhere",),
    ("real_model_training",),
    ("training_in_parts",),
    ("training_on_machines",),
    ("real_model",),
)
"""The files whose tests take longest: several processes are done soonest when these are begun first.

The first two groups share a Prefect server each, whose start takes half a minute.
"""


def place_of(path: Path) -> int:
    """The place of a file's group among those that are begun first; the others come after them."""
    name = path.stem.removeprefix("test_")
    return next((i for i, names in enumerate(TOGETHER) if name in names), len(TOGETHER))


class ByGroup(LoadScopeScheduling):  # type: ignore[misc]
    """Gives a process a whole group at a time. (pytest-xdist's own ``loadgroup`` does nothing with pytest 9.2.)"""

    def _split_scope(self, nodeid: str) -> Any:
        path = Path(nodeid.partition("::")[0])
        place = place_of(path)
        return TOGETHER[place][0] if place < len(TOGETHER) else str(path)
