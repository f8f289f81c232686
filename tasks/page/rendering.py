"""The package's templates, and how they format numbers."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from textwrap import fill, indent
from typing import TYPE_CHECKING

from data.records import canonical_json
from tasks.page import charts, words

if TYPE_CHECKING:
    from jinja2 import Template

TEMPLATES = Path(__file__).with_name("templates")
_CODE_WIDTH = 76
"""Characters that Prefect's UI shows of a line of code in a window of 800 pixels."""


@cache
def template(name: str) -> Template:
    """A template by its file name. HTML is escaped; Markdown is not, so never pass it text from a model."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=lambda name: name is not None and name.endswith(".html.jinja"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"percent": percent, "number": number, "duration": duration, "json": canonical_json}
    environment.filters |= {"reason": words.reason, "explained": words.explained, "cut": cut, "inline": charts.inline}
    environment.filters |= {"shell": shlex.quote, "of": of_all}
    environment.globals |= {"term": words.term, "terms": words.TERMS}
    return environment.get_template(name)


def percent(share: float | None) -> str:
    """A share in 0…1 as a percentage with one decimal; a dash for None, as in all of these filters."""
    return "–" if share is None else f"{100 * share:.1f}%"


def number(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def of_all(part: float | None, whole: float | None) -> str:
    """A number, and of how many it is unless it is all of them: "700 of 2,000"."""
    return number(part) if part == whole else f"{number(part)} of {number(whole)}"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def cut(text: str, longest: int | None) -> tuple[str, int, str]:
    """A text as its beginning, the number of characters left out in the middle, and its end; none if it is short enough."""
    if longest is None or len(text) <= longest:
        return text, 0, ""
    end = longest // 4
    return text[: longest - end], len(text) - longest, text[-end:]


def markdown_warnings(lines: Sequence[str]) -> list[str]:
    """Warnings as Markdown blocks. They quote models, so each is a block of code, in which nothing is markup.

    Code is not wrapped by whoever shows it, so its lines are short.
    """
    return [block for line in lines for block in ("**Warning**", indent(fill(line, _CODE_WIDTH), "    "))]
