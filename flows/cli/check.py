"""``gram-r2 check``: what would stop a run, before anything is spent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

import typer

from flows.cli.errors import BAD_INPUT, command
from flows.cli.given import Changes, GivenRun, Recipe, recipe_with

if TYPE_CHECKING:
    from flows.config.findings import Finding

_LABELS = {
    "ok": ("ok", "green"),
    "note": ("note", "cyan"),
    "problem": ("PROBLEM", "bold red"),
    "here": ("HERE", "yellow"),
}


@command
def check(recipe: Recipe, changes: Changes = None) -> None:
    """Check that a recipe can be run: its settings, data, models and this machine. Nothing is started.

    Prints a line for each finding: ok, a note, a PROBLEM, or what would stop
    the run HERE, as this machine lacks a GPU or a package that another one may
    have. A run makes the same checks before it starts. Exits with 2 if anything
    would stop it.

    Examples:
      gram-r2 check my-run/
      gram-r2 check llama-3.2-3b --set labels.votes=16
    """
    from rich.console import Console

    from flows.config.findings import findings
    from flows.config.recipe_text import shown

    given = recipe_with(recipe, changes)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{shown(given.path)}: {given.flow}, run {given.config.run_name!r}", markup=False)
    found = []
    for one in chain(findings(given.config), refused(given)):
        found.append(one)
        label, style = _LABELS[one.kind]
        console.print(f"{label:<8}", style=style, end="")
        console.print(one.line, markup=False)
    console.print(verdict(found), markup=False)
    if any(one.stops for one in found):
        raise typer.Exit(BAD_INPUT)


def refused(given: GivenRun) -> Iterator[Finding]:
    """Whether a start would be refused: by the name of the recipe, or as the run is finished and was made otherwise."""
    from flows.config.findings import Finding
    from flows.config.recipes import ConfigError, deployment_of
    from flows.running.refusal import refusal

    try:
        deployment_of(given.flow, given.path)
    except ConfigError as error:
        yield Finding("problem", str(error))
    if problem := refusal(given.flow, given.parameters):
        yield Finding("problem", problem)


def verdict(found: Iterable[Finding]) -> str:
    """The last line: what all of the findings mean."""
    kinds = Counter(one.kind for one in found)
    problems, here = (f"{n} problem{'s' if n > 1 else ''}" if n else "" for n in (kinds["problem"], kinds["here"]))
    if problems and here:
        return f"{problems} would stop this run on any machine, {here} only on this one."
    if here:
        return f"{here} would stop this run on this machine; another one may have what it lacks."
    return f"{problems} would stop this run." if problems else "Nothing would stop this run."
