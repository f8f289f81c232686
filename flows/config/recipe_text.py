"""The text of a recipe's file: TOML in UTF-8. What is wrong with it is said with the file and the line."""

from __future__ import annotations

import codecs
import re
import tomllib
from pathlib import Path
from typing import Any

_AT = re.compile(r"(?P<what>.*) \(at (?:line (?P<line>\d+), column \d+|end of document)\)")
_TABLE = re.compile(r"\s*(?P<list>\[)?\[\s*(?P<name>[^\[\]]+?)\s*\]")
_KEY = re.compile(r"\s*(?P<name>[\w.\"'-]+)\s*=")


class RecipeTextError(ValueError):
    """A file that is not a recipe's text: names the file and the line."""


def shown(path: Path) -> str:
    """A path as a person would write it: relative to the current folder if it is inside."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def read_text(path: Path) -> str:
    """The file's text, without a byte-order mark. Raises RecipeTextError if it cannot be read as UTF-8."""
    try:
        content = path.read_bytes()
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise RecipeTextError(f"{shown(path)}, line 1: the file is UTF-16 text; save it as UTF-8")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, byte = error.object.count(b"\n", 0, error.start) + 1, error.object[error.start]
        raise RecipeTextError(
            f"{shown(path)}, line {line}: is not UTF-8 text (byte 0x{byte:02x}); save the file as UTF-8"
        ) from error
    except OSError as error:
        raise RecipeTextError(f"{shown(path)}: cannot be read ({error.strerror})") from error


def values_in(path: Path, text: str) -> dict[str, Any]:
    """The values of a recipe's text. Raises RecipeTextError if it is not TOML."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = _AT.fullmatch(str(error))
        line = (at and at["line"]) or len(text.splitlines())
        raise RecipeTextError(f"{shown(path)}, line {line}: is not TOML ({at['what'] if at else error})") from error


def line_of(text: str, place: tuple[str | int, ...]) -> int | None:
    """The line that gives the value at a place or, inside an inline table or list, the line where that begins."""
    names = tuple(key for key in place if isinstance(key, str))
    best, depth = None, 0
    table: tuple[str | int, ...] = ()
    lists: dict[tuple[str | int, ...], int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        found: tuple[str | int, ...]
        if header := _TABLE.match(line):
            found = table = _parts(header["name"])
            if header["list"]:
                lists[found] = lists.get(found, -1) + 1
                found = table = (*found, lists[found])
        elif key := _KEY.match(line):
            found = (*table, *_parts(key["name"]))
        else:
            continue
        wanted = place if any(isinstance(one, int) for one in found) else names
        if len(found) > depth and wanted[: len(found)] == found:
            best, depth = number, len(found)
    return best


def _parts(name: str) -> tuple[str | int, ...]:
    return tuple(part.strip(" \"'") for part in name.split("."))
