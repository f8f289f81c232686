"""The report of the flow `adapt`: the learning curve over sizes, and general benchmarks before and after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.adapt import Adapted
from tasks.benchmark.play import set_name
from tasks.page import charts
from tasks.page.rendering import duration, number, of_all, percent
from tasks.page.summary import Summary, Table
from tasks.report.benchmarks import shown_score
from tasks.run.stage import Run

_CURVE_NOTE = (
    "Accuracy on held-out pairs of the task, each in both orders, with 95% intervals (bootstrap over prompts). With a "
    "validation part, the judge is the checkpoint with the lowest validation loss."
)
_FORGETTING_NOTE = "Scores in %. A drop here is what the judge forgot during adaptation."


def summary(run: Run, made: Sequence[Adapted]) -> Summary:
    """The page."""
    some_dropped = any(one.trained.manifest.counts.dropped for one in made if one.trained)
    tables = [Table("Learning curve", [_row(one, some_dropped) for one in made], (_CURVE_NOTE,))]
    if made[0].general:
        tables.append(Table("General benchmarks", _before_and_after(made), (_FORGETTING_NOTE,)))
    points = []
    for one in made:
        metrics = one.heldout.manifest.metrics
        low, high = metrics["interval"] or (metrics["accuracy"], metrics["accuracy"])
        points.append((number(one.size), metrics["accuracy"], low, high))
    chart = ("Accuracy on the task, by training pairs", charts.accuracy_curve(points, "training pairs"))
    facts = {"Judge": run.settings.models.judge_base, "Seed": run.seed}
    return Summary(run.store.run_name, "A judge adapted to a task.", tables, [chart], facts, run.warnings())


def _row(one: Adapted, some_dropped: bool) -> dict[str, str]:
    metrics = one.heldout.manifest.metrics
    trained = one.trained.manifest if one.trained else None
    facts = trained.metrics if trained else {}
    interval = metrics["interval"]
    counts = trained.counts if trained else None
    return {
        "pairs": number(one.size) if one.size else "before",
        **({"examples learned from": of_all(counts.kept, counts.rows_in) if counts else "–"} if some_dropped else {}),
        "held-out accuracy": percent(metrics["accuracy"]),
        "95% interval": f"{percent(interval[0])} – {percent(interval[1])}" if interval else "–",
        "steps": number(facts.get("steps")),
        "best step": number(facts.get("best_step")),
        "validation loss": number(facts.get("validation_loss"), 4),
        "tokens trained": number(facts["tokens"] * facts["epochs"]) if facts else "–",
        "time": duration(trained.seconds) if trained else "–",
    }


def _before_and_after(made: Sequence[Adapted]) -> list[dict[str, str]]:
    after = made[-1]
    rows = []
    for first, last in zip(made[0].general, after.general, strict=True):
        scores = [artifact.manifest.metrics["accuracy"] for artifact in (first, last)]
        change = f"{100 * (scores[1] - scores[0]):+.1f}" if None not in scores else "–"
        rows.append({
            "set": set_name(first), "before": shown_score(first.manifest.metrics),
            f"after {number(after.size)} pairs": shown_score(last.manifest.metrics), "change (points)": change,
        })  # fmt: skip
    return rows


def write_adapted(run: Run, made: Sequence[Adapted]) -> Path:
    """Writes ``report.html`` and ``report.md`` into the run's folder; returns the path of the page."""
    return summary(run, made).write(run.store, "report")
