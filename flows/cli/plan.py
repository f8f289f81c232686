"""``gram-r2 plan``: what a run will cost, before it starts."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.errors import BAD_INPUT, InputError, command
from flows.cli.given import Changes, Recipe, recipe_with
from flows.cli.values import pairs, values

if TYPE_CHECKING:
    from flows.config.every_run import PlannedParameters

SAMPLE = 500


@command
def plan(
    recipe: Recipe,
    changes: Changes = None,
    assume: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="An assumption, such as rows_labeled=77000. Repeatable."),
    ] = None,
    like: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Folder of an earlier run, whose rates and shares are assumed.")
    ] = None,
    rates: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="TOML with tokens/s of one GPU: judge_training, judge_generation, prover_training, prover_generation.",
        ),
    ] = None,
    stand_in: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL=FOLDER",
            help="A folder with config.json and tokenizer, used in place of a base model. Repeatable.",
        ),
    ] = None,
    data_stand_in: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PART=FILE",
            help="A file of your own records, used in place of rationale, labeled, unlabeled, heldout, calibration, or a set. "
            "Repeatable.",
        ),
    ] = None,
    sample: Annotated[int, typer.Option(min=1, help="Rows to sample from each source.")] = SAMPLE,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Estimate what a run will cost: rows, tokens, GPU time and disk of every stage. Nothing is started.

    Needs the recipe's data, of which it reads a sample, and the base models'
    tokenizers and configs. No weights are read, and no GPU is needed.
    Exits with 2 if the run cannot be planned, or would stop.

    Examples:
      gram-r2 plan llama-3.1-8b
      gram-r2 plan llama-3.1-8b --set labels.votes=16 --assume kept_labels=0.5
      gram-r2 plan my-run/ --like runs/demo
    """
    from flows.config.checks import check_planned
    from flows.plan import plan_target, target_of
    from tasks.plan.assumptions import assume as assumed
    from tasks.plan.assumptions import rates_of
    from tasks.plan.measured import measured_in
    from tasks.plan.show import as_text
    from tasks.plan.sizes import locate

    config = _planned(recipe, changes)
    stand_ins, data_stand_ins = pairs(stand_in), pairs(data_stand_in)
    target = target_of(config, stand_ins)
    for model in target.models.values():
        locate(model, stand_ins)
    check_planned(config, stand_ins)
    layers: list[tuple[str, Mapping[str, Any]]] = [rates_of(target.settings.models.dtype)]
    notes: list[str] = []
    if like:
        measured, notes = measured_in(like, target.settings)
        layers.append((f"measured in {like}", measured))
    if rates:
        layers.append((f"given in {rates}", _read_rates(rates)))
    layers.append(("given", values(assume)))
    found = plan_target(target, assumed(*layers), stand_ins, data_stand_ins, sample).noting(notes)
    print(json.dumps(found.to_json(), indent=1) if as_json else as_text(found), end="\n" if as_json else "")
    if found.stops:
        raise typer.Exit(BAD_INPUT)


def _planned(recipe: str, changes: Sequence[str] | None) -> PlannedParameters:
    """A recipe with changes. Raises ConfigError, and InputError if recipes of its flow cannot be planned."""
    from flows.config.every_run import PlannedParameters
    from flows.config.parameters import FLOWS

    given = recipe_with(recipe, changes)
    if not isinstance(given.config, PlannedParameters):
        planned = ", ".join(name for name, kind in FLOWS.items() if issubclass(kind, PlannedParameters))
        raise InputError(f"{recipe}: recipes of {given.flow} cannot be planned; those of {planned} can")
    return given.config


def _read_rates(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as TOML with lines such as judge_training = 9000: {error}") from error
