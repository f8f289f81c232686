"""Recipes as deployments: checked, registered on a server, removed from it.

``python -m flows.server.deployments`` writes ``prefect.yaml`` from the recipes, so that the two cannot differ.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.config.checks import check, check_planned
from flows.config.every_run import PlannedParameters, RunParameters
from flows.config.recipes import (
    checkout,
    find_recipe,
    load_run,
    recipe_files,
)
from flows.server.entries import prefect_yaml, recipe_deployments

_PAGE = 200


def enter_project(recipe: str = "") -> dict[str, str]:
    """The Prefect pull step of every deployment: a flow run works in this checkout, and relative paths start here.

    `recipe` only tells where a user's recipe lies: its paths are absolute.

    Each worker uses its own checkout, so that no machine's paths are stored on the server. GRAM_R2_HOME names another
    folder, for a worker without an editable install.
    """
    folder = checkout()
    if not (folder / "prefect.yaml").is_file():
        raise FileNotFoundError(f"{folder} has no prefect.yaml: set GRAM_R2_HOME to the checkout of this project")
    return {"directory": str(folder)}


def check_run(name: str, parameters: Mapping[str, Any]) -> RunParameters:
    """The configuration of a recipe's run with these parameters, once it has passed all checks. Raises ConfigError if not.

    `name` is what `find_recipe` takes, and relative paths in the parameters start where the recipe's do.
    """
    config = load_run(*find_recipe(name), parameters)
    (check_planned if isinstance(config, PlannedParameters) and config.dry_run else check)(config)
    return config


def main() -> int:
    """Writes the file. Returns 2, with a message, if a recipe cannot be run; the others are written."""
    recipes, problems = recipe_deployments(recipe_files())
    Path("prefect.yaml").write_text(prefect_yaml(recipes), encoding="utf-8")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 2 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
