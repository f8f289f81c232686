"""The person at the terminal: asked for what was not given, told what was found."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import typer

from data.records import RecordError
from data.sources.fields import Row, reach
from flows.starting.columns import Guess
from flows.starting.files import Given
from tasks.describe.layout import paragraph, quoted, shortened


class AtTerminal:
    """A person at a terminal, who is asked for what was not given; without a terminal, no one is asked."""

    def __init__(self, asks: bool) -> None:
        self.asks = asks

    def ask(self, question: str, default: str | None) -> str | None:
        if not self.asks:
            return default
        answer: str = typer.prompt(question, default=default, show_default=bool(default))
        return answer.strip() or default

    def ask_columns(self, path: str, guess: Guess, rows: Sequence[Any]) -> Given:
        found: dict[str, list[str]] = {}
        if not self.asks:
            return found
        for missing in guess.missing:
            self.tell([paragraph(f"{path} has the columns {', '.join(map(str, rows[0]))}. Not clear: {missing}.")])
            for key in missing.keys:
                found[key] = [typer.prompt(f"Column of {key}").strip()]
        for value in guess.unclear:
            row = next(row for row in rows if _cell(row, guess.columns["label"]) == value)
            self.tell([quoted("\n".join(f"{name}: {shortened(str(one), 300)}" for name, one in row.items()))])
            first, second = guess.sides
            question = f"{guess.columns['label']} is {value!r}: is {first} better (A), {second} (B), or neither (tie)?"
            answer = typer.prompt(question).strip().lower()
            while answer not in ("a", "b", "tie"):
                answer = typer.prompt("A, B or tie?").strip().lower()
            found.setdefault(f"label_{answer}", []).append(str(value))
        return found

    def tell(self, lines: Sequence[str]) -> None:
        typer.echo("\n".join(lines))


def _cell(row: Row, path: str) -> object:
    """The value at a path; None where the row has no such column."""
    with suppress(RecordError):
        return reach(row, path)
    return None
