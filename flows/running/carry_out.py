"""What every flow does around its algorithm: opens the run folder, announces what will be redone, and finishes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast
from uuid import UUID

from prefect import State
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed

from data.store.store import RunStore
from flows.config.checks import check
from flows.config.every_run import PlannedParameters, RunParameters
from flows.plan import write_plan
from flows.running.cancelling import cancellable
from flows.running.lost import crash_lost_stages
from flows.running.tokens import tokens_from_blocks
from tasks.plan.begun import BackgroundPlanner
from tasks.plan.plan import Plan
from tasks.plan.show import as_markdown, as_text, gpu_time, size
from tasks.report.publish import publish, show_markdown, slug
from tasks.report.samples import sample_pairs
from tasks.report.self_training import write_metrics
from tasks.report.ui import publish_round
from tasks.run.changes import announce
from tasks.run.finished import mark_finished, may_change
from tasks.run.retention import forget_encoded, retire
from tasks.run.stage import Run
from tasks.settings import BenchmarkRunSettings, Settings

Made = TypeVar("Made")
Result = TypeVar("Result")


@contextlib.contextmanager
def opened(
    config: RunParameters,
    settings: Settings | BenchmarkRunSettings,
    say: Callable[[str], None] = print,
    name: str | None = None,
) -> Iterator[Run]:
    """A run over its folder in the store, held for this process alone. `name` replaces the run name of `config`."""
    store = RunStore(config.store_here, name or config.run_name)
    with store.held(say):
        yield Run(
            store,
            # No stage of a flow reads sections that its settings do not have.
            cast("Settings", settings),
            config.seed,
            retry_failed=may_change(store, config.on_change),
            on_finished=write_metrics,
            on_data=BackgroundPlanner(say).begin,
            on_round=_end_round,
        )


def _end_round(run: Run, round: int) -> None:
    _show_round(run, round)
    retire(run, round)


def _show_round(run: Run, round: int) -> None:
    publish_round(run, round)
    # The report shows pairs with their votes and proofs, which may have been removed by the time it is written.
    sample_pairs(run, round)


def carry_out(
    config: RunParameters,
    settings: Settings | BenchmarkRunSettings,
    algorithm: Callable[[Run], Made],
    finish: Callable[[Run, Made], Result],
    name: str | None = None,
) -> Result:
    """Runs a flow's algorithm in a flow run, then `finish` on its result. Raises ConfigError for what cannot work."""
    say = get_run_logger().warning
    tokens_from_blocks()
    check(config)
    with cancellable(), opened(config, settings, say, name) as run:
        crash_lost_stages(UUID(str(flow_run.id)))
        for caution in settings.warnings():
            say(caution)
        if announce(run, algorithm, config.on_change, say):
            get_run_logger().info(
                "the run %r is finished, and nothing has changed: all of it is reused", run.store.run_name
            )
            if config.on_change != "redo":
                run.on_round = _show_round  # nothing is removed from a finished run, whatever retention says now
        made = algorithm(run)
        forget_encoded(run)
        result = finish(run, made)
        mark_finished(run)
        return result


def only_plan(config: PlannedParameters) -> State[dict[str, Any]]:
    """A dry run: the plan in the log, in Prefect's UI and in ``plan.json``; no stage is started. Raises PlanError."""
    tokens_from_blocks()
    plan, path = write_plan(config)
    get_run_logger().info("%s", as_text(plan))
    name = plan.run_name
    publish("the plan", lambda: show_markdown(f"{slug(name)}-plan", as_markdown(plan), f"Plan of {name}"))
    return ended(planned_in_words(plan, path), {"plan": path, **plan.totals_of_all()})


def planned_in_words(plan: Plan, path: str | None) -> str:
    """What a dry run ends with: the cost of all seeds, and where the plan is."""
    totals, seeds = plan.totals_of_all(), f" for {plan.times} seeds" if plan.times > 1 else ""
    time, disk = gpu_time(totals["gpu_seconds"]), size(totals["disk_bytes"])
    where = f"plan in {path}" if path else "the finished run of this name keeps its own plan.json"
    return f"only planned: GPU time {time}, disk {disk}{seeds}; {where}"


def ended(message: str, result: Result) -> State[Result]:
    """The state in which a flow run completes, with the result in a few words, which the UI shows beside the run."""
    return Completed(message=message, data=result)
