"""Recipes, and what stands in for their models and data, so that each can be planned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.config.every_run import PlannedParameters
from flows.config.parameters import AdaptConfig, SelfTrainConfig
from flows.config.recipes import load_recipe, load_recipe_of, recipe_files, with_overrides
from flows.plan import PlanTarget, plan_target, target_of
from tasks.plan.plan import Plan
from tests.support.plan_fixtures import write_model, write_rows
from tests.support.short_run import FIXED_THRESHOLD


def demo(world: Path, **overrides: Any) -> SelfTrainConfig:
    """The recipe demo without what doubts its labels, on the data in `world`."""
    data = {**FIXED_THRESHOLD, **sources(world, "rationale", "labeled", "unlabeled", "heldout")}
    return with_overrides(load_recipe("demo").model_dump(), {**data, **overrides})


def sources(world: Path, *parts: str) -> dict[str, Any]:
    """The overrides that take these parts of the data from `world`."""
    return {f"data.{part}": [{"path": f"{world}/{part}.jsonl"}] for part in parts}


def planned(config: PlannedParameters, *given: Any, **options: Any) -> Plan:
    return plan_target(target_of(config), *given, **options)


def planned_recipes() -> dict[str, PlannedParameters]:
    """The configuration of every recipe that can be planned, by its name on the command line."""
    made: dict[str, PlannedParameters] = {}
    for flow, path in recipe_files():
        config = load_recipe_of(flow, path.stem)
        if isinstance(config, PlannedParameters):
            made[path.stem if flow == "self-train" else f"{flow}/{path.stem}"] = config
    return made


RECIPES = planned_recipes()


def target(recipe: str, folder: Path) -> PlanTarget:
    """What a recipe's run will do, where a folder stands in for a judge that is to be adapted."""
    config = RECIPES[recipe]
    judge = config.judge.path if isinstance(config, AdaptConfig) else None
    return target_of(config, {judge: str(write_model(folder, judge))} if judge else {})


def options(recipe: str, folder: Path) -> list[str]:
    """The arguments that plan a recipe without the hub, and without the files that it names."""
    found = target(recipe, folder)
    models = [f"{model}={write_model(folder, model)}" for model in sorted(set(found.models.values()))]
    files = [f"{part}={file}" for part, file in write_rows(folder, found.settings).items()]
    return [recipe, *(word for one in models for word in ("--stand-in", one)),
            *(word for one in files for word in ("--data-stand-in", one))]  # fmt: skip
