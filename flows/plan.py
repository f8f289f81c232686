"""Estimates what a run will cost before it starts, for ``gram-r2 plan`` and dry runs.

The estimate uses a sample of the recipe's own data and the base models' tokenizers and configs; no weights are read, and
no GPU is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from data.files import write_json
from data.store.store import RunStore
from flows.config.checks import check_planned
from flows.config.every_run import PlannedParameters
from flows.config.parameters import AdaptConfig, BaselinesConfig, GramConfig, SelfTrainConfig
from tasks.model.endpoint import is_endpoint
from tasks.plan.adapting import Adapting, plan_adaptation
from tasks.plan.assumptions import Assumptions, PlanError, assume, rates_of
from tasks.plan.baselines import plan_baselines
from tasks.plan.plan import PLAN, Plan, plan_self_training, roles
from tasks.plan.sample import DataSample, sample_sources
from tasks.plan.sizes import Located, locate
from tasks.rank import prompt_of
from tasks.run.finished import is_finished
from tasks.settings import Role, Settings

SAMPLE = 500


Planner = Callable[[Settings, str, DataSample, Mapping[Role, Located], Assumptions], Plan]


@dataclass(frozen=True)
class PlanTarget:
    """What to plan: a run's name, its settings, its base models, and the planner of its flow.

    `times` is how many times the run does all of it.
    """

    run_name: str
    settings: Settings
    models: Mapping[Role, str]
    planner: Planner = plan_self_training
    times: int = 1


def target_of(config: PlannedParameters, stand_ins: Mapping[str, str] = {}) -> PlanTarget:
    """What a configuration's run will do. `stand_ins` may hold the judge whose prompt is needed.

    Raises PlanError if the run cannot be planned.
    """
    if isinstance(config, AdaptConfig):
        return _adaptation(config, stand_ins)
    if isinstance(config, BaselinesConfig):
        seeds = config.each_seed()
        one = seeds[0]

        def planner(settings: Settings, *given: Any) -> Plan:
            return plan_baselines(settings, one.baselines, *given)

        return PlanTarget(one.run_name, one, roles(one), planner, len(seeds))
    assert isinstance(config, SelfTrainConfig | GramConfig)
    return PlanTarget(config.run_name, config.settings(), roles(config.settings()))


def _adaptation(config: AdaptConfig, stand_ins: Mapping[str, str]) -> PlanTarget:
    judge, task = config.judge, config.task
    if is_endpoint(judge.path):
        raise PlanError(f"judge.path = {judge.path!r} is an endpoint: only a checkpoint can be adapted")
    folder = locate(judge.path, stand_ins).folder
    try:
        prompt = judge.prompt or prompt_of(str(folder), judge.path)
    except ValueError as error:
        raise PlanError(f"{error}. In a recipe, this setting is judge.prompt") from error
    try:
        settings = config.settings(prompt)
    except ValueError as error:
        raise PlanError(str(error)) from error
    models = roles(settings)
    if task.prover:
        models["prover"] = task.prover
    adapting = Adapting(task, config.training.optimization, prompt)

    def planner(settings: Settings, *given: Any) -> Plan:
        return plan_adaptation(settings, adapting, *given)

    return PlanTarget(config.run_name, settings, models, planner)


def plan_target(
    target: PlanTarget,
    assumptions: Assumptions | None = None,
    stand_ins: Mapping[str, str] = {},
    data_stand_ins: Mapping[str, str] = {},
    n: int = SAMPLE,
) -> Plan:
    """The plan of a run, from the first `n` rows of each of its sources.

    `stand_ins` maps a base model to a folder, `data_stand_ins` a part of the data to a file. Raises PlanError if
    something needed is not available.
    """
    settings = target.settings
    assumptions = assumptions or assume(rates_of(settings.models.dtype))
    located = {role: locate(model, stand_ins) for role, model in target.models.items()}
    unused = stand_ins.keys() - {one.model for one in located.values()}
    if unused:
        raise PlanError(f"no model of this recipe is called {', '.join(sorted(unused))}")
    sample = sample_sources(settings.data, settings.benchmarks.sets, data_stand_ins, assumptions.values, n)
    plan = target.planner(settings, target.run_name, sample, located, assumptions)
    if target.times == 1:
        return plan
    note = f"{target.times} seeds: the stages are those of the first; each of the others takes as much"
    return replace(plan, times=target.times).noting([note])


def write_plan(config: PlannedParameters) -> tuple[Plan, str | None]:
    """Plans, and writes ``plan.json`` to the run folder, creating that if needed; returns the plan and the file's path.

    A finished run keeps its own plan; the path is then None.
    """
    check_planned(config)
    plan = plan_target(target_of(config))
    store = RunStore(config.store_here, plan.run_name)
    if is_finished(store):
        return plan, None
    path = store.path / PLAN
    write_json(path, plan.to_json())
    store.share(path)
    return plan, store.shown(path)
