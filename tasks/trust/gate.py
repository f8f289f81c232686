"""The gate after a round: whether its judge is worse than the best one so far on the same held-out games, and what follows.

A round that harms can be rolled back: the best judge labels the next batch, under stricter labels, and what the round labeled
and proved is in no later training set. If the next round harms too, there are no further rounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from data.files import read_jsonl
from data.store.artifacts import Artifact, Counts, Input, Outcome, StageError
from tasks.benchmark.games import Games, of_rows
from tasks.benchmark.play import GAMES
from tasks.benchmark.rules import decided
from tasks.benchmark.sets import read_set
from tasks.benchmark.sign_flip import added_up, units_of
from tasks.export import Candidate
from tasks.model.strictness import stricter_than
from tasks.run.rounds import HARMFUL, PASSED, ROLLED_BACK, STOPPED
from tasks.run.stage import Context, Run
from tasks.trust import watched
from tasks.trust.paired import harm_p_value, level_of_round, margin_p_value, smallest_harm, units_for_margin


@dataclass(frozen=True)
class Standing:
    """What the next round builds on: the judge that labels it, and the selected pairs that it adds its own to.

    `labels` are those of the last round that is built on, if there is one, and `best` the best judge of these rounds. `stricter`
    is by how many steps the next labels are stricter than set; `retried` means that the round before was rolled back, `stopped`
    that there is no next round.
    """

    judge: Artifact
    selected: Sequence[Artifact]
    best: Candidate
    labels: Artifact | None = None
    stricter: int = 0
    retried: bool = False
    stopped: bool = False


def gate(run: Run, heldout: Artifact, new: Candidate, selected: Sequence[Artifact], before: Standing) -> Standing:
    """Where self-training stands after a round with the judge `new`, which has learned from the `selected` pairs."""
    round, judge, benchmark = new
    labels = run.finished_stage("label", round)
    if run.settings.rounds.gate == "off":
        return replace(before, judge=judge, selected=selected, labels=labels)
    decision = held_against_best(run, heldout, new, before).manifest.metrics["decision"]
    if decision in (PASSED, HARMFUL):
        best = new if _accuracy(benchmark) > _accuracy(before.best[2]) else before.best
        return Standing(judge, selected, best, labels, before.stricter)
    steps = before.stricter + 1
    return replace(before, judge=before.best[1], stricter=steps, retried=True, stopped=decision == STOPPED)


def held_against_best(run: Run, heldout: Artifact, new: Candidate, so_far: Standing) -> Artifact:
    """The stage "gate" of a round: the test, what is watched, and the decision, in its metrics.

    Raises StageError if no pair was judged by both judges.
    """
    round, best, rounds = new[0], so_far.best[0], run.settings.rounds
    config: dict[str, Any] = {
        "gate": rounds.gate,
        "level": level_of_round(rounds.gate_level, round, rounds.count),
        "margin": rounds.gate_margin,
        "rounds": [best, round, rounds.count],
        "retried": so_far.retried,
        "min_confidence": _min_confidence(run, so_far.stricter),
    }
    inputs: dict[str, Input] = {"items": heldout, "new": new[2], "best": so_far.best[2]}
    labels = {"new-labels": run.finished_stage("label", round), "best-labels": run.finished_stage("label", best)}
    inputs |= {role: made for role, made in labels.items() if made is not None}

    def body(context: Context) -> Outcome:
        test = _tested(context, config["level"], config["margin"])
        seen, said = watched.compare(test.new, test.best, config["level"])
        if "new-labels" in context.inputs:
            before = context.artifact("best-labels").manifest if "best-labels" in context.inputs else None
            more, more_said = watched.compare_labels(context.artifact("new-labels").manifest, before)
            seen, said = {**seen, **more}, [*said, *more_said]
        decision, follows = (PASSED, "") if test.passed else _follows(config)
        metrics = {"decision": decision, "reason": test.reason(round, best) + follows, **test.facts, "watched": seen}
        outcome = Outcome(test.counts, metrics)
        return outcome.warning([*([] if test.passed else [metrics["reason"]]), *test.doubts, *said])

    return run.find_or_make(f"round-{round}/gate", "gate", config, inputs, body, round)


def _min_confidence(run: Run, steps: int) -> list[float]:
    """labels.min_confidence in this round, and in the next one if this is rolled back; empty where labels do not depend on it."""
    labels, votes = run.settings.labels, run.settings.judge_prompt.has_rationale
    if labels.source == "truth" or labels.target_precision is not None:
        return []
    asked = labels.votes if votes else None
    return [stricter_than(labels.min_confidence, labels.thresholds, steps + i, asked) for i in (0, 1)]


def _follows(config: Mapping[str, Any]) -> tuple[str, str]:
    """What a harmful round is called, and what is said of what follows it."""
    best, round, count = config["rounds"]
    if config["gate"] == "warn":
        return HARMFUL, '. Nothing follows from it, as rounds.gate = "warn"'
    if config["retried"]:
        return (
            STOPPED,
            f". The round before was rolled back too, so there are no further rounds; round {best}'s judge is the best",
        )
    rolled_back = f". It was rolled back: round {best}'s judge"
    if round == count:
        return ROLLED_BACK, f"{rolled_back} is the best, and there is no further round"
    now, then = config["min_confidence"] or (None, None)
    how = " under thresholds one step stricter" if now is None else f", labels.min_confidence {now:g} → {then:g}"
    if now is not None and now == then:
        how = f"; labels.min_confidence {now:g} is the strictest there is already"
    return ROLLED_BACK, f"{rolled_back} labels the next batch{how}"


# ---- the test ---------------------------------------------------------------------------------------------------------------


class _Test(NamedTuple):
    """The two judges' games on the pairs that are compared, and the result. `facts` are the metrics of it."""

    new: Games
    best: Games
    counts: Counts
    facts: dict[str, Any]
    passed: bool
    doubts: list[str]

    def reason(self, round: int, best: int) -> str:
        """The result in a sentence."""
        facts, points = self.facts, 100 * self.facts["difference"]
        verdict = "passed" if self.passed else "harms the judge"
        if facts["margin"] is not None and not self.passed:
            verdict = f"is not shown to be less than {100 * facts['margin']:g} points worse"
        harm = facts["smallest_harm"]
        shown = f"; a drop of {100 * harm:.1f} points or more would show" if harm else ""
        return (
            f"Round {round} {verdict}: {facts['right']:.1%} of held-out judgments are right, {facts['best_right']:.1%} "
            f"with round {best}'s judge ({points:+.1f} points, p = {facts['p_value']:.2g}, level {facts['level']:.2g}{shown})"
        )


