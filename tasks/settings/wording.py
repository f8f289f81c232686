"""What is wrong with settings, one line per value: its dotted name, what was got, the rule, and the nearest right name."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from data.sources.source import Source
from tasks.settings.benchmarks import BenchmarkSet
from tasks.settings.section import NAME

Place = tuple[str | int, ...]
_LONGEST, _CLOSE, _BEGINNING = 80, 0.7, 3
_PLURALS = {Source: "sources", BenchmarkSet: "sets", str: "texts", int: "whole numbers"}


def complaints(kind: type[BaseModel], error: ValidationError, called: str = "setting") -> list[tuple[Place, str]]:
    """The place of every invalid value, and the line that says what is wrong with it. `called` is what a value is called."""
    found: dict[Place, str] = {}
    for one in _told_apart(error.errors()):
        place = _place_in(kind, one["loc"])
        found.setdefault(place, _line(kind, place, one, called))
    return list(found.items())


def truth_for_number(kind: Any, value: Any, place: Place = ()) -> Iterator[tuple[Place, str]]:
    """The place of every true or false that stands for a number, which pydantic would read as 1 or 0, and the line for it."""
    annotation = annotation_at(kind, place)
    types = set(_inner(annotation))
    if isinstance(value, bool) and bool not in types and types & {int, float}:
        yield place, f"{dotted(place)}: must be {kind_of_value(annotation)}, got {value!r}"
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from truth_for_number(kind, inner, (*place, key))


def in_one_line(kind: type[BaseModel], error: ValidationError) -> str:
    """What is wrong with the options of a command, which are checked as `kind`."""
    return "; ".join(line for _, line in complaints(kind, error))


def unknown_setting(kind: type[BaseModel], place: Place, called: str = "setting") -> str:
    """The line for a place that no setting has: the nearest right name, or the names that there are."""
    wrong = next(n for n in range(len(place)) if annotation_at(kind, place[: n + 1]) is None or n == len(place) - 1)
    section, before, after = model_at(kind, place[:wrong]), place[:wrong], place[wrong + 1 :]
    known = {dotted((*before, one, *after)): one for one in (section.model_fields if section is not None else ())}
    others = {f"{one}.{inner}": inner for one in kind.model_fields for inner in _names_in(kind, one)}
    near = _nearest(str(place[wrong]), known) or _nearest(str(place[-1]), others)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known.values())}"
    return f"{dotted(place) or repr('')}: no such {called}; {hint}"


def _nearest(name: str, known: Mapping[str, str]) -> list[str]:
    """The dotted names whose last part is closest to a name, or begins with it; none if no part is close."""
    lower, name = {last.lower(): last for last in known.values()}, name.strip().lower()
    close = difflib.get_close_matches(name, lower, n=1, cutoff=_CLOSE)
    close = close or [last for last in lower if last.startswith(name) and len(name) >= _BEGINNING]
    return [one for one, last in known.items() if last.lower() in close]


def _names_in(kind: type[BaseModel], section: str) -> list[str]:
    model = model_at(kind, (section,))
    return list(model.model_fields) if model is not None else []


def dotted(place: Place) -> str:
    return ".".join(map(str, place))


def _told_apart(errors: Sequence[ErrorDetails]) -> Iterator[ErrorDetails]:
    """Without those that only follow from another: a list whose only element is invalid also counts as empty."""
    for one in errors:
        if not any(len(o["loc"]) > len(one["loc"]) and o["loc"][: len(one["loc"])] == one["loc"] for o in errors):
            yield one


def _line(kind: type[BaseModel], place: Place, error: ErrorDetails, called: str) -> str:
    name, given, rule = dotted(place), error["input"], error["type"]
    if rule == "extra_forbidden":
        return unknown_setting(kind, place, called)
    if rule == "missing":
        return f"{name}: is required{_meaning(kind, place)}"
    if rule == "value_error":
        return _with_place(kind, place, str(error["ctx"]["error"]))
    return f"{name}: {_rule(kind, place, error)}, got {_shown(given)}"


def _with_place(kind: type[BaseModel], place: Place, message: str) -> str:
    """A rule of a section: it names its settings itself, with the dotted name or within the section."""
    section, first = model_at(kind, place), message.split(" ", 1)[0].rstrip(":,")
    if not place:
        return message
    if section is None:
        return f"{dotted(place)}: {message}"
    return f"{dotted(place)}.{message}" if first in section.model_fields else f"{dotted(place)}: {message}"


_LIMITS = {
    "greater_than": ("gt", "must be above"),
    "greater_than_equal": ("ge", "must be at least"),
    "less_than": ("lt", "must be below"),
    "less_than_equal": ("le", "must be at most"),
    "multiple_of": ("multiple_of", "must be a multiple of"),
}


def _rule(kind: type[BaseModel], place: Place, error: ErrorDetails) -> str:
    rule, context = error["type"], error.get("ctx", {})
    if rule in _LIMITS:
        name, words = _LIMITS[rule]
        return f"{words} {context[name]:g}"
    if rule == "literal_error":
        return f"must be one of {context['expected'].replace(chr(39), '').replace(' or ', ', ')}{_near(error)}"
    if rule == "string_pattern_mismatch":
        if context["pattern"] == NAME:
            return "must be up to 100 letters, digits, dots, dashes and underscores, starting with a letter or digit"
        return f"must match {context['pattern']}"
    if rule == "finite_number":
        return "must be a finite number"
    if rule in ("too_short", "string_too_short"):
        return "must not be empty" if context["min_length"] == 1 else f"needs at least {context['min_length']}"
    return f"must be {kind_of_value(annotation_at(kind, place))}"


def _near(error: ErrorDetails) -> str:
    known = [one.strip(" '") for one in error["ctx"]["expected"].replace(" or ", ", ").split(",")]
    near = difflib.get_close_matches(str(error["input"]), known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


# ---- what the places of a configuration hold -----------------------------------------------------------------------------


def kind_of_value(annotation: Any) -> str:
    """What a value of this type is, in a recipe's words: "a whole number", "a list of sources"."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is typing.Annotated:
        return kind_of_value(arguments[0])
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(kind_of_value(one) for one in arguments if one is not type(None)))
    if origin in (tuple, list):
        item = next(one for one in _inner(arguments[0]) if get_origin(one) is not typing.Annotated)  # not hashable
        return f"a list of {_PLURALS.get(item) or 'items, each ' + kind_of_value(item)}"
    if origin is dict or origin is Mapping:
        return f"a table whose values are each {kind_of_value(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"a table with keys such as {', '.join(list(annotation.model_fields)[:3])}"
    return {int: "a whole number", float: "a number", str: "text", bool: "true or false"}.get(annotation, "valid")


