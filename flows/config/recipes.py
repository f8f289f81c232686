"""A run's whole configuration: recipes on disk, and dotted overrides on top of them."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, overload

from pydantic import BaseModel, ValidationError

from data.paths import from_home
from data.store.run_folder import wrong_run_name
from flows.config.every_run import RunParameters
from flows.config.parameters import FLOWS, SelfTrainConfig
from flows.config.recipe_paths import absolute_overrides, absolute_values
from flows.config.recipe_text import RecipeTextError, line_of, read_text, shown, values_in
from tasks.settings.wording import (
    Place,
    annotation_at,
    complaints,
    dotted,
    may_have_keys,
    truth_for_number,
    unknown_setting,
)

RECIPES = Path(__file__).parents[1] / "recipes"
_DEFAULT = "self-train"

Config = TypeVar("Config", bound=RunParameters)


class ConfigError(ValueError):
    """A configuration that cannot be run: one line for each invalid value, with its name, what was given, and the rule."""


def recipe_files() -> list[tuple[str, Path]]:
    """(flow, file) of every recipe: those of self-training are in the folder itself, the others in one subfolder per flow."""
    return [(flow, path) for flow in FLOWS for path in sorted(_folder(flow).glob("*.toml"))]


def _folder(flow: str) -> Path:
    return RECIPES if flow == _DEFAULT else RECIPES / flow


def own(path: Path) -> bool:
    """Whether a recipe is the user's: its relative paths start in its own folder, those of a built-in one in the checkout."""
    return path.parent.resolve() not in {_folder(flow).resolve() for flow in FLOWS}


def find_recipe(name: str) -> tuple[str, Path]:
    """(flow, file) of a recipe by FLOW/NAME or NAME of a built-in one, by its path, or by a folder that holds no other.

    A name alone is self-training's recipe or, if there is none, that of the only flow that has one. A file elsewhere
    belongs to the first flow that has all of its settings; if several have, rather to the one that its folder is named after.
    Raises ConfigError if there is none.
    """
    path = Path(from_home(name))
    if path.suffix == ".toml" and path.is_file():
        return _flow_of(path), path
    flow, _, stem = name.removesuffix(".toml").rpartition("/")
    having = [kind for kind, path in recipe_files() if path.stem == stem]
    built_in = (flow in having) if flow else bool(having)
    if path.is_dir() and (only := _only_recipe(name, path, built_in)):
        return _flow_of(only), only
    if name.startswith((".", "~", "/")) or (name.endswith(("/", ".toml")) and not built_in):
        raise ConfigError(f"{name}: there is no such {'file' if path.suffix == '.toml' else 'folder'}")
    if not flow:
        flow = _DEFAULT if _DEFAULT in having or len(having) != 1 else having[0]
    if flow not in FLOWS:
        near = difflib.get_close_matches(flow, FLOWS, n=1)
        hint = f"did you mean {near[0]}/{stem}?" if near else f"the flows are {', '.join(FLOWS)}"
        raise ConfigError(f"{name}: there is no flow {flow!r}; {hint}")
    return flow, _recipe_named(flow, stem)


def _only_recipe(name: str, folder: Path, built_in: bool) -> Path | None:
    """The recipe in a folder; None if a built-in one is meant. Raises ConfigError if that is not clear."""
    recipes = sorted(folder.glob("*.toml"))
    if built_in and not recipes:
        return None
    if built_in and not name.startswith((".", "/", "~")) and not name.endswith("/"):
        raise ConfigError(f"{name} is a built-in recipe and a folder with recipes: for the folder, write ./{name}")
    if len(recipes) == 1:
        return recipes[0]
    found = (
        f"holds {len(recipes)} recipes: name one of {', '.join(map(str, recipes))}"
        if recipes
        else "holds no .toml file"
    )
    raise ConfigError(f"the folder {name} {found}")


def _recipe_named(flow: str, name: str) -> Path:
    path = _folder(flow) / f"{name}.toml"
    if not path.is_file():
        known = sorted(p.stem for p in _folder(flow).glob("*.toml"))
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        of = "" if flow == _DEFAULT else f" of {flow}"
        raise ConfigError(f"there is no recipe {name!r}{of}; {hint}available: {', '.join(known)}")
    return path


