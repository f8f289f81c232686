"""The report on benchmarks: a table of every set and round, curves over the rounds, and the scores of one judge."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data.store.artifacts import Artifact
from tasks.benchmark.play import GAMES, SCORES, measured, set_name
from tasks.page import charts
from tasks.page.rendering import markdown_warnings, percent
from tasks.run.rounds import names_in
from tasks.run.stage import Run

_COLUMNS = 6
"""Judges side by side in the table of a set's parts: the first, the best and the last ones."""


@dataclass(frozen=True)
class PlayedBy:
    """One judge's result on a set. `unparsed` is the share of games without a verdict."""

    round: int | None
    judge: str
    metrics: Mapping[str, Any]
    unparsed: float


@dataclass(frozen=True)
class PlayedSet:
    """A set with every judge that played it, and those whose parts are shown. `games` is where the last one's are."""

    name: str
    rows: Sequence[PlayedBy]
    parts: Sequence[str]
    with_parts: Sequence[PlayedBy]
    missing: Sequence[str]
    games: str


def played_sets(run: Run, names: Mapping[int, str] | None = None) -> list[PlayedSet]:
    """The sets that the run's judges have played, in order. `names` are those of rounds, if they are not their numbers."""
    found: dict[str, list[Artifact]] = {}
    for artifact in measured(run):
        found.setdefault(set_name(artifact), []).append(artifact)
    return [_played_set(run, name, stages, names or {}) for name, stages in found.items()]


def _played_set(run: Run, name: str, stages: Sequence[Artifact], names: Mapping[int, str]) -> PlayedSet:
    rows = []
    for stage in stages:
        metrics, round = stage.manifest.metrics, stage.manifest.round
        unparsed = sum(metrics["malformed"].values()) / metrics["games"]
        judge = _judge_of(stage) if round is None else names.get(round, _judge_of(stage))
        rows.append(PlayedBy(round, judge, metrics, unparsed))
    parts = list(dict.fromkeys(part for row in rows for part in row.metrics["parts"]))
    best = max(rows, key=lambda row: (row.metrics["accuracy"] or 0.0, -rows.index(row)))
    shown = rows if len(rows) <= _COLUMNS else [row for row in rows if row in (rows[0], best, *rows[2 - _COLUMNS :])]
    missing = list(dict.fromkeys(part for row in rows for part in row.metrics["missing"]))
    games = run.store.shown(stages[-1].path / GAMES)
    needed = len(parts) > 1 or any(row.metrics["accuracy"] is None for row in rows)
    return PlayedSet(name, rows, parts if needed else [], shown, missing, games)


def shown_score(metrics: Mapping[str, Any]) -> str:
    """A benchmark's overall score, with its interval if only some of the items were drawn."""
    score = percent(metrics["accuracy"])
    return f"{score} ({_interval(metrics['interval'])})" if metrics.get("drawn") else score


def _judge_of(artifact: Artifact) -> str:
    """Whose games these are: those of a round's judge, or of a judge with its own folder, such as a baseline."""
    if artifact.manifest.round is not None:
        return str(artifact.manifest.round)
    return artifact.manifest.name.rpartition("/")[0] or "–"


def benchmark_charts(run: Run) -> list[tuple[str, str]]:
    """(title, SVG) of all sets except the held-out pairs, over the rounds; empty if there are none."""
    others = [a for a in measured(run) if a.manifest.round is not None and set_name(a) != "held-out"]
    rounds, names = sorted({a.manifest.round for a in others if a.manifest.round is not None}), names_in(run)
    curves: dict[str, list[float | None]] = {}
    for artifact in others:
        metrics, place = artifact.manifest.metrics, rounds.index(artifact.manifest.round or 0)
        # If parts are missing there is no total, and each part gets a line.
        lines = {"": metrics["accuracy"]} if metrics["accuracy"] is not None else metrics["parts"]
        for part, value in lines.items():
            name = f"{set_name(artifact)} {part}".strip()
            curves.setdefault(name, [None] * len(rounds))[place] = value
    if not curves:
        return []
    return [("Benchmarks after each round", charts.benchmark_curves([names[round] for round in rounds], curves))]


def summary_markdown(run: Run, title: str) -> str:
    """The scores of one judge as Markdown, set by set, for the flow `benchmark`."""
    lines = [f"# {title}", ""]
    for block in markdown_warnings(run.warnings()):
        lines += [block, ""]
    for artifact in measured(run):
        scores = json.loads(artifact.file(SCORES).read_text(encoding="utf-8"))
        lines += [f"## {set_name(artifact)}", ""]
        if "note" in scores:
            lines += [f"Note: {scores['note']}.", ""]
        lines += ["| number | value | 95% interval |", "|---|---|---|"]
        lines += [f"| {name} | {percent(value)} | {_interval(low_high)} |" for name, value, low_high in _leaves(scores)]
        baselines = {name: numbers["total"] for name, numbers in scores["baselines"].items()}
        free = ", ".join(f"{name.replace('_', ' ')} {percent(value)}" for name, value in baselines.items())
        lines += ["", f"Trivial baselines: {free}. Missing: {', '.join(scores['missing']) or 'nothing'}.", ""]
    return "\n".join(lines)


def _leaves(scores: Mapping[str, Any]) -> list[tuple[str, float, Any]]:
    found: list[tuple[str, float, Any]] = []

    def walk(numbers: Mapping[str, Any], intervals: Mapping[str, Any], prefix: str) -> None:
        for name, value in numbers.items():
            if isinstance(value, dict):
                walk(value, intervals[name], f"{prefix}{name} ")
            elif value is not None:
                found.append((f"{prefix}{name}", value, intervals[name]))

    # What has an interval is a number; the rest says how the numbers came about.
    walk({name: value for name, value in scores.items() if name in scores["intervals"]}, scores["intervals"], "")
    return found


def _interval(low_high: Any) -> str:
    return f"{percent(low_high[0])} – {percent(low_high[1])}" if low_high else "–"
