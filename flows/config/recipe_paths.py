"""The paths in a recipe: which settings are paths, and how relative ones become absolute."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.sources.source import HUB
from tasks.settings.wording import Place

_FILES = {
    ("store",),
    ("data", "*", "*", "path"),
    ("task", "pairs", "*", "path"),
    ("task", "heldout", "*", "path"),
    ("benchmarks", "sets", "*", "data"),
}
_MODELS = {
    ("models", "judge_base"),
    ("models", "prover_base"),
    ("models", "trust_remote_code", "*"),  # names base models as they are named above
    ("judge", "path"),
    ("task", "prover"),
}
PATHS = _FILES | _MODELS
"""The places of all settings that may be paths; ``*`` stands for any key or number."""


def absolute_values(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A recipe's values with every relative path made absolute against `folder`.

    ``~`` and ``${VARIABLES}`` at the start, which each machine replaces by its own, hub names and URLs are left alone. A
    model is a path if it starts with ``./`` or ``../``, if it has too many slashes for a hub name, or if it is there in
    `folder`.
    """
    return {key: _absolute((key,), value, folder) for key, value in values.items()}


def absolute_overrides(overrides: Any, folder: Path) -> Any:
    """The same for overrides, whose keys are dotted. What is not a table of overrides is returned as it is."""
    if not isinstance(overrides, Mapping):
        return overrides
    return {name: _absolute(tuple(name.split(".")), value, folder) for name, value in overrides.items()}


def _absolute(place: Place, value: Any, folder: Path) -> Any:
    if isinstance(value, Mapping):
        return {key: _absolute((*place, key), one, folder) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_absolute((*place, i), one, folder) for i, one in enumerate(value)]
    if not isinstance(value, str) or not (_is_one_of(place, _FILES) or _is_one_of(place, _MODELS)):
        return value
    if not value or value.startswith(("~", "$", HUB)) or "://" in value or Path(value).is_absolute():
        return value
    if _is_one_of(place, _MODELS) and not _is_path_of_model(value, folder):
        return value
    return os.path.normpath(folder / value)


def _is_one_of(place: Place, patterns: set[tuple[str, ...]]) -> bool:
    return any(
        len(place) == len(pattern) and all(wanted in ("*", key) for wanted, key in zip(pattern, place, strict=True))
        for pattern in patterns
    )


def _is_path_of_model(value: str, folder: Path) -> bool:
    name = value.partition("@")[0]
    return value.split("/")[0] in (".", "..") or name.count("/") > 1 or (folder / value).exists()
