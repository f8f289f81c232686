"""The smallest configuration of a run, and what is said of a wrong one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from flows.config.recipes import ConfigError, checked, with_overrides


def values(**sections: Mapping[str, Any]) -> dict[str, Any]:
    """The smallest configuration, with changes to its sections."""
    smallest: dict[str, Any] = {
        "run_name": "demo",
        "models": {"judge_base": "j", "prover_base": "p"},
        "data": {key: [{"path": f"{key}.jsonl"}] for key in ("rationale", "labeled", "unlabeled")},
    }
    for name, changes in sections.items():
        smallest[name] = {**smallest.get(name, {}), **changes}
    return smallest


def refusal(given: Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        with_overrides(given, overrides) if overrides is not None else checked(given)
    return str(caught.value)
