"""Writes ``prefect.yaml`` from the recipes, so that the two cannot differ: ``python -m flows.deployments``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from flows.config import RECIPES, load_recipe

POOL = "gram-r2"
_HEADER = """\
# Made from flows/recipes/*.toml by `python -m flows.deployments`; change the recipes, not this file.
# Register with `prefect deploy --all`, in the folder of this file: relative paths in recipes start there.
"""


def deployment(recipe: str) -> dict[str, Any]:
    """One entry of prefect.yaml: the flow self-train with a recipe's values as its parameters."""
    config = load_recipe(recipe)
    first_line = (RECIPES / f"{recipe}.toml").read_text(encoding="utf-8").splitlines()[0]
    return {
        "name": recipe,
        "description": first_line.lstrip("# "),
        # A module path: a file path would load the classes of this package a second time, under another name.
        "entrypoint": "flows.self_train.self_train",
        "parameters": config.model_dump(mode="json"),
        "work_pool": {
            "name": POOL,
            # Logs reach the UI anyway; a flow whose worker is gone must not die at its next line of output.
            "job_variables": {"stream_output": False},
        },
    }


def prefect_yaml() -> str:
    """The whole file."""
    recipes = sorted(path.stem for path in RECIPES.glob("*.toml"))
    content = {"name": "gram-r2", "deployments": [deployment(recipe) for recipe in recipes]}
    return _HEADER + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


if __name__ == "__main__":
    Path("prefect.yaml").write_text(prefect_yaml(), encoding="utf-8")
