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
    """A configuration that cannot be run: names each invalid value, what was given, and why it is invalid."""


def recipe_files() -> list[tuple[str, Path]]:
    """(flow, file) of every recipe: those of self-training are in the folder itself, the others in one subfolder per flow."""
    return [(flow, path) for flow in FLOWS for path in sorted(_folder(flow).glob("*.toml"))]


def _folder(flow: str) -> Path:
    return RECIPES if flow == _DEFAULT else RECIPES / flow


def load_recipe(name: str, **changes: Any) -> SelfTrainConfig:
    """The self-training recipe ``flows/recipes/<name>.toml``; unless it sets a run name, its own name is used."""
    return checked({**_read_recipe(_DEFAULT, name), **changes})


def load_recipe_of(flow: str, name: str, **changes: Any) -> RunParameters:
    """The recipe ``flows/recipes/<flow>/<name>.toml``; unless it sets a run name, that is the flow's name and its own."""
    return checked({**_read_recipe(flow, name), **changes}, FLOWS[flow])


def _read_recipe(flow: str, name: str) -> dict[str, Any]:
    path = _folder(flow) / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in _folder(flow).glob("*.toml")))
        raise ConfigError(f"there is no recipe {name!r}; available: {known}")
    run_name = name if flow == _DEFAULT or name.startswith(f"{flow}-") else f"{flow}-{name}"
    return {"run_name": run_name, **tomllib.loads(path.read_text(encoding="utf-8"))}


@overload
def with_overrides(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> SelfTrainConfig: ...
@overload
def with_overrides(config: Mapping[str, Any], overrides: Mapping[str, Any], kind: type[Config]) -> Config: ...
def with_overrides(config: Mapping[str, Any], overrides: Mapping[str, Any], kind: type[Any] = SelfTrainConfig) -> Any:
    """The configuration with dotted keys replaced, such as ``{"labels.votes": 16}``.

    Prefect replaces nested objects as a whole, so ``--param`` cannot set a single value in a section.
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
                raise ConfigError(f"override {dotted!r}: {section!r} is not a section; available: {', '.join(place)}")
            place = inner
        place[last] = value
    return checked(changed, kind)


@overload
def checked(values: Mapping[str, Any]) -> SelfTrainConfig: ...
@overload
def checked(values: Mapping[str, Any], kind: type[Config]) -> Config: ...
def checked(values: Mapping[str, Any], kind: type[Any] = SelfTrainConfig) -> Any:
    """The values as a configuration. Raises a ConfigError that lists every invalid value by its dotted name."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        errors = error.errors()
        lines = [
            f"  {'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}"
            + ("" if e["type"] in ("missing", "value_error") else f" (got {e['input']!r})")
            for e in errors
            # A list whose only element is invalid is also reported as empty; the element's own error is the real one.
            if not any(other["loc"][: len(e["loc"])] == e["loc"] and other is not e for other in errors)
        ]
        raise ConfigError("the configuration cannot be run:\n" + "\n".join(lines)) from error
