"""The report of a run: ``metrics.jsonl``, and one self-contained ``report.html``.

Everything is read from the finished stages, so a resumed run reports the same as an uninterrupted one. Texts in the
report come from models and data sets, so the template escapes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from data.files import json_line, read_jsonl, write_text
from tasks.baselines import CHANCE
from tasks.benchmark.sets import HELD_OUT
from tasks.page import charts
from tasks.page.rendering import template
from tasks.plan.compare import FIGURES, planned_table
from tasks.plan.show import amount, gpu_time
from tasks.report.benchmarks import benchmark_charts, played_sets
from tasks.report.cards import FITS, Pairs, cards_of, pairs_of, said_of
from tasks.report.costs import by_kind, by_round, cost_of, elapsed, on_cpu
from tasks.report.dropped import losses
from tasks.report.learned import answer, controls, gains
from tasks.report.samples import Row
from tasks.run.checked import learned
from tasks.run.rounds import best_round, round_table
from tasks.run.stage import Run

MOST_BYTES = 3_000_000
"""The largest page; what does not fit is cut, and the page says so."""


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
    """Writes ``report.html``: one file that loads nothing else. `facts` are shown with the settings."""
    content = page_content(run, facts or {})
    pairs = pairs_of(run, content["table"], content["best"])
    page = page_of(content, pairs, run.store.shown(run.store.path / "samples"))
    path = run.store.path / "report.html"
    write_text(path, page)
    run.store.share(path)
    return path


def page_of(content: Row, pairs: Pairs, place: str) -> str:
    """The page, with as much of the pairs as fits; `place` is where all of them are."""
    page = ""
    for longest, most in FITS:
        cards, filters = cards_of(pairs, most)
        said = said_of(pairs, longest, most, place)
        page = template("report.html.jinja").render(
            content, cards=cards, filters=filters, longest=longest, samples_note=said
        )
        if len(page.encode()) <= MOST_BYTES:
            break
    return page


def page_content(run: Run, facts: Mapping[str, object]) -> Row:
    """What the page shows, except sampled pairs."""
    table, models = round_table(run), run.settings.models
    settings = {
        "Judge trained from": models.judge_base,
        **({"Prover trained from": models.prover_base} if run.settings.writes_proofs() else {}),
        "Prompt": models.judge_prompt,
        **({"Orders proved and learned": "one of each pair's two"} if run.settings.proofs.orders == "one" else {}),
        **({"Memory of votes": run.settings.labels.memory} if run.settings.labels.memory else {}),
        "Seed": run.seed,
    }
    best = best_round(table)
    found, sets = gains(run), played_sets(run, {row["round"]: row["name"] for row in table})
    return {
        "run_name": run.store.run_name,
        "run_place": run.store.shown(run.store.path) if run.store.remote else run.store.run_name,
        "facts": {**settings, **facts},
        "warnings": run.warnings(),
        "table": table,
        "measured": [row for row in table if row["accuracy"] is not None],
        "gates": [row for row in table if row.get("gate")],
        "best": best,
        "learned": learned(table, best["round"]) if best else "",
        "answer": answer(table, found),
        "gains": found,
        "controls": controls(run),
        "chance": CHANCE,
        "learning_charts": [*charts.of_learning(table), *benchmark_charts(run)],
        "dropping_charts": charts.of_dropping(table),
        "sets": [one for one in sets if one.name != HELD_OUT],
        "heldout_sets": [one for one in sets if one.name == HELD_OUT],
        **_costs(run, table),
        "losses": losses(run),
        "stages": run.finished_stages(),
        "planned": planned_table(run),
        "planned_figures": [title for title, _ in FIGURES],
        "software": _software(run),
    }


def _costs(run: Run, table: list[Row]) -> Row:
    return {
        "kinds": by_kind(run),
        "rounds": by_round(run, [(row["round"], row["name"]) for row in table]),
        "total": cost_of("total", run.finished_stages()),
        "elapsed": elapsed(run),
        "on_cpu": on_cpu(run),
        "gpu_time": gpu_time,
        "amount": amount,
    }


def _software(run: Run) -> dict[str, str]:
    """Package → version; several if stages were run with different ones."""
    seen: dict[str, set[str]] = {}
    for artifact in run.finished_stages():
        for package, version in artifact.manifest.software.items():
            seen.setdefault(package, set()).add(version)
    return {package: ", ".join(sorted(versions)) for package, versions in seen.items()}
