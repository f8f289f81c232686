"""Estimates what a run will cost before it starts: ``python -m flows.plan RECIPE``.

The estimate uses a sample of the recipe's own data and the base models' tokenizers and configs; no weights are read, and
no GPU is needed. ``--like runs/demo`` takes rates and shares from an existing run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.files import write_json
from data.sources.sources import SourceError
from data.store.store import RunStore
from flows.config.checks import check_planned
from flows.config.every_run import PlannedParameters
from flows.config.parameters import FLOWS, AdaptConfig, BaselinesConfig, GramConfig, SelfTrainConfig
from flows.config.recipes import ConfigError, find_recipe, load_run
from tasks.machine.terminal import printing
from tasks.model.chat import ChatTemplateError
from tasks.model.endpoint import is_endpoint
from tasks.model.folder import ModelError
from tasks.plan.adapting import Adapting, plan_adaptation
from tasks.plan.assumptions import Assumptions, PlanError, assume, rates_of
from tasks.plan.baselines import plan_baselines
from tasks.plan.measured import measured_in
from tasks.plan.plan import PLAN, Plan, plan_self_training, roles
from tasks.plan.sample import DataSample, sample_sources
from tasks.plan.show import as_text, gpu_time, size
from tasks.plan.sizes import Located, locate
from tasks.rank import prompt_of
from tasks.settings import Role, Settings

_PLANNED = {flow: kind for flow, kind in FLOWS.items() if issubclass(kind, PlannedParameters)}
BAD_INPUT = 2
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
    if task.prover and settings.judge_prompt.has_rationale:
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
    return plan.noting([_several(target, plan)]) if target.times > 1 else plan


def _several(target: PlanTarget, plan: Plan) -> str:
    totals = plan.totals()
    time, disk = gpu_time(target.times * totals["gpu_seconds"]), size(target.times * totals["disk_bytes"])
    return (
        f"{target.times} seeds: this plan covers only the first; each of the others takes as much, so the total is "
        f"{target.times} times as much: GPU time {time}, disk {disk}"
    )


def write_plan(config: PlannedParameters) -> tuple[Plan, str]:
    """Plans, and writes ``plan.json`` to the run folder, creating that if needed; returns the plan and the file's path."""
    check_planned(config)
    plan = plan_target(target_of(config))
    store = RunStore(config.store, plan.run_name)
    path = store.path / PLAN
    write_json(path, plan.to_json())
    store.share(path)
    return plan, store.shown(path)


# ---- the command line -----------------------------------------------------------------------------------------------------


@printing
def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the plan. Returns 2, with a message, if the run cannot be planned, or would stop."""
    options = _parser().parse_args(arguments)
    try:
        plan = _plan(options)
    except (PlanError, ConfigError, SourceError, ChatTemplateError, ModelError) as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    print(json.dumps(plan.to_json(), indent=1) if options.json else as_text(plan), end="\n" if options.json else "")
    return BAD_INPUT if plan.stops else 0


def _plan(options: argparse.Namespace) -> Plan:
    overrides = {name: _value(text) for name, text in _pairs(options.set).items()}
    config = _recipe(options.recipe, overrides)
    stand_ins, data_stand_ins = _pairs(options.stand_in), _pairs(options.data_stand_in)
    target = target_of(config, stand_ins)
    for model in target.models.values():
        locate(model, stand_ins)
    check_planned(config, stand_ins)
    settings = target.settings
    layers: list[tuple[str, Mapping[str, Any]]] = [rates_of(settings.models.dtype)]
    notes: list[str] = []
    if options.like:
        measured, notes = measured_in(options.like, settings)
        layers.append((f"measured in {options.like}", measured))
    if options.rates:
        layers.append((f"given in {options.rates}", _read_rates(options.rates)))
    layers.append(("given", {name: _value(text) for name, text in _pairs(options.assume).items()}))
    return plan_target(target, assume(*layers), stand_ins, data_stand_ins, options.sample).noting(notes)


def _recipe(name: str, overrides: Mapping[str, Any]) -> PlannedParameters:
    """A recipe by FLOW/NAME, by NAME alone, or by its path, with overrides."""
    flow, path = find_recipe(name)
    if flow not in _PLANNED:
        raise ConfigError(f"{name}: recipes of {flow} cannot be planned; those of {', '.join(_PLANNED)} can")
    config = load_run(flow, path, {"overrides": overrides})
    assert isinstance(config, PlannedParameters)
    return config


def _read_rates(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PlanError(f"{path} cannot be read as TOML with lines such as judge_training = 9000: {error}") from error


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    """Arguments of the form NAME=VALUE."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise PlanError(f"{text!r} is not NAME=VALUE")
        found[name] = value
    return found


def _value(text: str) -> Any:
    """The text parsed as JSON, or, if it is not JSON, the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flows.plan", description=__doc__)
    parser.add_argument(
        "recipe",
        help="a recipe of self-train, such as llama-3.1-8b, another flow's, such as adapt/helpsteer3-code, or a recipe's path",
    )
    for option, metavar, text in (
        ("--set", "KEY=VALUE", "a setting by its dotted name, such as labels.votes=16"),
        ("--assume", "NAME=VALUE", "an assumption, such as kept_labels=0.6 or rows_labeled=77000"),
        ("--stand-in", "MODEL=FOLDER", "a folder with config.json and tokenizer, used in place of a base model"),
        (
            "--data-stand-in",
            "PART=FILE",
            "a file of your own records, used in place of rationale, labeled, unlabeled, heldout, or a set",
        ),
    ):
        parser.add_argument(option, action="append", default=[], metavar=metavar, help=text + "; may be repeated")
    parser.add_argument(
        "--rates",
        type=Path,
        metavar="FILE",
        help="TOML with tokens/s of one GPU: judge_training, judge_generation, prover_training, prover_generation",
    )
    parser.add_argument(
        "--like", type=Path, metavar="RUN", help="folder of an existing run whose rates and shares are assumed"
    )
    parser.add_argument(
        "--sample", type=_positive, default=SAMPLE, help=f"rows to sample per source; default: {SAMPLE}"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


if __name__ == "__main__":
    sys.exit(main())
