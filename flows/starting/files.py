"""A file of the user's: in which format it is read, how many pairs it holds, and how long they are.

Known formats are recognized by reading the first rows, as ``gram-r2 describe`` does; for others a column map is guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from data.records import RationalePair, pair_key
from data.sources.adapters import columns_read
from data.sources.catalog import DATASETS
from data.sources.fields import Row, outermost
from data.sources.ids import Ids
from data.sources.reading import count_source
from data.sources.rows import BrokenRow, expand_path
from data.sources.source import Source
from data.sources.sources import Dropped, Kind, read_rows, read_source
from data.sources.unread import unread_columns
from flows.config.recipes import ConfigError
from flows.starting.columns import Guess, guess_columns, has_rationale_column
from flows.starting.seen import columns_seen
from prompts.judge import COMPACT, GRAM_R2, JudgePrompt
from tasks.describe.guess import can_read, try_formats
from tasks.describe.survey import Survey, Tokens, survey
from tasks.settings.wording import in_one_line

LOOKED_AT = 5000
"""Rows of a file that are read for its counts and lengths; of a longer one, the rest is assumed to be alike."""


Given = Mapping[str, Sequence[str]]
_NOTHING: Given = {}
Ask = Callable[[str, Guess, Sequence[Any]], Given]
"""Asks the person about what a guess leaves open, given the file's name and its rows: keys and their values."""


@dataclass(frozen=True)
class Found:
    """A file as it will be read: the source, its rows, and what the first of them hold."""

    source: Source
    rows: int
    survey: Survey
    how: str
    unread: tuple[str, ...] = ()
    prompts: int = 0
    """Different prompts among the pairs that were looked at."""

    @property
    def looked_at(self) -> int:
        return min(self.rows, LOOKED_AT)

    def usable(self, kind: Kind) -> int:
        """How many pairs of a kind the whole file holds, if its rest is like what was looked at."""
        return round(self.survey.usable[kind] * self.rows / max(self.looked_at, 1))

    def malformed(self, kind: Kind) -> int:
        """How many malformed rows a run must allow for this kind: those that were seen, in proportion, doubled if projected."""
        seen = self._malformed_seen(kind)
        return seen if self.rows <= LOOKED_AT else round(2 * seen * self.rows / LOOKED_AT)

    def _malformed_seen(self, kind: Kind) -> int:
        several = self.source.model_copy(update={"limit": LOOKED_AT, "max_malformed": LOOKED_AT})
        return sum(getattr(item, "reason", "") == "malformed" for item in read_source(several, kind, seed=0))

    def argued(self) -> list[RationalePair]:
        """Its pairs with a rationale, of those looked at."""
        several = self.source.model_copy(update={"limit": LOOKED_AT, "max_malformed": LOOKED_AT})
        return [item for item in read_source(several, "rationale", seed=0) if not isinstance(item, Dropped)]

    def shaped(self, prompt: JudgePrompt) -> int:
        """How many of its rationales, of those looked at, have the form that this prompt requires."""
        found = survey(self.source.model_copy(update={"limit": LOOKED_AT}), prompt)
        return found.usable["rationale"] - found.out_of_shape.n


def find(path: str, labeled: bool, given: Given = _NOTHING, ask: Ask | None = None, format: str | None = None) -> Found:
    """The file (or folder, glob, known data set or hub:owner/name) as it can be read.

    `given` are keys of a column map with their columns and values. Raises ConfigError with the map so far if it is not
    clear how to read it, and SourceError if it cannot be read.
    """
    known = path in DATASETS
    source = Source(dataset=path) if known else Source(path=path or ".")
    if not known and source.hub_name is None:
        source = source.model_copy(update={"path": str(Path(expand_path(source.path)).absolute())})
    how = f"known data set {path}"
    if not known:
        source, how = _decided(source, path, labeled, given, ask, format)
    return _found(source, path, labeled, how)


