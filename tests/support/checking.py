"""What the checks before a run say of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from flows.config.checks import check, check_planned
from flows.config.every_run import PlannedParameters, RunParameters
from flows.config.parameters import SelfTrainConfig
from flows.config.recipes import ConfigError, find_recipe, load_run
from tests.conftest import ROOT
from tests.support.planning import demo

BASE = ROOT / "data/world/base-judge"


def config(world: Path, **overrides: Any) -> SelfTrainConfig:
    """The demo's, on the data of a world, with these changes."""
    bases = {"models.judge_base": str(BASE), "models.prover_base": str(ROOT / "data/world/base-prover")}
    return demo(world, **{**bases, **overrides})


def refusal(given: Any) -> str:
    """Why a run with this configuration is refused."""
    with pytest.raises(ConfigError) as caught:
        check(given)
    return str(caught.value)


def check_run(name: str, parameters: Mapping[str, Any]) -> RunParameters:
    """The configuration of a recipe's run with these parameters, once it has passed all checks. Raises ConfigError if not.

    `name` is what `find_recipe` takes, and relative paths in the parameters start where the recipe's do.
    """
    config = load_run(*find_recipe(name), parameters)
    (check_planned if isinstance(config, PlannedParameters) and config.dry_run else check)(config)
    return config
