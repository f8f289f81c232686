"""From what a person gave, and is asked for, to the inputs of a recipe."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from data.sources.columns import ColumnMap
from flows.config.recipes import ConfigError
from flows.starting.columns import Guess
from flows.starting.files import Found, Given, find, problem_with, with_unique_ids
from flows.starting.inputs import Flow, Inputs
from flows.starting.models import BaseModel, look_at, this_machine
from flows.starting.showing import as_found
from tasks.describe.guess import FORMATS


@dataclass(frozen=True)
class Options:
    """The options of ``gram-r2 init`` as they were given; None or empty is not given."""

    flow: Flow = "self-train"
    labeled: tuple[str, ...] = ()
    unlabeled: str | None = None
    rationale: str | None = None
    heldout: str | None = None
    judge: str | None = None
    prover: str | None = None
    gpus: int | None = None
    columns: tuple[str, ...] = ()
    format: str | None = None


class Person(Protocol):
    """Who is asked for what was not given, and told what was found. `asks` is False where no one can be asked."""

    asks: bool

    def ask(self, question: str, default: str | None) -> str | None:
        """The answer; the default for none, and where no one can be asked."""

    def ask_columns(self, path: str, guess: Guess, rows: Sequence[Any]) -> Given:
        """What a guess leaves open; empty where no one can be asked."""

    def tell(self, lines: Sequence[str]) -> None:
        """Says what was found."""


_JUDGES = ((8, "meta-llama/Llama-3.1-8B-Instruct"), (1, "meta-llama/Llama-3.2-3B-Instruct"))
_SMALL = "HuggingFaceTB/SmolLM2-135M-Instruct"


_READ: Mapping[Flow, Sequence[str]] = {
    "self-train": ("unlabeled", "rationale", "heldout"),
    "gram": ("unlabeled", "heldout"),
    "adapt": ("heldout",),
    "benchmark": (),
}
"""The files that a flow reads besides the labeled pairs."""
_ASKED = {
    "unlabeled": "Unlabeled pairs (file; empty: none)",
    "rationale": "Pairs with a label and a rationale (file; empty: none)",
    "heldout": "Labeled pairs only for measuring (file; empty: a share of the labeled ones)",
}


def collect(name: str, options: Options, person: Person) -> Inputs:
    """Asks for what is missing, reads the files and looks at the models. Raises ConfigError for what cannot be used."""
    given = given_columns(options.columns)
    _check_used(options)
    _check_name(options.format)

    files: list[Found] = []

    def file(what: str, path: str, labeled: bool) -> Found:
        [found] = with_unique_ids([find(path, labeled, given, person.ask_columns, options.format)])
        files.append(found)
        person.tell(as_found(what, path, found))
        return found

    paths = options.labeled or _split(person.ask("Labeled pairs (file)", None))
    if not paths:
        raise ConfigError("--labeled FILE is needed: pairs of which it is known which response is better")
    labeled = with_unique_ids([file("labeled", path, True) for path in paths])
    argued = tuple(found for found in labeled if found.usable("rationale"))
    more: dict[str, Any] = {}
    for what in _READ[options.flow]:
        if what == "rationale" and options.rationale is None and argued:
            more[what] = argued
            continue
        path = getattr(options, what) or person.ask(_ASKED[what], "")
        found = file(what, path, what != "unlabeled") if path else None
        if found and path and what == "rationale":
            _check_argued(path, found)
        more[what] = found if what != "rationale" else (found,) if found else ()
    machine = this_machine(_gpus(options, person))
    judge = _judge(options, person, machine.gpus)
    prover = _prover(options, person, judge, bool(more.get("rationale")))
    _check_columns(given, files)
    _check_format(options.format, files)
    return Inputs(name, options.flow, tuple(labeled), judge, machine, prover=prover, **more)


def _split(text: str | None) -> tuple[str, ...]:
    return (text,) if text else ()


def _check_used(options: Options) -> None:
    """Raises ConfigError for a file that the flow does not read."""
    for what in ("unlabeled", "rationale", "heldout"):
        if getattr(options, what) and what not in _READ[options.flow]:
            raise ConfigError(f"--{what}: the flow {options.flow} does not read it: leave it out")
    if options.prover and options.flow not in ("self-train", "adapt"):
        raise ConfigError(f"--prover: the flow {options.flow} has none: leave it out")
    if options.flow == "benchmark" and len(options.labeled) > 1:
        raise ConfigError("--labeled: give one file for the flow benchmark, and add more sets to its recipe")


def _check_argued(path: str, found: Found) -> None:
    """Raises ConfigError if a file that was given for its rationales has none that can be used."""
    if not found.source.has_rationales:
        raise ConfigError(f"{path}: no column has rationales: name it with --columns rationale=COLUMN")
    if not found.usable("rationale"):
        first = found.survey.no_rationale
        raise ConfigError(f"{path}: no rationale can be used; the first: {first.where}: {first.detail}")


def _check_columns(given: Given, files: Sequence[Found]) -> None:
    """Raises ConfigError for a column that was given, and that no file's map has."""
    maps = [found.source.columns for found in files if found.source.columns]
    for key, names in given.items():
        if key.startswith("label_"):
            if not any(one.labels for one in maps):
                raise ConfigError(f"--columns {key}={names[0]}: no file is read with a label column: add label=COLUMN")
            continue
        for name in names:
            if not any(getattr(one, key) == name for one in maps):
                raise ConfigError(f"--columns {key}={name}: no file has the column {name!r}")


