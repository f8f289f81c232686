"""A run's whole configuration: recipes on disk, and dotted overrides on top of them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, overload

from pydantic import ValidationError

from flows.config.parameters import FLOWS, RunParameters, SelfTrainConfig

RECIPES = Path(__file__).parents[1] / "recipes"
_DEFAULT = "self-train"

Config = TypeVar("Config", bound=RunParameters)


class ConfigError(ValueError):
    """A configuration that cannot be run: each wrong value with what was got and why it is wrong."""


def recipe_files() -> list[tuple[str, Path]]:
    """(flow, file) of every recipe: those of self-training lie in the folder itself, the others in one for each flow."""
    return [(flow, path) for flow in FLOWS for path in sorted(_folder(flow).glob("*.toml"))]


def _folder(flow: str) -> Path:
    return RECIPES if flow == _DEFAULT else RECIPES / flow


def load_recipe(name: str, **changes: Any) -> SelfTrainConfig:
    """The recipe of self-training ``flows/recipes/<name>.toml``; its run name is its own unless it gives one."""
    return checked({**_read_recipe(_DEFAULT, name), **changes})


def load_recipe_of(flow: str, name: str, **changes: Any) -> RunParameters:
    """The recipe ``flows/recipes/<flow>/<name>.toml``; its run name is the flow's and its own unless it gives one."""
    return checked({**_read_recipe(flow, name), **changes}, FLOWS[flow])


def _read_recipe(flow: str, name: str) -> dict[str, Any]:
    path = _folder(flow) / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in _folder(flow).glob("*.toml")))
        raise ConfigError(f"there is no recipe {name!r}; there are {known}")
    run_name = name if flow == _DEFAULT or name.startswith(f"{flow}-") else f"{flow}-{name}"
    return {"run_name": run_name, **tomllib.loads(path.read_text(encoding="utf-8"))}


@overload
def with_overrides(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> SelfTrainConfig: ...
@overload
def with_overrides(config: Mapping[str, Any], overrides: Mapping[str, Any], kind: type[Config]) -> Config: ...
def with_overrides(config: Mapping[str, Any], overrides: Mapping[str, Any], kind: type[Any] = SelfTrainConfig) -> Any:
    """The configuration with dotted keys replaced, such as ``{"labels.votes": 16}``.

    Prefect replaces nested objects whole, so that a single value in a section cannot be given with ``--param``.
    """
    changed = checked(config, kind).model_dump(mode="json")
    for dotted, value in overrides.items():
        *sections, last = dotted.split(".")
        place = changed
        for section in sections:
            inner = place.get(section)
            if inner is None and section in place:
                inner = place[section] = {}  # a section that may be empty, such as training.final
            if not isinstance(inner, dict):
                raise ConfigError(f"override {dotted!r}: {section!r} is no section; there are {', '.join(place)}")
            place = inner
        place[last] = value
    return checked(changed, kind)


@overload
def checked(values: Mapping[str, Any]) -> SelfTrainConfig: ...
@overload
def checked(values: Mapping[str, Any], kind: type[Config]) -> Config: ...
def checked(values: Mapping[str, Any], kind: type[Any] = SelfTrainConfig) -> Any:
    """The values as a configuration. Raises ConfigError that lists every wrong one by its dotted name."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        errors = error.errors()
        lines = [
            f"  {'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}"
            + ("" if e["type"] in ("missing", "value_error") else f" (got {e['input']!r})")
            for e in errors
            # A list whose only element is wrong is also called empty; the element's own complaint is the true one.
            if not any(other["loc"][: len(e["loc"])] == e["loc"] and other is not e for other in errors)
        ]
        raise ConfigError("the configuration cannot be run:\n" + "\n".join(lines)) from error
