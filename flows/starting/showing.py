"""What a guess came to, as text: a person must see a mistake before a run is built on it."""

from __future__ import annotations

from collections.abc import Iterator

from data.sources.columns import ColumnMap
from data.sources.sources import Kind
from data.sources.unread import named_unread_files
from flows.starting.files import Found
from prompts.template import render_conversation
from tasks.describe.layout import heading, named, quoted, shortened
from tasks.describe.survey import NO_TEXT, Example, Survey

_COLUMN = 16
_LONGEST = 240
_WITHOUT_PLACES = (
    "which response is A is drawn: a rationale may say 'the chosen response', but one that names a position of its own, such as "
    "Response A, is left out"
)


def as_found(what: str, path: str, found: Found) -> list[str]:
    """How a file is read, and its first usable pair as it was read."""
    kind: Kind = "pair" if what == "unlabeled" else "preference"
    lines = [heading(f"{what}: {path}"), named("read as", found.how, _COLUMN)]
    columns = found.source.columns
    if columns is not None:
        lines += [named(key, text, _COLUMN) for key, text in _columns(columns, what)]
    if found.unread:
        lines.append(named("not read", ", ".join(found.unread), _COLUMN))
    if files := named_unread_files(found.source):
        lines.append(named("not read", f"the files {files}", _COLUMN))
    about = "" if found.rows == found.looked_at else f" (projected from the first {found.looked_at:,})"
    if found.source.hub_name is not None and found.rows == found.looked_at:
        about = " (of the rows that were looked at: there may be more)"
    usable = f"{found.rows:,} rows, {found.usable(kind):,} usable{about}"
    if what in ("labeled", "rationale") and found.source.has_rationales:
        usable += f", {found.usable('rationale'):,} of them with a rationale"
    lines.append(named("rows", usable, _COLUMN))
    lacking = found.survey.no_rationale
    if lacking.n and lacking.detail != NO_TEXT and what in ("labeled", "rationale"):
        first = f"{lacking.where.rsplit('/', 1)[-1]}: {lacking.detail}"
        lines.append(named("no rationale", f"{lacking.n:,} pairs; the first: {first}", _COLUMN))
    if what in ("labeled", "rationale") and columns is not None and columns.rationale and columns.chosen:
        lines.append(named("note", _WITHOUT_PLACES, _COLUMN))
    lines += [named("dropped", why, _COLUMN) for why in _dropped(found.survey, labeled=what != "unlabeled")]
    if found.survey.examples:
        lines += ["  The first pair as it was read:", quoted(_example(found.survey.examples[0], what))]
    return lines


def _dropped(found: Survey, labeled: bool) -> Iterator[str]:
    """Why rows are not usable: how many of each reason, and where the first is, if that is known."""
    more = {"repeating an earlier pair": found.duplicates}
    if labeled:
        more["with the label opposite to that of an earlier pair"] = found.conflicts
    for reason, each in (found.dropped | more).items():
        if each.n:
            detail = f": {each.detail}" if each.detail else ""
            yield f"{each.n:,} {reason}; the first: {each.where.rsplit('/', 1)[-1]}{detail}"
    for label, what in (("tie", "tied"), ("none", "without a label")):
        if labeled and found.labels[label]:
            yield f"{found.labels[label]:,} {what}"


def _columns(columns: ColumnMap, what: str) -> Iterator[tuple[str, str]]:
    values = {"label_a": "A is better where it is", "label_b": "B where it is", "label_tie": "tie where it is"}
    for key, name in columns.model_dump(exclude_defaults=True).items():
        if key not in values and key != "json_columns" and not (what == "unlabeled" and key in ("label", "rationale")):
            extra = ""
            if key == "label" and what != "unlabeled":
                meant = [(text, getattr(columns, label)) for label, text in values.items()]
                extra = ": " + ", ".join(f"{text} {' or '.join(map(repr, found))}" for text, found in meant if found)
            elif key == "score_a":
                extra = " (the higher score is better)"
            yield key, f"{name}{extra}"


def _example(example: Example, what: str) -> str:
    pair = example.pair
    parts = [("prompt", render_conversation(pair.prompt)), ("A", pair.response_a), ("B", pair.response_b)]
    if what != "unlabeled":
        parts.append(("better", example.label or "neither"))
        if example.rationale:
            parts.append(("rationale", example.rationale))
    return "\n".join(f"{name}: {shortened(text, _LONGEST)}" for name, text in parts)