def _tested(context: Context, level: float, margin: float | None) -> _Test:
    new, best, counts = _played(context)
    n = counts.kept
    rights = [[_right(games, place) for place in range(n)] for games in (new, best)]
    units = units_of(new.benchmark)
    changes = added_up(units, (now - then for now, then in zip(*rights, strict=True)))
    sizes = added_up(units, [2] * n)
    harm = smallest_harm(changes, 2 * n, level)
    p_value = harm_p_value(changes) if margin is None else margin_p_value(changes, sizes, margin)
    facts = {
        "right": round(sum(rights[0]) / (2 * n), 6),
        "best_right": round(sum(rights[1]) / (2 * n), 6),
        "difference": round(sum(changes) / (2 * n), 6),
        "p_value": p_value,
        "level": level,
        "margin": margin,
        "smallest_harm": harm if harm is None else round(harm, 6),
        "units": len(changes),
        "units_better": sum(change > 0 for change in changes),
        "units_worse": sum(change < 0 for change in changes),
    }
    passed = p_value > level if margin is None else p_value <= level
    return _Test(new, best, counts, facts, passed, _too_small(sizes, level, margin, harm))


def _too_small(sizes: Sequence[int], level: float, margin: float | None, harm: float | None) -> list[str]:
    """A line if these held-out pairs cannot show what they are asked for."""
    n = f"the {len(sizes)} held-out prompts are too few"
    if margin is not None and margin_p_value([0] * len(sizes), sizes, margin) > level:
        needed = units_for_margin(level, margin)
        return [
            f"{n}: with the margin of {100 * margin:g} points not even the same verdicts pass; it takes about {needed}"
        ]
    if margin is None and harm is None:
        return [f"{n}: no harm, however large, can be shown at level {level:.2g}"]
    return []


def _played(context: Context) -> tuple[Games, Games, Counts]:
    """Both judges' games on the pairs on which no engine failed: a failure is no judgment."""
    whole = read_set(context.artifact("items"))
    rows, failed = {}, set()
    for role in ("new", "best"):
        made = context.artifact(role)
        rows[role] = list(read_jsonl(made.file(GAMES)))
        failed |= {row["id"] for row in rows[role] if row["malformed"] in made.manifest.counts.failed}
    items = tuple(item for item in whole.items if item.id not in failed)
    if not items:
        raise StageError(
            "no held-out pair was judged by both judges: every one failed in an engine; see their benchmarks"
        )
    benchmark = replace(whole, items=items)
    new, best = (of_rows(benchmark, (row for row in rows[role] if row["id"] not in failed)) for role in ("new", "best"))
    return new, best, Counts(len(whole.items), len(items), {"engine_failed": len(failed)} if failed else {})


def _right(games: Games, place: int) -> int:
    """In how many of its two orders a pair is judged right, each by the majority of its votes, as the accuracy counts it."""
    item = games.benchmark.items[place]
    played = games.of(item, item.cells[0])
    return sum(decided([game for game in played if game.order == order]) > 0 for order in (0, 1))


def _accuracy(benchmark: Artifact) -> float:
    return float(benchmark.manifest.metrics["accuracy"])
