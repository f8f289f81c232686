"""A page of tables and charts about several judges: as HTML on disk, and as Markdown for Prefect's UI or a README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data.files import write_text
from data.store.store import RunStore
from tasks.page import charts
from tasks.page.rendering import markdown_warnings, template


@dataclass(frozen=True)
class Table:
    """Rows of texts by column, under a title; notes explain the numbers."""

    title: str
    rows: Sequence[Mapping[str, str]]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        """Only the rows."""
        names = list(self.rows[0])
        lines = [f"| {' | '.join(names)} |", "|---" + "|---:" * (len(names) - 1) + "|"]
        return "\n".join([*lines, *(f"| {' | '.join(row.values())} |" for row in self.rows)])


@dataclass(frozen=True)
class Summary:
    """The content of a page. `charts` are (title, SVG)."""

    title: str
    intro: str
    tables: Sequence[Table]
    charts: Sequence[tuple[str, str]] = ()
    facts: Mapping[str, object] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    def write(self, store: RunStore, name: str) -> Path:
        """Writes NAME.html and NAME.md into the run's folder; returns the path of the page."""
        for suffix, text in (("md", self.markdown(with_charts=False)), ("html", self.html())):
            path = store.path / f"{name}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
            store.share(path)
        return path

    def html(self) -> str:
        """The page, which loads nothing else."""
        return template("summary.html.jinja").render(
            title=self.title,
            intro=self.intro,
            facts=self.facts,
            warnings=self.warnings,
            tables=self.tables,
            charts=self.charts,
        )

    def markdown(self, with_charts: bool = True) -> str:
        """The page as Markdown, with embedded charts."""
        parts = [f"# {self.title}", self.intro, *markdown_warnings(self.warnings)]
        for table in self.tables:
            parts += [f"## {table.title}", table.markdown(), *table.notes]
        drawn = [charts.as_markdown(title, svg) for title, svg in self.charts] if with_charts else []
        return "\n\n".join([*parts, *drawn]) + "\n"
