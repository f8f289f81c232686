"""What would stop a run's trainings, and can be known before: settings that exclude each other, processes and machines."""

from __future__ import annotations

from collections.abc import Iterator

from data.paths import PathError
from data.store.remote import is_remote
from flows.config.every_run import RunParameters
from tasks.settings import Mechanics, Optimization
from tasks.training.objectives import batch_arguments


def training_problems(config: RunParameters) -> Iterator[str]:
    """A line for each problem."""
    training: Mechanics = getattr(config, "training", Mechanics())
    if training.nodes > 1 and _is_at_url(config):
        yield (
            f"training.nodes = {training.nodes}: the machines of a training write its checkpoints together, so store must be a "
            f"folder that all of them see, not {config.store!r}"
        )
    yield from _of_layers(config, training)
    yield from _of_pairs(config, training)
    # Where each machine has as many as GPUs, at least these.
    yield from batch_problems(config, training.nodes * max(training.processes, 1))


def _is_at_url(config: RunParameters) -> bool:
    try:
        return is_remote(config.store_here)
    except PathError:  # said of the store already
        return False


def batch_problems(config: RunParameters, processes: int) -> Iterator[str]:
    """A line for each training whose batch cannot be split over this many processes."""
    for name, value in optimizations(config):
        try:
            batch_arguments(value, processes)
        except ValueError as error:
            yield f"{name}: {error}"


def optimizations(config: RunParameters) -> Iterator[tuple[str, Optimization]]:
    """(setting, value) for every training that a run makes."""
    for section in ("training", "baselines"):
        for name, value in getattr(config, section, ()):
            if isinstance(value, Optimization):
                yield f"{section}.{name}", value


def _of_layers(config: RunParameters, training: Mechanics) -> Iterator[str]:
    if training.trainable_layers is None:
        return
    for name, value in optimizations(config):
        if value.lora is not None:
            yield (
                f"{name}.lora adds adapters to a frozen model, and training.trainable_layers = {training.trainable_layers} "
                "trains the model's own upper layers: leave one of them out"
            )


_ONE_EXAMPLE_A_PAIR = ("prover", "pretraining", "final", "discriminative", "gram_pretraining")


def _of_pairs(config: RunParameters, training: Mechanics) -> Iterator[str]:
    if not training.pair_orders:
        return
    for name, value in optimizations(config):
        if value.batch_size % 2 and name.partition(".")[2] not in _ONE_EXAMPLE_A_PAIR:
            yield (
                f"{name}.batch_size = {value.batch_size} would part the two orders of a pair, which training.pair_orders keeps "
                "in one batch: make it even, or leave training.pair_orders out"
            )
