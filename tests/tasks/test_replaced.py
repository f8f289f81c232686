"""What stands in place is never replaced unsaid, wherever the replacement comes from, and not at all if that is refused."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data.files import write_jsonl
from data.store.artifacts import Counts, Outcome, StageError
from tasks.run.stage import Context, Run
from tests.support.changing import FOLLOW, algorithm, keys, made, stage


def test_switching_back_redoes_nothing_but_says_what_is_taken_back(
    again: Any, tmp_path: Path, logged: list[logging.LogRecord]
) -> None:
    again()
    first = keys(tmp_path)
    again(labels={"votes": 4})
    second = keys(tmp_path)
    with pytest.raises(StageError, match=f"round-1/votes: votes 4 → 8, will take back: {', '.join(FOLLOW)}\nSet"):
        again("refuse")
    assert keys(tmp_path) == second != first
    assert again() == ([f"round-1/votes: votes 4 → 8, will take back: {', '.join(FOLLOW)}"], [])
    assert keys(tmp_path) == first
    taken_back = [line for line in (record.getMessage() for record in logged) if ": taken back" in line]
    assert [line.split(":")[0] for line in taken_back] == FOLLOW
    assert again("refuse") == ([], [])


def test_what_another_run_has_made_replaces_nothing_unannounced(
    again: Any, tmp_path: Path, logged: list[logging.LogRecord]
) -> None:
    again()
    first = keys(tmp_path)
    assert again(name="other", labels={"votes": 4})[0] == [], "a new run replaces nothing"
    with pytest.raises(StageError, match="round-1/votes: votes 8 → 4, will take from other: round-1/votes"):
        again("refuse", labels={"votes": 4})
    assert keys(tmp_path) == first
    said, redone = again(labels={"votes": 4})
    assert (said, redone) == ([f"round-1/votes: votes 8 → 4, will take from other: {', '.join(FOLLOW)}"], [])
    assert "round-1/votes: taken from other/round-1/votes; 10 in, 10 kept" in [record.getMessage() for record in logged]
    with pytest.raises(StageError, match="round-1/votes: votes 4 → 8, will take back: round-1/votes"):
        again("refuse")


def test_what_is_taken_and_what_is_redone_are_told_apart(again: Any, tmp_path: Path) -> None:
    again()
    again(name="other", labels={"votes": 4})
    for name in ("round-1/judge", "round-2/votes", "round-2/labels", "round-2/judge"):
        shutil.rmtree(tmp_path / "other" / name)
    said, redone = again(labels={"votes": 4})
    taken, made_again = ", ".join(FOLLOW[:2]), ", ".join(FOLLOW[2:])
    assert said == [f"round-1/votes: votes 8 → 4, will take from other: {taken}; will redo: {made_again}"]
    assert redone == FOLLOW[2:]


def test_a_change_that_leads_to_the_same_content_replaces_nothing_else(again: Any) -> None:
    def steps(run: Run) -> None:
        def body(context: Context) -> Outcome:
            write_jsonl(context.work / "rows.jsonl", [{"always": "the same"}])
            return Outcome(Counts(1, 1))

        data = run.find_or_make("data", "data", {"votes": run.settings.labels.votes}, {}, body)
        stage(run, "judge", {}, data)

    again(steps=steps)
    said, redone = again(steps=steps, labels={"votes": 4})
    assert (said, redone) == (["data: votes 8 → 4, will redo: data, judge"], []), "not known before it is made"
    assert again(steps=steps) == (["data: votes 4 → 8, will take back: data"], [])


def with_overlap(new_set: bool) -> Callable[[Run], None]:
    """The algorithm, after a benchmark's stage if there is one, and before one that reads it."""

    def steps(run: Run) -> None:
        sets = [stage(run, "benchmarks/new", {})] if new_set else []
        algorithm(run)
        data = run.finished_stage("data")
        assert data is not None
        stage(run, "overlap", {}, data, *sets)

    return steps


def test_a_stage_that_is_new_does_not_hide_the_changes_after_it(again: Any) -> None:
    again(steps=with_overlap(False))
    said, redone = again(steps=with_overlap(True), labels={"votes": 4})
    assert said == [
        f"round-1/votes: votes 8 → 4, will redo: {', '.join(FOLLOW)}",
        "overlap: input new has changed, will redo: overlap",
    ]
    assert redone == ["benchmarks/new", *FOLLOW, "overlap"]


def test_what_a_new_stage_replaces_is_refused(again: Any) -> None:
    again(steps=with_overlap(False))
    with pytest.raises(StageError, match="'refuse':\n  overlap: input new has changed, will redo: overlap\nSet"):
        again("refuse", steps=with_overlap(True))
    assert made == []


def with_new_results(new: bool) -> Callable[[Run], None]:
    """Reads a number of a new stage before the others are gone through."""

    def steps(run: Run) -> None:
        if new:
            assert stage(run, "benchmarks/new", {}).manifest.metrics["attempts"] == 2
        algorithm(run)

    return steps


def test_what_cannot_be_foreseen_is_said_and_refused_just_before_it_happens(again: Any, tmp_path: Path) -> None:
    again(steps=with_new_results(False))
    before = keys(tmp_path)
    with pytest.raises(StageError, match="'refuse':\n  round-1/votes: votes 8 → 4, will redo: round-1/votes\nSet"):
        again("refuse", steps=with_new_results(True), labels={"votes": 4})
    assert made == ["benchmarks/new"]
    assert before.items() <= keys(tmp_path).items()
    shutil.rmtree(tmp_path / "demo/benchmarks")
    said, redone = again(steps=with_new_results(True), labels={"votes": 4})
    assert redone == ["benchmarks/new", *FOLLOW]
    assert said[0] == "round-1/votes: votes 8 → 4, will redo: round-1/votes"
    assert [line.split(":")[0] for line in said] == FOLLOW


def exported(run: Run) -> None:
    """A stage whose settings repeat results, as the model card does."""
    votes = run.settings.labels.votes
    judge = stage(run, "judge", {"votes": votes})
    stage(
        run, "final/export", {"card": {"rounds": [{"round": 0, "accuracy": votes / 10, "interval": [0.1, 0.9]}]}}, judge
    )


def test_results_that_a_stage_repeats_are_no_change_of_their_own(again: Any) -> None:
    again(steps=exported)
    again(steps=exported, labels={"votes": 4})
    said, _ = again(steps=exported)
    assert said == ["judge: votes 4 → 8, will take back: judge, final/export"]


def test_long_values_are_not_shown(again: Any) -> None:
    def steps(run: Run) -> None:
        stage(run, "data", {"card": {"rounds": [{"round": run.settings.labels.votes, "name": "x" * 50}]}})

    again(steps=steps)
    assert again(steps=steps, labels={"votes": 4})[0] == ["data: card.rounds has changed, will redo: data"]
