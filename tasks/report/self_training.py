"""The report of a run: ``metrics.jsonl``, and one self-contained ``report.html``.

Everything is read from the finished stages, so a resumed run reports the same as an uninterrupted one. Texts in the
report come from models and data sets, so the template escapes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from data.files import json_line, read_jsonl, write_text
from tasks.page import charts
from tasks.page.rendering import template
from tasks.plan.compare import FIGURES, planned_table
from tasks.report.benchmarks import benchmark_charts, benchmark_table
from tasks.report.samples import Row, sample_pairs
from tasks.run.rounds import best_round, round_table
from tasks.run.stage import Run


def metrics_lines(run: Run) -> list[Row]:
    """One line for each stage that the run has finished, with its counts and metrics."""
    lines = []
    for artifact in run.finished_stages():
        manifest = artifact.manifest
        line = {
            "run": run.store.run_name,
            "stage": manifest.kind,
            "name": manifest.name,
            "round": manifest.round,
            "reused": artifact.reused,
            **asdict(manifest.counts),
            "seconds": manifest.seconds,
            "peak_memory_mib": manifest.peak_memory_mib,
        }
        lines.append(line | {name: value for name, value in manifest.metrics.items() if name not in line})
    return lines


def write_metrics(run: Run, ended: bool = False) -> Path:
    """Rewrites ``metrics.jsonl``, each stage once: those finished and, until the run has `ended`, those already listed.

    So a run that is resumed and stopped again keeps the lines of stages that it has not reached again.
    """
    path = run.store.path / "metrics.jsonl"
    run.store.bring(path)
    lines = metrics_lines(run)
    if not ended and path.exists():
        passed = {line["name"] for line in lines}
        lines.extend(line for line in read_jsonl(path) if line["name"] not in passed)
    write_text(path, "".join(json_line(line) for line in lines))
    run.store.share(path)
    return path


# ---- the page ---------------------------------------------------------------------------------------------------------


def write_report(run: Run, facts: Mapping[str, object] | None = None) -> Path:
    """Writes ``report.html``: one file that loads nothing else. `facts` are shown under the title, after the settings."""
    table, models = round_table(run), run.settings.models
    settings = {
        "Judge trained from": models.judge_base,
        **({"Prover trained from": models.prover_base} if run.settings.writes_proofs() else {}),
        "Prompt": models.judge_prompt,
        **({"Orders proved and learned": "one of each pair's two"} if run.settings.proofs.orders == "one" else {}),
        "Seed": run.seed,
    }
    page = template("report.html.jinja").render(
        run_name=run.store.run_name,
        facts={**settings, **(facts or {})},
        warnings=run.warnings(),
        table=table,
        measured=[row for row in table if row["accuracy"] is not None],
        best=best_round(table),
        charts=[(title, charts.inline(svg)) for title, svg in [*charts.draw(table), *benchmark_charts(run)]],
        benchmarks=benchmark_table(run),
        stages=run.finished_stages(),
        planned=planned_table(run),
        planned_figures=[title for title, _ in FIGURES],
        samples=[(row["name"], pairs) for row in table if (pairs := sample_pairs(run, row["round"]))],
        software=_software(run),
    )
    path = run.store.path / "report.html"
    write_text(path, page)
    run.store.share(path)
    return path


def _software(run: Run) -> dict[str, str]:
    """Package → version; several if stages were run with different ones."""
    seen: dict[str, set[str]] = {}
    for artifact in run.finished_stages():
        for package, version in artifact.manifest.software.items():
            seen.setdefault(package, set()).add(version)
    return {package: ", ".join(sorted(versions)) for package, versions in seen.items()}
