"""What a run shows of itself: ``metrics.jsonl``, one self-contained ``report.html``, and artifacts in Prefect's UI.

Everything is read from the finished stages, so a resumed run reports what an uninterrupted one does. Texts in the
report are what models and data sets wrote: they go through a template that escapes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from data.files import json_line, read_jsonl, write_text
from data.store.artifacts import Artifact
from tasks.page import charts
from tasks.page.rendering import duration, number, percent, template
from tasks.plan.compare import FIGURES, planned_table
from tasks.report.benchmarks import benchmark_charts, benchmark_table, publish_benchmarks, slug_of
from tasks.report.samples import Row, sample_pairs
from tasks.run.stage import Run


def metrics_lines(run: Run) -> list[Row]:
    """One line for each stage that the run has gone through, its metrics beside its counts."""
    lines = []
    for artifact in run.passed_stages():
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
    """Writes ``metrics.jsonl`` anew, each stage once: those passed, and until the run has `ended` those it had before.

    So a run that is resumed, and stopped again, does not lose the lines of stages that it has not come to yet.
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


# ---- the table of rounds ----------------------------------------------------------------------------------------------


def round_table(run: Run) -> list[Row]:
    """One row a round, in order, the final fine-tuning last; None where a round has no such stage (yet)."""
    rounds = sorted({a.manifest.round for a in run.passed_stages() if a.manifest.round is not None})
    return [_round_row(run, round) for round in rounds]


def _round_row(run: Run, round: int) -> Row:
    stages = [a for a in run.passed_stages() if a.manifest.round == round]
    kinds = {a.manifest.kind: a for a in stages}
    # Every round of self-training selects pairs; the fine-tuning after the last one only trains.
    final = round > 0 and "train-judge" in kinds and "select" not in kinds
    audit = kinds["audit"].manifest.metrics if "audit" in kinds else {}
    return {
        "round": round,
        "name": "final" if final else str(round),
        **_heldout(kinds.get("benchmark")),
        **_labels(kinds.get("label")),
        "kept_right": audit.get("kept_right"),
        "all_right": audit.get("all_right"),
        **_proofs(kinds.get("select")),
        **_training(run, kinds.get("train-judge")),
        "tokens_per_s": _rate([kinds[kind] for kind in ("vote", "prove", "benchmark") if kind in kinds]),
        "seconds": round_seconds(stages),
    }


def _heldout(benchmark: Artifact | None) -> Row:
    metrics = benchmark.manifest.metrics if benchmark else {}
    pairs = benchmark.manifest.counts.rows_in if benchmark else None
    return {
        "accuracy": metrics.get("accuracy"),
        "interval": metrics.get("interval"),
        "heldout_pairs": pairs,
        "position_consistency": metrics.get("position_consistency"),
        "reply_tokens": metrics.get("mean_tokens"),
    }


def _labels(labels: Artifact | None) -> Row:
    counts = labels.manifest.counts if labels else None
    metrics = labels.manifest.metrics if labels else {}
    malformed, votes = metrics.get("malformed", {}), metrics.get("votes")
    return {
        "labels_kept": counts.kept if counts else None,
        "labels_of": counts.rows_in if counts else None,
        "labels_dropped": {**counts.dropped, **counts.failed} if counts else {},
        "label_balance": metrics.get("label_balance", {}),
        "vote_margins": metrics.get("vote_margins", {}),
        "orders_agree": metrics.get("orders_agree"),
        "malformed_share": sum(malformed.values()) / votes if votes else None,
    }


def _proofs(selected: Artifact | None) -> Row:
    counts = selected.manifest.counts if selected else None
    metrics = selected.manifest.metrics if selected else {}
    # A judge without rationales selects every labeled pair and has no proofs to count.
    wrote = bool(metrics.get("candidates"))
    return {
        "proofs_valid": metrics.get("valid") if wrote else None,
        "proof_candidates": metrics.get("candidates") if wrote else None,
        "proof_score": metrics.get("mean_score"),
        "proof_tokens": metrics.get("mean_tokens"),
        "proofs_rejected": metrics.get("rejected", {}),
        "pairs_selected": counts.kept if counts else None,
        "pairs_dropped": {**counts.dropped, **counts.failed} if counts else {},
    }


def _training(run: Run, judge: Artifact | None) -> Row:
    metrics = judge.manifest.metrics if judge else {}
    wanted = judge.manifest.inputs.get("examples") if judge else None
    of = (
        a for a in run.passed_stages() if wanted and a.manifest.files.get("examples.jsonl", {}).get("sha256") == wanted
    )
    examples = next(of, None)
    sizes = examples.manifest.metrics if examples else {}
    return {
        "examples": examples.manifest.counts.kept if examples else None,
        "labeled": sizes.get("labeled"),
        "pseudo_labeled": sizes.get("pseudo_labeled"),
        "repeated": sizes.get("repeated"),
        "first_loss": metrics.get("first_loss"),
        "last_loss": metrics.get("last_loss"),
    }


