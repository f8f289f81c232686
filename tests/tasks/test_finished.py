"""A finished run is left as it is unless a start asks for something else; an unfinished one goes on with what has changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data.store.artifacts import StageError
from data.store.store import RunStore
from tasks.run.changes import announce
from tasks.run.finished import is_finished
from tasks.run.stage import Run
from tests.conftest import settings_with
from tests.support.changing import FOLLOW, algorithm, keys, made, stage


class Stopped(Exception):
    """A kill."""


def finished(folder: Path) -> bool:
    return is_finished(RunStore(folder, "demo"))


def test_a_run_is_finished_once_it_has_come_to_its_end(again: Any, tmp_path: Path) -> None:
    assert not finished(tmp_path)
    again()
    assert not finished(tmp_path), "it was stopped after its last stage"
    again(ends=True)
    assert finished(tmp_path)
    held = json.loads((tmp_path / "demo/finished.json").read_text(encoding="utf-8"))
    assert held == keys(tmp_path)


def test_a_finished_run_is_not_changed_and_what_differs_is_said(again: Any, tmp_path: Path) -> None:
    again(ends=True)
    before = keys(tmp_path)
    with pytest.raises(StageError) as caught:
        again(labels={"votes": 4})
    assert str(caught.value).startswith(
        f"the run 'demo' is finished, and was made with other settings or data:\n"
        f"  round-1/votes: votes 8 → 4, will redo: {', '.join(FOLLOW)}\nSet on_change='redo' to replace these stages"
    )
    assert (made, keys(tmp_path)) == ([], before)
    assert finished(tmp_path)


def test_a_finished_run_that_is_started_again_as_it_was_reuses_everything_and_says_so(again: Any) -> None:
    assert again(ends=True)[0] == []
    assert again() == (["all is reused"], [])
    assert again("redo") == (["all is reused"], [])


def test_a_finished_run_is_changed_if_that_start_asks_for_it(again: Any, tmp_path: Path) -> None:
    again(ends=True)
    assert again("redo", labels={"votes": 4}, ends=True)[1] == FOLLOW
    assert finished(tmp_path)
    with pytest.raises(StageError, match="votes 4 → 8"):
        again()


def test_a_run_whose_stages_are_being_made_again_is_unfinished_until_they_are(again: Any, tmp_path: Path) -> None:
    """Stopped after its first replaced stage, it is resumed with the same settings, and need not be told again to redo."""
    again(ends=True)

    def stopped(run: Run) -> None:
        data = stage(run, "data", {"share": run.settings.data.heldout_share})
        judge = stage(run, "round-0/judge", {}, data)
        cast = stage(run, "round-1/votes", {"votes": run.settings.labels.votes, "prompt": {"digest": "ab" * 32}}, judge)
        if cast.reused or made == ["round-1/votes"]:
            raise Stopped

    run = Run(RunStore(tmp_path, "demo"), settings_with(labels={"votes": 4}), 0)
    made.clear()
    with pytest.raises(Stopped):
        stopped(run)
    assert not finished(tmp_path)
    said, redone = again(labels={"votes": 4}, ends=True)
    assert redone == FOLLOW[1:]
    assert said[0].startswith("round-1/labels: input votes has changed, will redo")
    assert finished(tmp_path)


def test_a_finished_run_gets_no_new_stages_unless_that_start_asks_for_them(again: Any, tmp_path: Path) -> None:
    again(ends=True)

    def with_a_set_more(run: Run) -> None:
        algorithm(run)
        stage(run, "benchmark-other", {})

    advice = "Set on_change='redo' to add these stages, or use another run_name"
    with pytest.raises(StageError, match=f"settings or data:\n  will make: benchmark-other\n{advice}"):
        again(steps=with_a_set_more)
    assert made == []
    assert again("redo", steps=with_a_set_more, ends=True)[1] == ["benchmark-other"]
    assert again(steps=with_a_set_more) == (["all is reused"], [])


def test_failed_rows_of_a_finished_run_are_left_alone_and_that_is_said(again: Any) -> None:
    again(seed=2, ends=True)
    said, redone = again(seed=2)
    assert redone == []
    left = "2 of 10 rows failed; they are left alone, because the run is finished: set on_change='redo' to retry them"
    assert said == [f"round-1/votes: {left}", f"round-2/votes: {left}", "all is reused"]
    said, redone = again("redo", seed=2)
    assert redone == ["round-1/votes", "round-2/votes"]


def test_what_an_earlier_version_has_finished_is_known_by_its_last_stage(tmp_path: Path) -> None:
    def steps(run: Run) -> None:
        stage(run, "final", {"votes": run.settings.labels.votes})

    steps(Run(RunStore(tmp_path, "demo"), settings_with(), 0))
    assert finished(tmp_path)
    with pytest.raises(StageError, match="is finished, and was made with other settings or data"):
        announce(Run(RunStore(tmp_path, "demo"), settings_with(labels={"votes": 4}), 0), steps, "auto", print)
