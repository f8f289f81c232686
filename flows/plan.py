"""What a self-training will cost, before it is started: ``python -m flows.plan RECIPE``.

From a sample of the recipe's own data, the base models' tokenizers and their configs; no weights are read, and no GPU is
needed. ``--like runs/demo`` takes rates and shares from a run that is there.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.files import write_json
from data.sources import SourceError
from data.store import RunStore
from flows.config import ConfigError, load_recipe, load_recipe_of, recipe_files, with_overrides
from flows.parameters import GramConfig, RunParameters, SelfTrainConfig
from tasks.chat import ChatTemplateError
from tasks.plan.assumptions import Assumptions, PlanError, assume, rates_of
from tasks.plan.measured import measured_in
from tasks.plan.plan import PLAN, Plan, plan_self_training, roles
from tasks.plan.sample import sample_sources
from tasks.plan.show import as_text
from tasks.plan.sizes import locate
from tasks.settings import Settings

BAD_INPUT = 2
SAMPLE = 500


def plan_settings(
    settings: Settings,
    run_name: str,
    assumptions: Assumptions | None = None,
    stand_ins: Mapping[str, str] = {},
    data_stand_ins: Mapping[str, str] = {},
    n: int = SAMPLE,
) -> Plan:
    """The plan of a run with these settings, from the first `n` rows of each of its sources.

    `stand_ins` maps a base model to a folder, `data_stand_ins` a part of the data to a file. Raises PlanError for what
    cannot be had.
    """
    assumptions = assumptions or assume(rates_of(settings.models.dtype))
    located = {role: locate(model, stand_ins) for role, model in roles(settings).items()}
    unused = stand_ins.keys() - {one.model for one in located.values()}
    if unused:
        raise PlanError(f"no model of this recipe is called {', '.join(sorted(unused))}")
    sample = sample_sources(settings.data, settings.benchmarks.sets, data_stand_ins, assumptions.values, n)
    return plan_self_training(settings, run_name, sample, located, assumptions)


def write_plan(config: RunParameters, settings: Settings) -> tuple[Plan, str]:
    """Plans, and writes ``plan.json`` into the run folder, which may be the first thing there; where it is now."""
    plan, store = plan_settings(settings, config.run_name), RunStore(config.store, config.run_name)
    path = store.path / PLAN
    write_json(path, plan.to_json())
    store.share(path)
    return plan, store.shown(path)


# ---- the command line -----------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the plan. Returns 2, with a message, where the run cannot be planned."""
    options = _parser().parse_args(arguments)
    try:
        plan = _plan(options)
    except (PlanError, ConfigError, SourceError, ChatTemplateError) as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    print(json.dumps(plan.to_json(), indent=1) if options.json else as_text(plan), end="\n" if options.json else "")
    return 0


def _plan(options: argparse.Namespace) -> Plan:
    overrides = {name: _value(text) for name, text in _pairs(options.set).items()}
    config = _recipe(options.recipe, overrides)
    settings = config.settings()
    layers: list[tuple[str, Mapping[str, Any]]] = [rates_of(settings.models.dtype)]
    notes: list[str] = []
    if options.like:
        measured, notes = measured_in(options.like, settings)
        layers.append((f"measured in {options.like}", measured))
    if options.rates:
        layers.append((f"given in {options.rates}", _read_rates(options.rates)))
    layers.append(("given", {name: _value(text) for name, text in _pairs(options.assume).items()}))
    stand_ins, data_stand_ins = _pairs(options.stand_in), _pairs(options.data_stand_in)
    plan = plan_settings(settings, config.run_name, assume(*layers), stand_ins, data_stand_ins, options.sample)
    return plan.noting(notes)


def _recipe(name: str, overrides: Mapping[str, Any]) -> SelfTrainConfig | GramConfig:
    """A recipe of self-training, or one of GRAM: ``gram/NAME``, or NAME where self-training has none of that name."""
    flow, _, own = name.rpartition("/")
    known = {(kind, path.stem) for kind, path in recipe_files()}
    if not flow and ("self-train", own) not in known and ("gram", own) in known:
        flow = "gram"
    if flow not in ("", "self-train", "gram"):
        raise ConfigError(f"{name}: recipes of {flow} cannot be planned; those of self-train and gram can")
    if flow == "gram":
        return with_overrides(load_recipe_of("gram", own).model_dump(mode="json"), overrides, GramConfig)
    return with_overrides(load_recipe(own).model_dump(mode="json"), overrides)


def _read_rates(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PlanError(f"{path} cannot be read as TOML, such as judge_training = 9000: {error}") from error


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE each."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise PlanError(f"{text!r} is not NAME=VALUE")
        found[name] = value
    return found


def _value(text: str) -> Any:
    """JSON where it is, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flows.plan", description=__doc__)
    parser.add_argument(
        "recipe", help="a recipe of self-train, such as llama-3.1-8b, or of gram, such as gram-qwen3-1.7b"
    )
    for option, metavar, text in (
        ("--set", "KEY=VALUE", "a setting by its dotted name, such as labels.votes=16"),
        ("--assume", "NAME=VALUE", "an assumption, such as kept_labels=0.6 or rows_labeled=77000"),
        ("--stand-in", "MODEL=FOLDER", "a folder with config.json and tokenizer, in the place of a base model"),
        (
            "--data-stand-in",
            "PART=FILE",
            "own records in the place of rationale, labeled, unlabeled, heldout, or a set",
        ),
    ):
        parser.add_argument(option, action="append", default=[], metavar=metavar, help=text + "; may be repeated")
    parser.add_argument(
        "--rates",
        type=Path,
        metavar="FILE",
        help="TOML with tokens/s of one GPU: judge_training, judge_generation, prover_training, prover_generation",
    )
    parser.add_argument("--like", type=Path, metavar="RUN", help="the folder of a run whose figures are assumed")
    parser.add_argument("--sample", type=_positive, default=SAMPLE, help=f"rows a source; default: {SAMPLE}")
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    return parser


if __name__ == "__main__":
    sys.exit(main())
