"""What Prefect's UI shows of a run: a summary, a table of its rounds and one of its benchmarks, each replaced by the next.

A table has a column for each round or judge, and no more of them than fit between the UI's menu and its details: 850 pixels
in a window of 1400.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from statistics import mean
from typing import Any

from data.store.artifacts import Artifact
from tasks.benchmark.play import measured, set_name
from tasks.page import charts
from tasks.page.rendering import duration, markdown_warnings, number, percent
from tasks.report.baselines import TITLES, Found, summary
from tasks.report.benchmarks import benchmark_charts
from tasks.report.costs import by_kind, cost_of
from tasks.report.publish import place_of, publish, show_markdown, show_table, slug
from tasks.run.rounds import best_round, last_by_gate, names_in, round_table
from tasks.run.stage import Run

Row = dict[str, Any]

COLUMNS = 5
"""The most columns of figures in a table; a cell of 12 characters takes 130 pixels, the names before them 180."""


def publish_round(run: Run, round: int, ended: bool = False) -> None:
    """Shows the summary and both tables up to this round, or of a run that has `ended`."""

    def show() -> None:
        from prefect.logging import get_run_logger

        name, table = run.store.run_name, round_table(run)
        if not ended:
            get_run_logger().info("round %d has ended: %s", round, result(table))
        how_far = "ended" if ended else f"up to round {round}"
        show_markdown(f"{slug(name)}-summary", progress_summary(run, table, ended), f"{name}, {how_far}")
        rows, left_out = rounds_as_columns(table)
        show_table(f"{slug(name)}-rounds", rows, f"Rounds of {name}{left_out}")
        show_benchmarks(run)

    publish(f"the summary of round {round}", show)


def publish_end(run: Run, text: str) -> None:
    """Shows this text as the summary of a run that has ended, and the table of its benchmarks."""

    def show() -> None:
        name = run.store.run_name
        parts = [text.rstrip(), "## What to do next", *next_steps(run), *_costs(run), *_places(run)]
        show_markdown(f"{slug(name)}-summary", "\n\n".join(parts) + "\n", f"{name}, ended")
        show_benchmarks(run)

    publish("the summary", show)


def publish_comparison(run_name: str, found: Found, report: str) -> None:
    """Shows the comparison of methods as the summary of a run over one seed or several."""
    text = f"{summary(run_name, found).markdown()}\n## Where it is\n\n- Report: `{report}`\n"
    publish("the comparison", lambda: show_markdown(f"{slug(run_name)}-summary", text, f"{run_name}, ended"))


def best_method(found: Found) -> str:
    """The method with the highest accuracy, over all seeds, with its accuracy."""
    accuracy: dict[str, list[float]] = {}
    for row in (row for rows in found.values() for row in rows):
        accuracy.setdefault(row["method"], []).append(row["accuracy"])
    best = max(accuracy, key=lambda method: mean(accuracy[method]))
    return f"best is {TITLES[best]} with {percent(mean(accuracy[best]))}"


def show_benchmarks(run: Run) -> None:
    """Shows the table of benchmarks, if there are any."""
    rows, left_out = benchmarks_as_rows(run)
    if rows:
        show_table(f"{slug(run.store.run_name)}-benchmarks", rows, f"Benchmarks of {run.store.run_name}{left_out}")


# ---- the summary ---------------------------------------------------------------------------------------------------------


def progress_summary(run: Run, table: Sequence[Row], ended: bool = False) -> str:
    """Markdown: the result so far, what to do next, the cost, the places on disk, and the charts as embedded images."""
    parts = [f"# {run.store.run_name}", *markdown_warnings(run.warnings())]
    parts += ["## Result" if ended else "## Result so far", result(table) or "No judge has been measured yet."]
    parts += _gates(table)
    parts += ["## What to do next", *(next_steps(run) if ended else _while_running(run, table))]
    parts += [*_costs(run), *_places(run)]
    drawn = [charts.as_markdown(title, svg) for title, svg in [*charts.draw(list(table)), *benchmark_charts(run)]]
    return "\n\n".join([*parts, *drawn]) + "\n"


def result(table: Sequence[Row]) -> str:
    """One sentence: the accuracy of the last judge, and of the best and the first where they are others."""
    scored = [row for row in table if row["accuracy"] is not None]
    if not scored:
        return ""
    first, last, best = scored[0], scored[-1], best_round(list(table))
    said = f"{_judge(last).capitalize()} is right in {percent(last['accuracy'])} of held-out judgments"
    if last["interval"]:
        said += f" (95% interval {percent(last['interval'][0])} – {percent(last['interval'][1])})"
    if best is not None and best["accuracy"] > last["accuracy"]:
        said += f"; the best one, {_judge(best)}, in {percent(best['accuracy'])}"
    elif best is not None and best is not last:
        said += f"; {_judge(best)} in as many already"
    if first is not last and first is not best:
        said += f"; the first judge in {percent(first['accuracy'])}"
    return f"{said}."


def _gates(table: Sequence[Row]) -> list[str]:
    """What the gates after the rounds have decided; nothing before there is any."""
    lines = [f"- {row['gate_reason']}" for row in table if row.get("gate")]
    return ["## Gates", "\n".join(lines)] if lines else []


def outcome(run: Run) -> str:
    """A self-training's result in a few words, for the state of its flow run."""
    exported = run.finished_stage("export")
    if exported is None:
        return "no judge was exported"
    metrics = exported.manifest.metrics
    table = round_table(run)
    when = _chosen_after(table, metrics["chosen_round"])
    stopped = f"; stopped by the gate of round {last['name']}" if (last := last_by_gate(table)) else ""
    for row in table:
        what = "label" if row["labels_kept"] == 0 else "proof" if row["round"] and row["pairs_selected"] == 0 else None
        stopped += f"; round {row['name']} kept no {what}" if what else ""
    return f"{percent(metrics['accuracy'])} {when}{stopped}; judge in {place_of(run.store, exported.path)}"


