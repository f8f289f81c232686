"""Writes ``prefect.yaml`` from the recipes, so that the two cannot differ: ``python -m flows.server.deployments``."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from flows.config.checks import check, check_planned
from flows.config.every_run import PlannedParameters, RunParameters
from flows.config.parameters import ENTRYPOINTS, FLOWS
from flows.config.recipe_text import read_text, values_in
from flows.config.recipes import ConfigError, load_file, load_recipe_of, recipe_files, with_overrides

POOLS = {
    "ctl": "The flow runs themselves: they need no GPU if generation and training go to the other pools.",
    "gpu": "Generation, one engine per run: one worker per machine, with --limit set to its number of GPUs.",
    "train": "Training, one run per machine: a worker with --limit 1 that sees all GPUs.",
}
"""The work pools by name: parents must not take the slots that their children need."""

_HEADER = """\
# Generated from flows/recipes by `python -m flows.server.deployments`; change the recipes, not this file.
# Register with `prefect deploy --all`. Relative paths are relative to the folder of this file.
"""


def enter_project() -> dict[str, str]:
    """The Prefect pull step of every deployment: a flow run works in this checkout, and relative paths start here.

    Each worker uses its own checkout, so that no machine's paths are stored on the server. GRAM_R2_HOME names another
    folder, for a worker without an editable install.
    """
    folder = Path(os.environ.get("GRAM_R2_HOME") or Path(__file__).parents[2]).resolve()
    if not (folder / "prefect.yaml").is_file():
        raise FileNotFoundError(f"{folder} has no prefect.yaml: set GRAM_R2_HOME to the checkout of this project")
    return {"directory": str(folder)}


def recipe_deployments(recipes: Iterable[tuple[str, Path]]) -> tuple[list[dict[str, Any]], list[str]]:
    """The entries of prefect.yaml for the recipes (flow, file) that can be run, and what is wrong with the others."""
    made, problems = [], []
    for flow, path in recipes:
        try:
            made.append(_deployment(flow, path, load_file(flow, path)))
        except ConfigError as error:
            problems += str(error).splitlines()
    return made, problems


def _deployment(flow: str, recipe: Path, config: RunParameters) -> dict[str, Any]:
    """One entry of prefect.yaml: a flow with a recipe's values as its parameters."""
    text = read_text(recipe)
    first = text.partition("\n")[0]
    # The flow run's own name, such as that of the UI's form, is used unless the recipe itself sets one.
    unnamed = set() if "run_name" in values_in(recipe, text) else {"run_name"}
    return {
        "name": recipe.stem,
        "description": first.lstrip("# ") if first.startswith("#") else f"flows/recipes: {recipe.name}",
        "entrypoint": ENTRYPOINTS[flow],
        "parameters": config.model_dump(mode="json", exclude=unnamed),
        "work_pool": {
            "name": "ctl",
            "job_variables": _job_variables(),
        },
    }


def check_run(name: str, parameters: Mapping[str, Any]) -> None:
    """Makes the checks of a deployment's run before anything is started. Raises ConfigError if it cannot be run.

    As in Prefect, a parameter replaces a whole section of the recipe.
    """
    flow, _, recipe = name.partition("/")
    if flow not in FLOWS or not recipe:
        raise ConfigError(f"{name!r} is not a deployment: give FLOW/RECIPE, such as self-train/demo")
    values = load_recipe_of(flow, recipe).model_dump(mode="json")
    overrides = parameters.get("overrides") or {}
    given = {key: value for key, value in parameters.items() if key != "overrides"}
    with contextlib.chdir(enter_project()["directory"]):  # where the run will work
        config = with_overrides({**values, **given}, overrides, FLOWS[flow])
        (check_planned if isinstance(config, PlannedParameters) and config.dry_run else check)(config)


def _job_variables() -> dict[str, Any]:
    return {
        # Logs reach the UI anyway; a flow whose worker is gone must not die at its next line of output.
        "stream_output": False,
        # Heartbeats distinguish a run on a lost machine from a busy one; Prefect's default is 180 s.
        # A server that is away for a minute or two must not kill a run that has worked for days.
        "env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30", "PREFECT_CLIENT_MAX_RETRIES": "8"},
    }


def parts() -> list[dict[str, Any]]:
    """The entries of prefect.yaml for the parts of a run that other machines execute; `tasks.machine.remote_runs` starts them."""
    return [
        {
            "name": "shards",
            "description": "A part of a generation stage; started by runs with generation.workers, not by people.",
            "entrypoint": "flows.workers.generate_shards",
            "work_pool": {"name": "gpu", "job_variables": _job_variables()},
        },
        {
            "name": "model",
            "description": "A training; started by runs with training.in_pool, not by people.",
            "entrypoint": "flows.workers.train_model",
            "work_pool": {"name": "train", "job_variables": _job_variables()},
        },
    ]


def prefect_yaml(recipes: Sequence[dict[str, Any]]) -> str:
    """The whole file, from the entries of the recipes."""
    pull: list[dict[str, Any]] = [{"flows.server.deployments.enter_project": {}}]
    content = {"name": "gram-r2", "pull": pull, "deployments": [*recipes, *parts()]}
    return _HEADER + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


def main() -> int:
    """Writes the file. Returns 2, with a message, if a recipe cannot be run; the others are written."""
    recipes, problems = recipe_deployments(recipe_files())
    Path("prefect.yaml").write_text(prefect_yaml(recipes), encoding="utf-8")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 2 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
