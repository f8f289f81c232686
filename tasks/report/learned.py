"""Whether a run's judge has learned: against guessing, against the first judge, and against labels without self-training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data.files import read_jsonl
from data.store.artifacts import Artifact
from tasks.baselines import CHANCE
from tasks.benchmark.compare import compare
from tasks.benchmark.games import Games, of_rows
from tasks.benchmark.play import GAMES, measured
from tasks.benchmark.sets import HELD_OUT, ITEMS, read_set
from tasks.page.rendering import percent
from tasks.run.rounds import Row, best_round
from tasks.run.stage import Run

LEVEL = 0.05
"""Below it, a p-value is called significant; customary."""


@dataclass(frozen=True)
class Gain:
    """How much more accurate a judge is than the first one on the same held-out judgments, in 0…1, with its 95% interval."""

    difference: float
    interval: tuple[float, float]
    p_value: float

    @property
    def shown(self) -> str:
        """Percentage points."""
        return f"{100 * self.difference:+.1f}"

    @property
    def range(self) -> str:
        low, high = (100 * end for end in self.interval)
        return f"{low:+.1f} to {high:+.1f}"


@dataclass(frozen=True)
class Control:
    """A judge trained on the labels alone, without rationales and without self-training."""

    name: str
    accuracy: float
    interval: Sequence[float] | None


def gains(run: Run) -> dict[int, Gain]:
    """By round, the gain over round 0; without rounds whose games, or whose pairs, are no longer stored."""
    stages = {a.manifest.round: a for a in run.finished_stages() if a.manifest.kind == "benchmark"}
    sets = [a for a in run.finished_stages() if a.manifest.name == f"benchmarks/{HELD_OUT}"]
    if not sets or 0 not in stages or not (_has(sets[0], ITEMS) and _has(stages[0], GAMES)):
        return {}
    benchmark = read_set(sets[0])

    def played(stage: Artifact) -> Games:
        return of_rows(benchmark, read_jsonl(stage.file(GAMES)))

    first = played(stages[0])
    later = {i: stage for i, stage in stages.items() if i and _has(stage, GAMES)}
    found = {i: _gain(first, played(stage)) for i, stage in later.items()}
    return {i: gain for i, gain in found.items() if gain is not None}


def _has(stage: Artifact, name: str) -> bool:
    return name in stage.manifest.files and name not in stage.manifest.retired


def _gain(first: Games, other: Games) -> Gain | None:
    compared = compare(first, other)
    if compared["difference"]["total"] is None:  # one of them lacks all the games of a data set
        return None
    low, high = compared["intervals"]["total"]
    return Gain(compared["difference"]["total"], (low, high), compared["sign_flip"]["p_value"])


def controls(run: Run) -> list[Control]:
    """The run's judges of labels without rationales: those that belong to no round, and a first judge without any."""
    first = run.finished_stage("benchmark", 0)
    found = []
    if first is not None and not run.settings.writes_proofs():
        metrics = first.manifest.metrics
        found.append(Control("round 0", metrics["accuracy"], metrics["interval"]))
    return found + [
        Control(a.manifest.name.rpartition("/")[0], a.manifest.metrics["accuracy"], a.manifest.metrics["interval"])
        for a in measured(run)
        if (a.manifest.kind, a.manifest.round) == ("benchmark", None) and a.manifest.metrics["accuracy"] is not None
    ]


def answer(table: Sequence[Row], found: Mapping[int, Gain]) -> str:
    """Whether the judge has learned, in a sentence or two; `table` is that of the rounds."""
    rows, best = [row for row in table if row["accuracy"] is not None], best_round(list(table))
    if best is None:
        return "Not known yet: no judge has been measured."
    judged = f"{_judge_of(best)} is right in {percent(best['accuracy'])} of held-out judgments"
    if best["interval"]:
        judged += f" (95% interval {percent(best['interval'][0])} to {percent(best['interval'][1])})"
    judged += f", {_points(best['accuracy'] - CHANCE)} guessing"
    if rows[0]["round"] != 0 or len(rows) == 1:
        return f"{judged}. There is no later round to compare it with."
    if rows[0]["accuracy"] == 1:
        return f"The held-out pairs cannot tell: the first judge is right in all of them. {judged}."
    if best["round"] == 0:
        return f"Not by self-training: no round is better than the first judge. {judged}."
    gain = found.get(best["round"])
    against = f"and {_points(best['accuracy'] - rows[0]['accuracy'])} the first judge"
    if gain is None:
        return f"{judged} {against}; whether that is more than chance was not measured."
    certain = gain.interval[0] > 0 and gain.p_value < LEVEL
    sure = "Yes." if certain else "Not certain: the difference to the first judge may be chance."
    return f"{sure} {judged} {against} (95% interval {gain.range})."


def _judge_of(row: Row) -> str:
    return "The judge after the final fine-tuning" if row["name"] == "final" else f"The judge of round {row['name']}"


def _points(difference: float) -> str:
    return f"{abs(100 * difference):.1f} points {'more' if difference >= 0 else 'less'} than"