def _chosen_after(table: Sequence[Row], chosen: int) -> str:
    """After which of the rounds the exported judge was the best."""
    rounds = [row["round"] for row in table if row["round"] and row["name"] != "final" and row["accuracy"] is not None]
    if not rounds and not chosen:
        return "of held-out judgments are right"
    if chosen == max(rounds, default=None):
        return f"after {len(rounds)} round{'s' if len(rounds) > 1 else ''}"
    row = next(row for row in table if row["round"] == chosen)
    return f"{_after(row)} of {len(rounds)}" if chosen in rounds else _after(row)


def _judge(row: Row) -> str:
    if row["name"] == "final":
        return "the judge after the final fine-tuning"
    return f"the judge of round {row['name']}" if row["round"] else "the first judge"


def _after(row: Row) -> str:
    if row["name"] == "final":
        return "after the final fine-tuning"
    return f"after round {row['name']}" if row["round"] else "by the first judge"


def _while_running(run: Run, table: Sequence[Row]) -> list[str]:
    name, rounds = run.store.run_name, run.settings.rounds.count
    done = rounds if last_by_gate(list(table)) else max((row["round"] for row in table), default=-1)
    tuned = done == rounds and run.settings.training.final is not None
    after = "The final fine-tuning is next." if tuned else "The export of the judge is next."
    return [
        f"Round {done + 1} of {rounds} is next." if done < rounds else after,
        f"The run can be cancelled at any time: a start with the run name `{name}` goes on where it stopped.",
    ]


def next_steps(run: Run) -> list[str]:
    """What can be done with a run that has ended: one line each, with the command."""
    place, judge = shlex.quote(place_of(run.store, run.store.path)), run.finished_stage("export")
    can_be_opened = run.store.remote is None and (run.store.path / "report.html").is_file()
    lines = [f"- Read the report: `gram-r2 open {place}`"] if can_be_opened else []
    if judge is not None:
        folder = shlex.quote(place_of(run.store, judge.path))
        lines += [
            f"- Use the judge: `gram-r2 rank best-of-n prompts.jsonl best.jsonl --judge {folder}`",
            f"- Share the judge: `gram-r2 push {place} hub:OWNER/NAME`",
        ]
    lines.append("- Change it: start it again with `on_change` = `redo`, or as another run with another name")
    return ["\n".join(lines)]


def _costs(run: Run) -> list[str]:
    """A table of what each kind of work took, in all attempts that made the stages; nothing before there is any."""
    if not run.finished:
        return []
    lines = ["| work | stages | time | tokens generated |", "|---|---:|---:|---:|"]
    for cost in [*by_kind(run), cost_of("All", run.finished_stages())]:
        tokens = number(cost.generated) if cost.generated else "–"
        lines.append(f"| {cost.name} | {cost.stages} | {duration(cost.seconds)} | {tokens} |")
    return ["## Cost", "\n".join(lines)]


