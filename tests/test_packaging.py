"""What others build on: the wheel's types, and the extras."""

from __future__ import annotations

import tomllib
from typing import Any, get_args

from tasks.settings import Mechanics
from tests.conftest import ROOT


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


PROJECT: dict[str, Any] = tomllib.loads(read("pyproject.toml"))
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
PACKAGES: list[str] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


def test_each_package_says_that_it_is_typed() -> None:
    assert PACKAGES == ["data", "prompts", "tasks", "flows"]
    assert all((ROOT / package / "py.typed").is_file() for package in PACKAGES)
    assert PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"].keys() == {"packages"}, "something may be left out"


def test_there_is_an_extra_for_each_service_that_trainings_report_to() -> None:
    services = get_args(get_args(Mechanics.model_fields["report_to"].annotation)[0])
    assert set(services) - EXTRAS.keys() == {"trackio"}  # installed under its own name