def _check_name(format: str | None) -> None:
    if format is not None and format not in FORMATS:
        near = difflib.get_close_matches(format, FORMATS, n=1)
        hint = (
            f"did you mean {near[0]}?" if near else f"the formats are {', '.join(FORMATS)}; for others, give --columns"
        )
        raise ConfigError(f"--format {format}: there is no such format; {hint}")


def _check_format(format: str | None, files: Sequence[Found]) -> None:
    """Raises ConfigError for a format that was given, and that no file is read in."""
    if format is not None and all(found.source.format != format for found in files):
        first = files[0]
        why = problem_with(first.source, format) or "its columns were given"
        raise ConfigError(
            f"--format {format}: {first.source.path} is read by {first.how} instead ({why}): leave it out"
        )


def _gpus(options: Options, person: Person) -> int | None:
    if options.gpus is not None:
        return options.gpus
    here = this_machine(None).gpus
    answer = person.ask("GPUs of the machine that will run it", str(here)) or str(here)
    if not answer.isdecimal():
        raise ConfigError(f"the number of GPUs must be 0 or more, got {answer!r}")
    return int(answer)


def _judge(options: Options, person: Person, gpus: int) -> BaseModel:
    existing = options.flow in ("adapt", "benchmark")
    usual = None if existing else next((name for n, name in _JUDGES if gpus >= n), _SMALL)
    what = "The judge (folder or hub name)" if existing else "Base model of the judge (folder or hub name)"
    name = options.judge or (person.ask(what, usual) if person.asks else None)
    if not name:
        such = "the judge" if existing else f"its base model, such as {usual}"
        raise ConfigError(f"--judge MODEL is needed: the folder or hub name of {such}")
    return look_at(name)


def _prover(options: Options, person: Person, judge: BaseModel, rationales: bool) -> BaseModel | None:
    if options.flow == "self-train" and rationales:
        name = options.prover or person.ask("Base model of the prover, which writes rationales", judge.name)
        return look_at(name) if name and name != judge.name else None
    return look_at(options.prover) if options.prover else None


def given_columns(texts: Sequence[str]) -> dict[str, list[str]]:
    """Options KEY=COLUMN or label_a=VALUE, or a map as JSON as ``gram-r2 describe`` takes it, by key.

    Raises ConfigError for a key that a column map does not have.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        for key, name in _as_json(text) if text.lstrip().startswith("{") else [text.partition("=")[::2]]:
            if key not in ColumnMap.model_fields or not name:
                keys = ", ".join(ColumnMap.model_fields)
                raise ConfigError(
                    f"--columns {text}: must be KEY=COLUMN, or label_a=VALUE, with one of the keys {keys}"
                )
            found.setdefault(key, []).append(name)
    return found


def _as_json(text: str) -> list[tuple[str, str]]:
    try:
        given = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"--columns {text}: is not JSON ({error})") from error
    several = [key for key, value in given.items() if isinstance(value, list) and not key.startswith("label_")]
    if several:
        raise ConfigError(f"--columns {text}: {several[0]}: must be one column; write the others into the recipe")
    return [(key, str(one)) for key, value in given.items() for one in (value if isinstance(value, list) else [value])]
