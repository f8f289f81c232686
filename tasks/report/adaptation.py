"""The report of the flow `adapt`: the learning curve over sizes, and general benchmarks before and after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.adapt import Adapted, accuracy_of, best_of
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
    exported = best_of(made) if run.finished_stage("export") else None
    notes = (f"The judge with {number(exported.size)} pairs is in final/{_choice(made)}.",) if exported else ()
    tables = [Table("Learning curve", [_row(one, some_dropped) for one in made], (_CURVE_NOTE, *notes))]
    if made[0].general:
        other = f" The judge in final/, with {number(exported.size)} pairs, did not play them." if exported else ""
        note = _FORGETTING_NOTE + (other if exported is not made[-1] else "")
        tables.append(Table("General benchmarks", _before_and_after(made), (note,)))
    points = []
    for one in made:
        metrics = one.heldout.manifest.metrics
        low, high = metrics["interval"] or (metrics["accuracy"], metrics["accuracy"])
        points.append((number(one.size), metrics["accuracy"], low, high))
    chart = ("Accuracy on the task, by training pairs", charts.accuracy_curve(points, "training pairs"))
    facts = {"Judge": run.settings.models.judge_base, "Seed": run.seed}
    warnings = [*run.warnings(), *_harm(made)]
    return Summary(run.store.run_name, "A judge adapted to a task.", tables, [chart], facts, warnings)


def outcome(made: Sequence[Adapted]) -> str:
    """The result in a few words, for the flow run's state."""
    best = best_of(made)
    assert best is not None, "there is at least one size"
    after = f"{percent(accuracy_of(best))} with {number(best.size)} pairs{_choice(made)}"
    none = "no adapted judge is better: " if _harm(made) else ""
    return f"{none}{percent(accuracy_of(made[0]))} before and {after}"


def _choice(made: Sequence[Adapted]) -> str:
    """How the best judge was chosen, to be said behind its accuracy or size; nothing if there was no choice."""
    n = len(made) - 1
    return f", the best of {n} sizes (chosen on the held-out pairs, so slightly optimistic)" if n > 1 else ""


def _harm(made: Sequence[Adapted]) -> list[str]:
    """A line if no adapted judge is better than the one before."""
    best, before = best_of(made), accuracy_of(made[0])
    if best is None or accuracy_of(best) > before:
        return []
    return [
        f"No adapted judge is better on the held-out pairs than the one before: {percent(before)} before, "
        f"{percent(accuracy_of(best))} with {number(best.size)} pairs. Keep the judge as it was, or give more pairs"
    ]


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