def _flow_of(path: Path) -> str:
    folder = path.resolve().parent
    if not own(path):
        return folder.name if folder.name in FLOWS else _DEFAULT
    try:
        values = values_in(path, read_text(path))
    except RecipeTextError as error:
        raise ConfigError(str(error)) from error

    def fits(flow: str) -> tuple[bool, ...]:
        kind, required = FLOWS[flow], {name for name, field in FLOWS[flow].model_fields.items() if field.is_required()}
        known = [all(annotation_at(kind, place) is not None for place in _places(values, depth)) for depth in (1, 2)]
        return (*known, required <= {"run_name", *values}, flow == folder.name)

    return max(FLOWS, key=fits)


def _places(values: Mapping[str, Any], depth: int) -> Iterator[Place]:
    """The places of the values, down to a depth."""
    for key, value in values.items():
        yield (key,)
        if isinstance(value, Mapping) and depth > 1:
            yield from ((key, *place) for place in _places(value, depth - 1))


def load_recipe(name: str, **changes: Any) -> SelfTrainConfig:
    """The self-training recipe ``flows/recipes/<name>.toml``; unless it sets a run name, its own name is used."""
    return load_file(_DEFAULT, _recipe_named(_DEFAULT, name), **changes)  # type: ignore[return-value]


def load_recipe_of(flow: str, name: str, **changes: Any) -> RunParameters:
    """The recipe ``flows/recipes/<flow>/<name>.toml``; unless it sets a run name, that is the flow's name and its own."""
    return load_file(flow, _recipe_named(flow, name), **changes)


def recipe_values(flow: str, path: Path) -> dict[str, Any]:
    """What a recipe says. In a user's recipe, relative paths become absolute against its folder, and its store is given.

    Raises ConfigError if the file is not a recipe's text; the values are not checked.
    """
    try:
        values = values_in(path, read_text(path))
    except RecipeTextError as error:
        raise ConfigError(str(error)) from error
    store = FLOWS[flow].model_fields["store"].default
    return absolute_values({"store": store, **values}, folder_of(path)) if own(path) else values


def name_for_run(flow: str, path: Path) -> str:
    """The run name of a recipe that sets none: the recipe's, with that of its flow unless it is self-training."""
    return path.stem if flow == _DEFAULT or path.stem.startswith(f"{flow}-") else f"{flow}-{path.stem}"


def deployment_of(flow: str, path: Path) -> str:
    """The name of a recipe's deployment, FLOW/NAME. Raises ConfigError for a recipe of the user's that cannot have one."""
    name = f"{flow}/{path.stem}"
    if not own(path):
        return name
    if (flow, path.stem) in {(kind, one.stem) for kind, one in recipe_files()}:
        raise ConfigError(f"{shown(path)}: {name} is the deployment of a built-in recipe: use another name")
    if problem := wrong_run_name(path.stem):
        raise ConfigError(f"{shown(path)}: its deployment would have the file's name; {problem}")
    return name


def load_file(flow: str, path: Path, **changes: Any) -> RunParameters:
    """A recipe of a flow, from any file; `changes` count as if they were written in it.

    Raises ConfigError with the file, the line and the name of each invalid value.
    """
    values = {"run_name": name_for_run(flow, path), **recipe_values(flow, path), **absolute_parameters(path, changes)}

    def where(place: Place) -> str:
        line = None if place[:1] and place[0] in changes else line_of(read_text(path), place)
        return f"{shown(path)}, line {line}: " if line else f"{shown(path)}: "

    config: RunParameters = _valid(values, FLOWS[flow], where)
    return config


def load_run(flow: str, path: Path, parameters: Mapping[str, Any] = {}) -> RunParameters:
    """The configuration of a recipe's flow run with these parameters, whose relative paths start where the recipe's do.

    As in Prefect, a parameter replaces a whole section; single values are in `overrides`. It holds in this process, whatever
    the current folder is. Raises ConfigError as `load_file` does.
    """
    values = {**load_file(flow, path).model_dump(mode="json"), **absolute_parameters(path, parameters)}
    overrides = values.pop("overrides", None) or {}
    if not own(path) and Path.cwd() != (folder := folder_of(path)):
        values, overrides = absolute_values(values, folder), absolute_overrides(overrides, folder)
    return with_overrides(values, overrides, FLOWS[flow])