def _rate(generated: list[Artifact]) -> float | None:
    """Tokens/s over several stages; those that generated nothing in their last attempt have no rate."""
    parts = [a.manifest.metrics for a in generated if a.manifest.metrics.get("tokens_per_s")]
    seconds = sum(m["tokens_generated"] / m["tokens_per_s"] for m in parts)
    return round(sum(m["tokens_generated"] for m in parts) / seconds, 1) if seconds else None


def round_seconds(stages: list[Artifact]) -> float:
    """What the stages took when they were made, reused ones included."""
    return round(sum(a.manifest.seconds for a in stages), 1)


def best_round(table: list[Row]) -> Row | None:
    """The row with the highest held-out accuracy, the earliest of equals."""
    measured = [row for row in table if row["accuracy"] is not None]
    return max(measured, key=lambda row: (row["accuracy"], -row["round"]), default=None)


# ---- the page ---------------------------------------------------------------------------------------------------------


def write_report(run: Run, facts: Mapping[str, object] | None = None) -> Path:
    """Writes ``report.html``: one file that asks for nothing else. `facts` join those of the settings under the title."""
    table, models = round_table(run), run.settings.models
    settings = {
        "Judge trained from": models.judge_base,
        **({"Prover trained from": models.prover_base} if run.settings.writes_proofs() else {}),
        "Prompt": models.judge_prompt,
        "Seed": run.seed,
    }
    page = template("report.html.jinja").render(
        run_name=run.store.run_name,
        facts={**settings, **(facts or {})},
        table=table,
        measured=[row for row in table if row["accuracy"] is not None],
        best=best_round(table),
        charts=[(title, charts.inline(svg)) for title, svg in [*charts.draw(table), *benchmark_charts(run)]],
        benchmarks=benchmark_table(run),
        stages=run.passed_stages(),
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
    """Package → version; several where stages were made with different ones."""
    seen: dict[str, set[str]] = {}
    for artifact in run.passed_stages():
        for package, version in artifact.manifest.software.items():
            seen.setdefault(package, set()).add(version)
    return {package: ", ".join(sorted(versions)) for package, versions in seen.items()}


# ---- Prefect ----------------------------------------------------------------------------------------------------------


def publish_round(run: Run, round: int) -> None:
    """Puts the table of rounds and the charts, as of this round, into Prefect's UI; nothing where no flow is running."""
    from prefect.context import FlowRunContext, TaskRunContext

    if FlowRunContext.get() is None and TaskRunContext.get() is None:
        return
    from prefect.artifacts import create_markdown_artifact, create_table_artifact
    from prefect.logging import get_run_logger

    table = round_table(run)
    # Keys are the server's: one for each run, so that a run's history of rounds is its own.
    slug = slug_of(run)
    description = f"Rounds of {run.store.run_name}, up to round {round}"
    try:
        create_table_artifact(key=f"{slug}-rounds", table=short_table(table), description=description)
        create_markdown_artifact(key=f"{slug}-judge", markdown=progress_markdown(run, table))
        publish_benchmarks(run, slug)
    except Exception as error:  # a view that cannot be had now must not cost the run
        get_run_logger().warning("the table and charts of round %d are not shown: %s", round, error)


def short_table(table: list[Row]) -> list[Row]:
    """The table of rounds as the UI shows it: a few columns, numbers as texts."""
    return [
        {
            "round": row["name"],
            "held-out accuracy": percent(row["accuracy"]),
            "labels kept": f"{number(row['labels_kept'])} of {number(row['labels_of'])}" if row["labels_of"] else "–",
            "why not": _reasons(row["labels_dropped"]),
            "balance A / B": " / ".join(str(row["label_balance"].get(side, 0)) for side in "AB")
            if row["label_balance"]
            else "–",
            "vote margins": _reasons(row["vote_margins"]),
            "kept labels right": percent(row["kept_right"]),
            "valid proofs": f"{number(row['proofs_valid'])} of {number(row['proof_candidates'])}"
            if row["proof_candidates"]
            else "–",
            "proof score": number(row["proof_score"], 3),
            "proof tokens": number(row["proof_tokens"], 0),
            "training examples": number(row["examples"]),
            "loss": f"{number(row['first_loss'], 3)} → {number(row['last_loss'], 3)}" if row["last_loss"] else "–",
            "tokens/s": number(row["tokens_per_s"], 0),
            "time": duration(row["seconds"]),
        }
        for row in table
    ]


def _reasons(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {n}" for name, n in counts.items()) or "–"


def progress_markdown(run: Run, table: list[Row]) -> str:
    """The charts as images inside the text, which render without a network."""
    parts = [f"# {run.store.run_name}"]
    best = best_round(table)
    if best is not None:
        parts.append(f"Best so far: round {best['name']} with {percent(best['accuracy'])} on held-out pairs.")
    parts += [charts.as_markdown(title, svg) for title, svg in [*charts.draw(table), *benchmark_charts(run)]]
    return "\n\n".join(parts) + "\n"