def _places(run: Run) -> list[str]:
    folder = run.store.path
    places = {"Run folder": folder, "Report": folder / "report.html", "Logs": folder / "logs"}
    if (judge := run.finished_stage("export")) is not None:
        places["Judge"] = judge.path
    there = {what: path for what, path in places.items() if path.exists()}
    return ["## Where it is", "\n".join(f"- {what}: `{place_of(run.store, path)}`" for what, path in there.items())]


# ---- the tables -----------------------------------------------------------------------------------------------------------


def rounds_as_columns(table: Sequence[Row]) -> tuple[list[dict[str, str]], str]:
    """The table of rounds, a column for each, with numbers as texts; and which rounds are left out, if there are too many.

    A row of which no round has anything is left out.
    """
    best = best_round(list(table))
    shown = _those_that_fit(table, [row for row in table if row is best])
    columns = {_title(row["name"]): dict(_figures(row, row is best)) for row in shown}
    names = list(dict.fromkeys(name for figures in columns.values() for name in figures))
    rows = [{"figure": name, **{title: figures.get(name, "–") for title, figures in columns.items()}} for name in names]
    kept = [row for row in rows if set(row.values()) != {row["figure"], "–"}]
    left = len(table) - len(shown)
    return kept, f"; {left} of {len(table)} are only in the report" if left else ""


def _those_that_fit(columns: Sequence[Any], also: Sequence[Any]) -> list[Any]:
    """The first of the columns, those in `also`, and the last ones: no more than fit."""
    wanted = [*columns[:1], *also, *reversed(columns)]
    chosen = list({id(one): one for one in wanted}.values())[:COLUMNS]
    return [one for one in columns if any(one is other for other in chosen)]


def _title(name: str) -> str:
    return name if name == "final" else f"round {name}"


def _figures(row: Row, is_best: bool) -> Iterator[tuple[str, str]]:
    interval, balance, proofs = row["interval"], row["label_balance"], row["proof_candidates"]
    yield "held-out accuracy", percent(row["accuracy"]) + (" (best)" if is_best else "")
    yield "95% interval (%)", " – ".join(f"{100 * end:.1f}" for end in interval) if interval else "–"
    yield "pairs to label", number(row["labels_of"])
    yield "labels kept", number(row["labels_kept"])
    yield "kept labels correct", percent(row["kept_right"])
    yield "promised correct", "not shown" if row["promise_holds"] is False else percent(row["promised"])
    yield "kept labels that are A", percent(balance.get("A", 0) / sum(balance.values())) if balance else "–"
    yield "votes cast", percent(row["votes_cast"])
    again = row["voted_again"]
    yield "labels changed", f"{number(again['flips'])} of {number(again['pairs'])}" if again else "–"
    yield "valid proofs", percent(row["proofs_valid"] / proofs) if proofs else "–"
    yield "proof score", number(row["proof_score"], 3)
    yield "training examples", number(row["examples"])
    lost = (row["examples_of"] or 0) - (row["examples"] or 0)
    yield "examples dropped", number(lost) if lost else "–"
    yield "loss", f"{number(row['first_loss'], 2)} → {number(row['last_loss'], 2)}" if row["last_loss"] else "–"
    yield "tokens/s", number(row["tokens_per_s"])
    yield "time", duration(row["seconds"])
    yield "gate", row.get("gate") or "–"
    for reason, n in row["labels_dropped"].items():
        yield f"dropped: {reason.replace('_', ' ')}", number(n)


def benchmarks_as_rows(run: Run) -> tuple[list[dict[str, str]], str]:
    """A row for each set and each of its parts, a column for each judge; and how many judges are left out."""
    scores: dict[str, dict[str, str]] = {}
    judges: list[str] = []
    names = names_in(run)
    for artifact in measured(run):
        metrics, judge = artifact.manifest.metrics, judge_of(artifact, names)
        judges += [judge] if judge not in judges else []
        scores.setdefault(set_name(artifact), {})[judge] = percent(metrics["accuracy"])
        for part, value in metrics["parts"].items():
            scores.setdefault(f"{set_name(artifact)}: {part}", {})[judge] = percent(value)
    shown = _those_that_fit(judges, [])
    rows = [{"set": name, **{judge: found.get(judge, "–") for judge in shown}} for name, found in scores.items()]
    left = len(judges) - len(shown)
    return rows, f"; {left} of {len(judges)} judges are only in the report" if left else ""


def judge_of(artifact: Artifact, names: Mapping[int, str]) -> str:
    """Whose games a benchmark's are: of a round's judge, of one with its own folder such as a baseline, or of the only one."""
    if artifact.manifest.round is not None:
        return _title(names[artifact.manifest.round])
    return artifact.manifest.name.rpartition("/")[0] or "score"
