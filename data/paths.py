"""Paths as a user writes them, with ``~`` and ``${VARIABLES}``, which each machine replaces by its own."""

from __future__ import annotations

import os
import re
from pathlib import Path

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))")


class PathError(ValueError):
    """A path that means nothing on this machine: why, and what to do."""


def expanded(path: str) -> str:
    """A path, URL or name in a recipe with ``~`` and environment variables replaced; any other is returned as it is.

    Raises PathError for an unset variable, and as `from_home` does.
    """

    def value_of(match: re.Match[str]) -> str:
        name = match.group(1) or match.group(2)
        if name not in os.environ:
            raise PathError(
                f"path {path!r}: the environment variable {name} is not set; set it, or write the full path"
            )
        return os.environ[name]

    return from_home(_VARIABLE.sub(value_of, path))


def from_home(path: str) -> str:
    """A path of the command line, where the shell replaces variables, with ``~`` replaced.

    Raises PathError if there is no such user.
    """
    home, slash, rest = path.partition("/")
    if not home.startswith("~"):
        return path
    try:
        return f"{Path(home).expanduser()}{slash}{rest}"
    except RuntimeError as error:
        why = f"there is no user {home[1:]!r} on this machine" if home[1:] else "your home folder is not known"
        raise PathError(f"path {path!r}: {why}; write the full path") from error
