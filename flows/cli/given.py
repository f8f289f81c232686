"""What several commands are given: a recipe with changes to it, and a run; with completion of their names in the shell."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.values import values

if TYPE_CHECKING:
    from flows.config.every_run import RunParameters

_OF_WORLD = re.compile(r'"(runs/(world|english)/seed-([0-9]+))/')
_RECIPES = Path(__file__).parents[1] / "recipes"  # flows.config.recipes takes longer to import than a completion may


def built_in_recipes() -> list[str]:
    """The names of the built-in recipes: NAME for self-training, FLOW/NAME for the other flows."""
    found = (path.relative_to(_RECIPES).with_suffix("").as_posix() for path in _RECIPES.rglob("*.toml"))
    return sorted((name for name in found if not name.startswith("own/")), key=lambda name: ("/" in name, name))


def recipe_names(incomplete: str) -> list[str]:
    """Completions of a recipe; none for a path, which the shell completes by itself."""
    return [name for name in built_in_recipes() if name.startswith(incomplete)]


def run_names(incomplete: str) -> list[str]:
    """Completions of a run: the names of those below the current folder."""
    from flows.cli.folders import run_folders

    return sorted({path.name for path in run_folders(Path()) if path.name.startswith(incomplete)})


Recipe = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        autocompletion=recipe_names,
        show_default=False,
        help="A built-in recipe (demo, gram/demo; see `gram-r2 recipes`), a .toml file, or a folder that holds one.",
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        show_default=False,
        help="A setting by its dotted name, as if it were written in the recipe, such as labels.votes=16. Repeatable.",
    ),
]
RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        autocompletion=run_names,
        show_default=False,
        help="A run's name, its folder, or its recipe's.",
    ),
]


@dataclass(frozen=True)
class GivenRun:
    """A recipe's run with changes: its flow, the recipe's file, its configuration, and the parameters of its flow run.

    Paths in `config` hold in this process, whatever the current folder is; in `parameters` they are as the recipe has them,
    since results depend on the settings.
    """

    flow: str
    path: Path
    config: RunParameters
    parameters: Mapping[str, Any]

    @property
    def deployment(self) -> str:
        return f"{self.flow}/{self.path.stem}"


def recipe_with(recipe: str, changes: Sequence[str] | None, **others: Any) -> GivenRun:
    """A recipe's run with changes, and with `others` that are not None. Raises ConfigError or InputError."""
    from flows.config.parameters import FLOWS, BaselinesConfig
    from flows.config.recipes import (
        absolute_parameters,
        find_recipe,
        load_file,
        load_run,
        own,
        recipe_values,
        with_overrides,
    )

    flow, path = find_recipe(recipe)
    overrides = {**values(changes), **{name: value for name, value in others.items() if value is not None}}
    config = load_run(flow, path, {"overrides": overrides})
    if not own(path):
        each = config.each_seed() if isinstance(config, BaselinesConfig) else [config]
        _make_worlds(recipe_values(flow, path), [one.seed for one in each])
    written = absolute_parameters(path, {"overrides": overrides})["overrides"]
    parameters = with_overrides(load_file(flow, path).model_dump(mode="json"), written, FLOWS[flow])
    return GivenRun(flow, path, config, parameters.model_dump(mode="json"))


def _make_worlds(recipe: Mapping[str, Any], seeds: Sequence[int]) -> None:
    """Writes the pairs of a small world that a built-in recipe names, where they are not there: the demo needs nothing else.

    {seed} in a path stands for each of the run's seeds. Pairs that are of no such folder, as some of adapt/demo, are not written.
    """
    from data.english import splits as in_english
    from data.world import splits as invented
    from flows.config.recipes import checkout

    named = (json.dumps(recipe).replace("{seed}", str(seed)) for seed in seeds)
    for folder, world, seed in {found for text in named for found in _OF_WORLD.findall(text)}:
        splits = in_english if world == "english" else invented
        if not all((checkout() / folder / f"{name}.jsonl").is_file() for name in splits.SIZES):
            with contextlib.redirect_stdout(io.StringIO()):  # what a command prints may be read by a program
                splits.write_splits(checkout() / folder, int(seed), splits.SIZES)
