"""Whether a start would be refused because its run is finished: known from the run folder, before anything is started."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from data.paths import PathError
from data.store.remote import is_remote
from flows.config.parameters import FLOWS
from flows.config.recipes import checkout

if TYPE_CHECKING:
    from tasks.run.stage import Run
    from tasks.settings import Settings


def refusal(flow: str, parameters: Mapping[str, Any]) -> str | None:
    """What a flow run with these parameters would be refused with; None if it would not, or if only the run itself can tell.

    `parameters` are those of the flow run, whose relative paths start in the checkout.
    """
    from data.store.artifacts import StageError
    from data.store.store import RunStore
    from tasks.run.changes import announce
    from tasks.run.finished import is_finished
    from tasks.run.stage import Run

    config: Any = FLOWS[flow].model_validate(parameters)
    try:
        place = config.store_here
    except PathError:  # the checks say so; the machine of the run may know it
        return None
    if config.on_change != "auto" or is_remote(place) or getattr(config, "dry_run", False):
        return None
    with contextlib.chdir(checkout()):
        store = RunStore(place, config.run_name)
        known = _algorithm(flow, config) if is_finished(store) else None
        if known is None:
            return None
        settings, algorithm = known
        try:
            announce(Run(store, settings, config.seed, retry_failed=False), algorithm, "auto", lambda line: None)
        except StageError as error:
            return str(error)
    return None


def _algorithm(flow: str, config: Any) -> tuple[Settings, Callable[[Run], object]] | None:
    """The settings and the algorithm of a flow; None for those that are several runs, or read a judge first."""
    from flows import benchmark, self_train

    match flow:
        case "self-train":
            return config, self_train.self_training
        case "gram":
            return config.settings(), self_train.self_training
        case "benchmark":
            return cast("Settings", config.settings()), lambda run: benchmark.play_all(run, config)
        case _:
            return None