def absolute_parameters(path: Path, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters for a flow run of a recipe, with their paths as if they were written in it: absolute for a user's recipe."""
    if not own(path):
        return dict(parameters)
    made = absolute_values(parameters, folder_of(path))
    return (
        {**made, "overrides": absolute_overrides(made["overrides"], folder_of(path))} if "overrides" in made else made
    )


def folder_of(path: Path) -> Path:
    """Where the relative paths of a recipe start."""
    return path.parent.resolve() if own(path) else checkout()


def checkout() -> Path:
    """The folder in which flow runs work: GRAM_R2_HOME, or the checkout that this code is in."""
    return Path(os.environ.get("GRAM_R2_HOME") or RECIPES.parents[1]).resolve()


@overload
def with_overrides(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> SelfTrainConfig: ...
@overload
def with_overrides(config: Mapping[str, Any], overrides: Mapping[str, Any], kind: type[Config]) -> Config: ...
def with_overrides(config: Mapping[str, Any], overrides: Mapping[str, Any], kind: type[Any] = SelfTrainConfig) -> Any:
    """The configuration with dotted keys replaced, such as ``{"labels.votes": 16}``.

    Prefect replaces nested objects as a whole, so ``--param`` cannot set a single value in a section. The flows leave all
    validation to this function, which says more than Prefect's own.
    """
    if not isinstance(overrides, Mapping):
        raise ConfigError(f'overrides: must be a table such as {{"labels.votes": 16}}, got {overrides!r}')
    changed = checked(config, kind).model_dump(mode="json")
    for name, value in overrides.items():
        _set(changed, kind, tuple(int(key) if key.isdecimal() else key for key in name.split(".")), value)
    return checked(changed, kind)


def _set(values: Any, kind: type[BaseModel], place: Place, value: Any) -> None:
    """Sets the value at a place of a configuration's JSON. Raises ConfigError if there is no such place."""
    for depth, key in enumerate(place):
        before, last = dotted(place[:depth]), depth == len(place) - 1
        if isinstance(values, list):
            if not isinstance(key, int) or key >= len(values):
                what = f"has {len(values)} items, numbered from 0" if isinstance(key, int) else "is a list of items"
                hint = f"{what}; name one of them, such as {before}.0" if values else "is empty: set it as a whole"
                raise ConfigError(f"{dotted(place)}: {before} {hint}")
        elif annotation_at(kind, place[: depth + 1]) is None:
            raise ConfigError(unknown_setting(kind, place))
        elif not last and values.get(key) is None and may_have_keys(kind, place[: depth + 1]):
            values[key] = {}  # a section that is empty by default, such as training.final
        elif not last and not isinstance(values.get(key), dict | list):
            empty = annotation_at(kind, place[: depth + 2]) is not None
            reason = "is empty: set it as a whole" if empty else "is a single value"
            raise ConfigError(f"{dotted(place)}: {dotted(place[: depth + 1])} {reason}")
        if last:
            values[key] = value
        else:
            values = values[key]


@overload
def checked(values: Mapping[str, Any]) -> SelfTrainConfig: ...
@overload
def checked(values: Mapping[str, Any], kind: type[Config]) -> Config: ...
def checked(values: Mapping[str, Any], kind: type[Any] = SelfTrainConfig) -> Any:
    """The values as a configuration. Raises a ConfigError with a line for each invalid value."""
    return _valid(values, kind)


def _valid(values: Mapping[str, Any], kind: type[Any], where: Callable[[Place], str] = lambda place: "") -> Any:
    problems = list(truth_for_number(kind, dict(values)))
    try:
        if not problems:
            return kind.model_validate(values)
    except ValidationError as error:
        problems = complaints(kind, error)
    raise ConfigError("\n".join(where(place) + line for place, line in problems))