def with_unique_ids(files: Sequence[Found]) -> list[Found]:
    """The files; one with an id that stands for another pair already is read with ids made of its rows' content."""
    if len(files) == 1 and not files[0].survey.same_ids.n:
        return [*files]
    ids, found = Ids(), []
    for one in files:
        several = one.source.model_copy(update={"limit": LOOKED_AT, "max_malformed": LOOKED_AT})
        pairs = [item for item in read_source(several, "pair", seed=0) if not isinstance(item, Dropped)]
        if any([ids.clash(pair.id, pair_key(pair)) for pair in pairs]):
            one = replace(one, source=one.source.model_copy(update={"id_from": "content"}))
        found.append(one)
    return found


def again(found: Found, path: str) -> Found:
    """Another file of the same columns."""
    source = found.source.model_copy(
        update={"path": path, "dataset": None, "subset": None, "split": "train", "revision": None}
    )
    return _found(source, path, True, found.how)


def _found(source: Source, path: str, labeled: bool, how: str) -> Found:
    found = _survey(source, GRAM_R2)
    # To count a hub data set, all of it would have to be streamed.
    rows = count_source(source) if source.hub_name is None else found.rows
    if not found.usable["pair"]:
        why = "; ".join(
            f"{each.n:,} {reason}, first {each.where}: {each.detail}" for reason, each in found.dropped.items()
        )
        raise ConfigError(f"{path}: no row is usable ({why})")
    if labeled and not found.usable["preference"]:
        raise ConfigError(f"{path}: no pair has a label: it can be given as --unlabeled")
    return Found(source, rows, found, how, tuple(unread_columns(source)), _prompts(source))


def measured(found: Found, prompt: JudgePrompt, tokens: Tokens) -> Survey:
    """The survey of a file with the lengths in a model's tokens."""
    return _survey(found.source, prompt, tokens)


def _survey(source: Source, prompt: JudgePrompt, tokens: Tokens | None = None) -> Survey:
    return survey(source.model_copy(update={"limit": LOOKED_AT}), prompt, tokens)


def _prompts(source: Source) -> int:
    several = source.model_copy(update={"limit": LOOKED_AT, "max_malformed": LOOKED_AT})
    pairs = (getattr(item, "prompt", None) for item in read_source(several, "pair", seed=0))
    return len({prompt for prompt in pairs if prompt is not None})


def _decided(
    source: Source, path: str, labeled: bool, given: Given, ask: Ask | None, format: str | None
) -> tuple[Source, str]:
    """The source with the format that reads it, and how that was found."""
    first = [raw.value for raw in islice(read_rows(source), LOOKED_AT) if not isinstance(raw.value, BrokenRow)]
    rows = [row for row in first if isinstance(row, Mapping)]
    if not rows:
        raise ConfigError(f"{path}: its rows are not objects with columns")
    python = [one.path for one in columns_seen(rows) if one.is_python_text]
    mine = _of_this_file(rows, given)
    problem = problem_with(source, format) if format is not None else ""
    why = f"the format {format} does not read it ({problem})" if problem else "no known format reads it"
    if all(key.startswith("label_") for key in mine):
        tried = _formats(source, path, format)
        lost = _lost(tried[0], rows, labeled) if tried else ""
        if tried and (format == tried[0].format or not lost):
            _check_cells(path, python, columns_read(rows[0], tried[0].format, None))
            return tried[0], f"format {tried[0].format}, which reads its first rows"
        why = f"the format {tried[0].format} reads it, but {lost}" if tried else why
    guess = guess_columns(rows, mine, labeled)
    # What a label's values mean can only be asked for when its column is known.
    while not guess.complete and (said := ask(path, guess, rows) if ask is not None else {}):
        more = {key: [*mine[key], *said[key]] for key in mine.keys() & said.keys() if key.startswith("label_")}
        mine = {**mine, **said, **more}
        guess = guess_columns(rows, mine, labeled)
    named = {str(name) for name in guess.columns.values()}
    _check_cells(path, python, named if guess.complete else python)
    if not guess.complete:
        raise ConfigError(_incomplete(f"{path}: {why}", guess, rows))
    try:
        columns = {"format": "columns", "columns": guess.columns}
        return Source.model_validate({**source.model_dump(), **columns}), "a column map, guessed from names and values"
    except ValidationError as error:
        raise ConfigError(f"{path}: {in_one_line(Source, error)}") from error


