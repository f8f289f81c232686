"""Writes ``prefect.yaml`` from the recipes, so that the two cannot differ: ``python -m flows.server.deployments``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from flows.config.parameters import ENTRYPOINTS
from flows.config.recipes import load_recipe, load_recipe_of, recipe_files

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


def deployment(flow: str, recipe: Path) -> dict[str, Any]:
    """One entry of prefect.yaml: a flow with a recipe's values as its parameters."""
    config = load_recipe(recipe.stem) if flow == "self-train" else load_recipe_of(flow, recipe.stem)
    return {
        "name": recipe.stem,
        "description": recipe.read_text(encoding="utf-8").splitlines()[0].lstrip("# "),
        "entrypoint": ENTRYPOINTS[flow],
        "parameters": config.model_dump(mode="json"),
        "work_pool": {
            "name": "ctl",
            "job_variables": _job_variables(),
        },
    }


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


def prefect_yaml() -> str:
    """The whole file."""
    pull: list[dict[str, Any]] = [{"flows.server.deployments.enter_project": {}}]
    deployments = [*(deployment(flow, recipe) for flow, recipe in recipe_files()), *parts()]
    content = {"name": "gram-r2", "pull": pull, "deployments": deployments}
    return _HEADER + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


if __name__ == "__main__":
    Path("prefect.yaml").write_text(prefect_yaml(), encoding="utf-8")
