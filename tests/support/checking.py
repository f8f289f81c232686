"""What the checks before a run say of a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.config.checks import check
from flows.config.parameters import SelfTrainConfig
from flows.config.recipes import ConfigError
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