def _check_cells(path: str, python: Sequence[str], read: Collection[str]) -> None:
    """Raises ConfigError if one of the columns with Python text is read: the judge would be shown its source."""
    if shown := [name for name in python if name in read]:
        raise ConfigError(
            f"{path}: the column {shown[0]!r} has conversations written as Python text, as pandas writes them to a CSV file: "
            "write the table as .jsonl or .parquet, or JSON in its cells"
        )


def _of_this_file(rows: Sequence[Row], given: Given) -> Given:
    """What was given for these rows: the columns that they have, and all values of a label."""
    seen = {one.path for one in columns_seen(rows)}
    mine = {
        key: names if key.startswith("label_") else [name for name in names if name in seen]
        for key, names in given.items()
    }
    return {key: names for key, names in mine.items() if names}


def _formats(source: Source, path: str, format: str | None) -> list[Source]:
    """The source in the format that was given, if it reads the first rows, else in the one known format that does.

    Empty if none does. Raises ConfigError for several.
    """
    rows, tried = try_formats(source)
    can = [each.format for each in tried if can_read(each, rows)]
    if format in can:
        can = [format]
    if len(can) > 1:
        raise ConfigError(
            f"{path}: several formats read its first {rows} rows: {', '.join(can)}; choose one with --format"
        )
    return [source.model_copy(update={"format": name}) for name in can]


def problem_with(source: Source, format: str) -> str:
    """What this format says of the first row that it cannot read; empty if it reads them all."""
    return next((each.problem for each in try_formats(source)[1] if each.format == format), "")


def _lost(source: Source, rows: Sequence[Row], labeled: bool) -> str:
    """What a known format would lose of these rows, which a column map may read; empty if nothing."""
    unread = unread_columns(source)
    as_json = guess_columns(rows, labeled=False).columns.get("json_columns", [])
    if any(outermost(rows[0], name) not in unread for name in as_json):
        return "would show JSON text to the judge"
    if labeled and unread and not _has_a_label(source):
        return "finds no labels (if it has none, give it as --unlabeled)"
    if labeled and not source.has_rationales and has_rationale_column(rows, set(unread)):
        return "not its rationales"
    return ""


def _has_a_label(source: Source) -> bool:
    several = source.model_copy(update={"limit": LOOKED_AT, "max_malformed": LOOKED_AT})
    return source.has_labels and any(
        not isinstance(item, Dropped) for item in read_source(several, "preference", seed=0)
    )


def _incomplete(which: str, guess: Guess, rows: Sequence[Mapping[str, Any]]) -> str:
    """What is known of a file's columns, what is not, and the options that say it."""
    lines = [f"{which}, and its columns are not clear. They are {', '.join(map(str, rows[0]))}"]
    known = ", ".join(f"{key} = {value}" for key, value in guess.columns.items())
    lines.append(f"  known so far: {known or 'nothing'}")
    lines += [f"  missing: {what}" for what in guess.missing]
    hints = []
    if keys := [key for missing in guess.missing for key in missing.keys]:
        hints.append(" ".join(f"--columns {key}=COLUMN" for key in keys))
    if guess.unclear:
        column, (first, second) = guess.columns["label"], guess.sides
        values = ", ".join(repr(value) for value in guess.unclear)
        lines.append(f"  not clear: which response is better where {column!r} is {values}")
        hints.append(
            f"--columns label_a=VALUE for the value that means {first!r} is better, label_b=VALUE for {second!r}, "
            "label_tie=VALUE for neither"
        )
    return "\n".join([*lines, *(f"  say it with {hint}" for hint in hints)])


def shapes(files: Sequence[Found]) -> dict[str, int]:
    """How many of some files' rationales have the form of each prompt with a rationale."""
    return {prompt.name: sum(found.shaped(prompt) for found in files) for prompt in (GRAM_R2, COMPACT)}