def _inner(annotation: Any) -> Iterator[Any]:
    """The type itself and, for an optional or annotated one, what it can be."""
    yield annotation
    if get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        for one in get_args(annotation):
            yield from _inner(one)


def _step(annotation: Any, key: str | int) -> Any:
    """The type of what is under a key, or None if nothing can be there."""
    for one in _inner(annotation):
        if isinstance(one, type) and issubclass(one, BaseModel) and key in one.model_fields:
            return one.model_fields[str(key)].rebuild_annotation()
        if get_origin(one) in (tuple, list) and isinstance(key, int):
            return get_args(one)[0]
        if get_origin(one) is dict and isinstance(key, str):
            return get_args(one)[1]
    return None


def annotation_at(kind: Any, place: Place) -> Any:
    """The type of what is at a place, or None if nothing can be there."""
    for key in place:
        kind = _step(kind, key)
    return kind


def model_at(kind: Any, place: Place) -> type[BaseModel] | None:
    """The section at a place, or None if there is none."""
    found = (one for one in _inner(annotation_at(kind, place)) if isinstance(one, type) and issubclass(one, BaseModel))
    return next(found, None)


def may_have_keys(kind: Any, place: Place) -> bool:
    """Whether a place holds a section, or a table with keys of the user's own."""
    return model_at(kind, place) is not None or get_origin(annotation_at(kind, place)) is dict


def _place_in(kind: Any, place: Place) -> Place:
    """A place without the names of a union's members, which pydantic appends."""
    for depth in range(len(place)):
        if annotation_at(kind, place[: depth + 1]) is None:
            is_unknown_setting = model_at(kind, place[:depth]) is not None
            return place[: depth + 1] if is_unknown_setting else place[:depth]
    return place


def _meaning(kind: type[BaseModel], place: Place) -> str:
    section = model_at(kind, place[:-1])
    field = section.model_fields.get(str(place[-1])) if section is not None else None
    return f": {field.description}" if field is not None and field.description else ""
