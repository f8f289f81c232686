"""Plain text that fits a terminal: wrapped paragraphs, tables, texts shortened in the middle."""

from __future__ import annotations

import re
import shutil
import textwrap
import unicodedata
from collections.abc import Sequence

WIDEST = 120
"""Columns of text: longer lines are hard to read, however wide the terminal is."""


def width() -> int:
    return min(shutil.get_terminal_size((100, 24)).columns, WIDEST)


def heading(text: str) -> str:
    return f"\n{text}\n{'─' * min(len(text), width())}"


def paragraph(text: str, indent: str = "") -> str:
    """The text wrapped; lines after the first are indented by two more."""
    return textwrap.fill(
        _printable(text),
        width(),
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def named(name: str, text: str, column: int) -> str:
    """A name, and its text from a column on; the text starts below the name if that is too long."""
    printable = _printable(text)
    wrapped = textwrap.wrap(printable, width() - column, break_long_words=False, break_on_hyphens=False) or [""]
    label = f"  {' '.join(_printable(name).splitlines())}"
    lines = [f"{label:<{column}}{wrapped[0]}"] if len(label) < column else [label, " " * column + wrapped[0]]
    return "\n".join([*lines, *(" " * column + line for line in wrapped[1:])])


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows in columns: the first is text, the others are figures."""
    cells = [list(header), *map(list, rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    return [
        "  " + "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in cells
    ]


def shortened(text: str, most: int) -> str:
    """The text, its middle left out if it has more than `most` characters; cut between words if possible."""
    if len(text) <= most:
        return text
    head, tail = text[: most * 2 // 3], text[-(most // 3) :]
    head = re.sub(r"(?<=\s)\S{1,40}$", "", head).rstrip()
    tail = re.sub(r"^\S{1,40}(?=\s)", "", tail).lstrip()
    return f"{head}\n[… {len(text) - len(head) - len(tail):,} more characters …]\n{tail}"


def quoted(text: str) -> str:
    """A text from the data, each line marked, to distinguish it from the command's own output."""
    return "\n".join(f"│ {_printable(line)}".rstrip() for given in text.splitlines() for line in _cut(given))


def _cut(line: str) -> list[str]:
    """A line in pieces that fit beside the mark. Wide characters, such as Chinese, take two columns each."""
    wide = any(unicodedata.east_asian_width(c) in "WF" for c in line)
    most = (width() - 2) // (2 if wide else 1)
    return textwrap.wrap(line, most, drop_whitespace=False, replace_whitespace=False) or [""]


def _printable(text: str) -> str:
    """Replaces characters that would move a terminal's cursor or change its colours."""
    return "".join(c if c.isprintable() or c in "\t\n" else "\ufffd" for c in text)


def share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}%" if whole else "–"
