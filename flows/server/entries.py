"""The deployments as entries of ``prefect.yaml``: one for each recipe, and one for each part of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from flows.config.parameters import ENTRYPOINTS
from flows.config.recipe_text import read_text
from flows.config.recipes import ConfigError, load_file, own, recipe_values

POOLS = {
    "ctl": "The flow runs themselves: they need no GPU if generation and training go to the other pools.",
    "gpu": "Generation, one engine per run: one worker per machine, with --limit set to its number of GPUs.",
    "train": "Training, one run per machine: a worker with --limit 1 that sees all GPUs.",
}
"""The work pools by name: parents must not take the slots that their children need."""

SHORT = "short"
"""A second work queue of the pool ctl, with workers of its own."""
SHORT_RUNS = "Plans and benchmarks, which do not wait behind runs that take days."
TAG, BUILT_IN, OWN, PART = "gram-r2", "built-in", "own", "part"
"""Tags of our deployments, beside that of the flow: all of them; whether the recipe is ours; parts of runs."""
_SHORT_FLOWS = {"benchmark"}
PULL = "flows.server.deployments.enter_project"

_JOB_VARIABLES: dict[str, Any] = {
    # Logs reach the UI anyway; a flow whose worker is gone must not die at its next line of output.
    "stream_output": False,
    # Heartbeats distinguish a run on a lost machine from a busy one; Prefect's default is 180 s.
    # A server that is away for a minute or two must not kill a run that has worked for days.
    "env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30", "PREFECT_CLIENT_MAX_RETRIES": "8"},
}
_RUNS = {"name": "ctl", "job_variables": _JOB_VARIABLES}
_SHORT_RUNS = {"name": "ctl", "work_queue_name": SHORT, "job_variables": _JOB_VARIABLES}
_SHARED = {"job_variables": _JOB_VARIABLES, "runs": _RUNS, "short_runs": _SHORT_RUNS}

_HEADER = """\
# Generated from flows/recipes by `python -m flows.server.deployments`; change the recipes, not this file.
# Register with `prefect deploy --all`. Relative paths are relative to the folder of this file; settings that are not here
# have their defaults.
"""


def recipe_deployments(recipes: Iterable[tuple[str, Path]]) -> tuple[list[dict[str, Any]], list[str]]:
    """The entries of prefect.yaml for the recipes (flow, file) that can be run, and what is wrong with the others."""
    made, problems = [], []
    for flow, path in recipes:
        try:
            made.append(recipe_deployment(flow, path))
        except ConfigError as error:
            problems += str(error).splitlines()
    return made, problems


def recipe_deployment(flow: str, path: Path) -> dict[str, Any]:
    """A recipe's entry of prefect.yaml: what it says are the parameters, and the flow's defaults hold for the rest.

    Raises ConfigError if it cannot be run.
    """
    load_file(flow, path)
    values = recipe_values(flow, path)
    first = read_text(path).partition("\n")[0]
    what = first.lstrip("# ") if first.startswith("#") else f"The recipe {path.name}."
    return {
        "name": path.stem,
        "description": f"{what}\n\nRecipe: `{path.resolve()}`" if own(path) else what,
        "tags": [TAG, OWN if own(path) else BUILT_IN, flow],
        "entrypoint": ENTRYPOINTS[flow],
        "parameters": values,
        "work_pool": _SHORT_RUNS if flow in _SHORT_FLOWS else _RUNS,
    }


def parts() -> list[dict[str, Any]]:
    """The entries of prefect.yaml for the parts of a run that other machines execute; `tasks.machine.remote_runs` starts them."""
    return [
        {
            "name": "shards",
            "description": "A part of a generation stage; started by runs with generation.workers, not by people.",
            "tags": [TAG, BUILT_IN, PART],
            "entrypoint": "flows.workers.generate_shards",
            "work_pool": {"name": "gpu", "job_variables": _JOB_VARIABLES},
        },
        {
            "name": "model",
            "description": "A training; started by runs with training.in_pool, not by people.",
            "tags": [TAG, BUILT_IN, PART],
            "entrypoint": "flows.workers.train_model",
            "work_pool": {"name": "train", "job_variables": _JOB_VARIABLES},
        },
    ]


class _Yaml(yaml.SafeDumper):
    """What several entries share is written once, in `definitions`, under these names."""

    def generate_anchor(self, node: yaml.Node) -> str:
        super().generate_anchor(node)
        return list(_SHARED)[self.last_anchor_id - 1]


def prefect_yaml(recipes: Sequence[dict[str, Any]]) -> str:
    """The whole file, from the entries of the recipes."""
    pull: list[dict[str, Any]] = [{PULL: {}}]
    content = {"name": "gram-r2", "definitions": _SHARED, "pull": pull, "deployments": [*recipes, *parts()]}
    text = yaml.dump(content, Dumper=_Yaml, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)
    return _HEADER + text
