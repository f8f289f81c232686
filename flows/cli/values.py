"""Arguments of the form NAME=VALUE, as in ``--set labels.votes=16``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from flows.cli.errors import InputError


def pairs(texts: Sequence[str] | None) -> dict[str, str]:
    """The values by name. Raises InputError for a text without a name, ``=`` or a value."""
    found = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise InputError(f"{text!r} is not NAME=VALUE")
        found[name] = value
    return found


def values(texts: Sequence[str] | None) -> dict[str, Any]:
    """The same, each value parsed as JSON or, if it is not JSON, as the text that it is."""
    return {name: _value(text) for name, text in pairs(texts).items()}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
