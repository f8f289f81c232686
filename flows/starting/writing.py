"""The recipe on disk: made of what was given and found, checked, and written with what to do next."""

from __future__ import annotations

import shlex
from pathlib import Path

from data.paths import from_home
from data.store.run_folder import wrong_run_name
from flows.config.checks import check, check_planned
from flows.config.parameters import FLOWS
from flows.config.recipe_text import shown
from flows.config.recipes import ConfigError, checked, deployment_of, recipe_files
from flows.starting.collect import Options, Person, collect
from flows.starting.conclusions import check_agreement, lacks_conclusions, with_conclusions
from flows.starting.copies import CONCLUDED, HELDOUT, LABELED, check_not_given
from flows.starting.draft import Draft
from flows.starting.recipes import draft
from flows.starting.setting_apart import must_be_set_apart, set_apart
from tasks.describe.layout import heading, paragraph


def write(folder: Path, options: Options, person: Person, force: bool = False) -> Path:
    """Writes the recipe, and says what was found and what to do next. Raises ConfigError if it cannot be written."""
    folder = Path(from_home(str(folder)))
    name = folder.absolute().name
    recipe = folder / f"{name}.toml"
    if problem := wrong_run_name(name):
        raise ConfigError(f"{folder}: the folder's name will be the run's name: {problem}")
    deployment_of(options.flow, recipe)  # refuses the name of a built-in recipe
    if recipe.exists() and not force:
        raise ConfigError(f"{shown(recipe)} exists already: give another folder, or --force to overwrite it")
    inputs = collect(name, options, person)
    check_agreement(inputs)
    divides, asking = must_be_set_apart(inputs), inputs.asking  # of the rows that were given
    if divides or lacks_conclusions(inputs):
        check_not_given(inputs, folder)
    folder.mkdir(parents=True, exist_ok=True)
    notes = []
    if divides:
        inputs = set_apart(inputs, folder)
        notes.append(
            f"{asking[0].upper()}{asking[1:]}, so pairs cannot be held out by their prompt: the labeled rows were "
            f"divided into {LABELED} and {HELDOUT} in {folder}. Later changes of the original file do not reach these copies."
        )
    if lacks_conclusions(inputs):
        inputs, n_other = with_conclusions(inputs, folder)
        left_out = f" {n_other:,} that conclude for the other response were left out." if n_other else ""
        notes.append(
            "Not all rationales end as a judge's prompt asks for, with the sentence 'So A is better.' (or B) and no tags: they "
            f"were copied to {CONCLUDED} in {folder}, and put into this form.{left_out} Read some of them."
        )
    made = draft(inputs)
    # Before the file is written: a recipe that its own flow refuses would be a mistake of ours.
    config = checked(made.values(), FLOWS[made.flow])
    recipe.write_text(made.text(folder), encoding="utf-8")
    person.tell([heading(f"Written: {shown(recipe)}"), *(paragraph(note, "  ") for note in (*notes, *made.notes))])
    try:
        # Another machine's GPUs cannot be checked here.
        (check if inputs.machine.here else check_planned)(config)
    except ConfigError as error:
        problems = [paragraph(line, "    ") for line in str(error).splitlines()]
        person.tell(["  What must be put right before it can run:", *problems])
    person.tell(_next(folder, made))
    return recipe


def _next(folder: Path, made: Draft) -> list[str]:
    typed = _typed(folder)
    commands = [("check", "what would stop it"), ("plan", "what it will cost"), ("run", "start it, or go on with it")]
    if made.flow == "benchmark":
        del commands[1]
    return [
        "  Read it, then:",
        *(f"    gram-r2 {command} {typed}".ljust(36) + f"  {what}" for command, what in commands),
    ]


def _typed(folder: Path) -> str:
    """The folder as an argument in the shell, which no command takes for a built-in recipe's name."""
    built_in = {name for flow, recipe in recipe_files() for name in (recipe.stem, f"{flow}/{recipe.stem}")}
    return shlex.quote(f"./{folder}" if str(folder) in built_in else str(folder))
