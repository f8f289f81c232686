"""What a changed setting redoes is said before it starts, and is exactly what is redone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from data.files import write_jsonl
from data.store.artifacts import Counts, NoSuchFileError, Outcome, StageError
from data.store.store import RunStore
from tasks.run.changes import announce
from tasks.run.stage import Context, Run
from tests.conftest import settings_with
from tests.support.changing import made


def test_nothing_is_said_of_a_new_run_nor_of_one_that_goes_on_unchanged(again: Any) -> None:
    said, redone = again()
    assert (said, len(redone)) == ([], 9)
    assert again() == ([], [])


def test_a_changed_setting_redoes_the_stages_that_read_it_and_what_follows_and_says_so(again: Any) -> None:
    again()
    said, redone = again(labels={"votes": 4})
    follow = ["round-1/votes", "round-1/labels", "round-1/judge", "round-2/votes", "round-2/labels", "round-2/judge"]
    assert redone == follow
    assert said == [f"round-1/votes: votes 8 → 4, will redo: {', '.join(follow)}"]


def test_two_changes_are_told_apart(again: Any) -> None:
    again()
    said, redone = again(labels={"min_confidence": 0.5}, training={"judge": {"learning_rate": 3e-4, "epochs": 1}})
    assert redone == ["round-1/labels", "round-1/judge", "round-2/votes", "round-2/labels", "round-2/judge"]
    assert said == [
        f"round-1/labels: min_confidence 0.75 → 0.5, will redo: {', '.join(redone)}",
        f"round-1/judge: learning_rate 1e-05 → 0.0003, will redo: {', '.join(redone[1:])}",
    ]
    said, redone = again(labels={"min_confidence": 0.5}, training={"judge": {"learning_rate": 1e-4, "epochs": 1}})
    assert said == [f"round-1/judge: learning_rate 0.0003 → 0.0001, will redo: {', '.join(redone)}"]
    assert redone == ["round-1/judge", "round-2/votes", "round-2/labels", "round-2/judge"]


def test_a_change_can_be_refused_before_anything_is_made(again: Any, tmp_path: Path) -> None:
    again()
    with pytest.raises(StageError) as error:
        again("refuse", labels={"votes": 4})
    assert "the run 'demo' was started with other settings or data, and on_change is 'refuse':" in str(error.value)
    assert "round-1/votes: votes 8 → 4, will redo: round-1/votes, round-1/labels" in str(error.value)
    assert made == []
    assert again("refuse") == ([], [])


def test_only_what_was_made_is_said_to_be_redone(again: Any, tmp_path: Path) -> None:
    again()
    for name in ("round-1/judge", "round-2/votes", "round-2/labels", "round-2/judge"):
        shutil.rmtree(tmp_path / "demo" / name)
    said, redone = again(labels={"votes": 4})
    assert said == ["round-1/votes: votes 8 → 4, will redo: round-1/votes, round-1/labels"]
    assert len(redone) == 6


def test_rows_that_failed_are_announced_with_what_would_follow(again: Any) -> None:
    again(seed=2)
    said, redone = again(seed=2)
    follow = "round-1/labels, round-1/judge, round-2/votes, round-2/labels, round-2/judge"
    assert said[0] == f"round-1/votes: 2 of 10 rows failed and will be retried; if one succeeds, will redo: {follow}"
    assert said[1].startswith("round-2/votes: 2 of 10 rows failed and will be retried; if one succeeds")
    assert redone == ["round-1/votes", "round-2/votes"], "the same rows failed again: nothing is stale"


def test_a_change_beside_failed_rows_is_still_said(again: Any) -> None:
    again(seed=2)
    said, _ = again(seed=2, training={"judge": {"learning_rate": 3e-4, "epochs": 1}})
    assert said[1] == (
        "round-1/judge: learning_rate 1e-05 → 0.0003, will redo: round-1/judge, round-2/votes, round-2/labels, round-2/judge"
    )


def test_who_refuses_changes_has_failed_rows_left_alone(again: Any) -> None:
    again(seed=2)
    assert again("refuse", seed=2) == ([], [])


def by_rounds(run: Run) -> None:
    """A stage with a file for each round, which what follows reads before all of it is made."""

    def batches(context: Context) -> Outcome:
        for i in range(run.settings.rounds.count):
            write_jsonl(context.work / f"batch-{i}.jsonl", [{"batch": i}])
        return Outcome(Counts(1, 1))

    data = run.find_or_make("data", "data", {"rounds": run.settings.rounds.count}, {}, batches)
    for i in range(run.settings.rounds.count):
        ref = data.ref(f"batch-{i}.jsonl")
        run.find_or_make(f"round-{i}/votes", "votes", {}, {"batch": ref}, lambda context: Outcome(Counts(1, 1)))


def test_a_run_that_grows_by_a_round_is_told_what_is_redone(tmp_path: Path) -> None:
    """The stage that will have the new round's file does not have it yet."""
    for count in (1, 2):
        run = Run(RunStore(tmp_path, "demo"), settings_with(rounds={"count": count, "pairs": 1}), 0)
        said: list[str] = []
        announce(run, by_rounds, "redo", said.append)
        by_rounds(run)
    assert len(said) == 1
    assert said[0].startswith("data: rounds 1 → 2, will redo: data")


def test_a_file_that_no_stage_will_have_is_an_error(tmp_path: Path) -> None:
    run = Run(RunStore(tmp_path, "demo"), settings_with(), 0)
    by_rounds(run)

    def wrong(run: Run) -> None:
        made = run.find_or_make(
            "data", "data", {"rounds": run.settings.rounds.count}, {}, lambda context: Outcome(Counts(1, 1))
        )
        made.ref("batch-9.jsonl")

    with pytest.raises(NoSuchFileError, match=r"has no file 'batch-9\.jsonl'"):
        announce(run, wrong, "redo", lambda line: None)
