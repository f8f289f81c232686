"""What would stop a run's trainings on several processes and machines, and can be known before."""

from __future__ import annotations

from collections.abc import Iterator

from data.store.remote import is_remote
from flows.config.every_run import RunParameters
from tasks.settings import Mechanics, Optimization
from tasks.training.objectives import batch_arguments


def training_problems(config: RunParameters) -> Iterator[str]:
    """A line for each: a store that machines do not share, and batches that their processes cannot share."""
    training: Mechanics = getattr(config, "training", Mechanics())
    if training.nodes > 1 and is_remote(config.store):
        yield (
            f"training.nodes = {training.nodes}: the machines of a training write its checkpoints together, so store must be a "
            f"folder that all of them see, not {config.store!r}"
        )
    processes = training.nodes * max(training.processes, 1)  # where each has as many as GPUs, at least these
    for section in ("training", "baselines"):
        for name, value in getattr(config, section, ()):
            if isinstance(value, Optimization) and processes > 1:
                try:
                    batch_arguments(value, processes)
                except ValueError as error:
                    yield f"{section}.{name}: {error}"
