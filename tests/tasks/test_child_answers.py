"""Child processes that ask their parent, that are started again, and that are not waited for."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.machine.child import QUESTION, ChildError, run_children
from tests.tasks.test_child import helper


def test_each_child_gets_the_answers_to_its_own_questions(tmp_path: Path) -> None:
    numbers = iter([1, 2, 3, 4])
    lines: list[str] = []
    asked: list[tuple[str, str]] = []

    def answer(label: str, facts: dict[str, Any]) -> object:
        asked.append((label, facts[QUESTION]))
        return {"asker": label, "number": next(numbers, None)}

    children = [replace(helper("ask", label=label), asks=True) for label in ("one", "two")]
    run_children(children, tmp_path / "log", lines.append, answer)
    assert sorted(line[-1] for line in lines) == ["1", "2", "3", "4"]
    assert all(line.startswith(("[one] one has", "[two] two has")) for line in lines)
    assert set(asked) == {("one", "a number"), ("two", "a number")}


def test_a_question_within_a_line_is_answered_and_the_line_kept(tmp_path: Path) -> None:
    """A bar of progress, which goes to the same pipe, is not followed by a line break until it is full."""
    lines: list[str] = []
    asks = replace(helper("ask_within_a_line"), asks=True)
    late = time.monotonic() + 120  # it would wait for its answer for ever
    run_children(
        [asks], tmp_path / "log", lines.append, lambda label, facts: {"number": 7},
        enough=lambda: time.monotonic() > late,
    )  # fmt: skip
    assert lines == ["[child] 50%|███", "[child]  has number 7"]
    assert (tmp_path / "log").read_text() == "50%|███\n has number 7\n"


def test_a_child_that_failed_is_started_again_while_the_others_go_on(tmp_path: Path) -> None:
    lines: list[str] = []
    failed: list[str] = []

    def again(label: str, error: ChildError) -> bool:
        failed.append(str(error).split(".")[0])
        return True

    commands = [helper("fail_once", str(tmp_path / "mark"), label="weak"), helper("say", "hello", label="strong")]
    run_children(commands, tmp_path / "log", lines.append, lambda label, facts: None, again)
    assert failed == ["weak failed with exit code 3"]
    assert sorted(lines) == ["[strong] hello", "[weak] lives"]


def test_a_child_that_is_given_up_does_not_end_the_others(tmp_path: Path) -> None:
    lines: list[str] = []
    commands = [helper("fail", "3", label="weak"), helper("say", "hello", label="strong")]
    run_children(commands, tmp_path / "log", lines.append, lambda label, facts: None, lambda label, error: False)
    assert "[strong] hello" in lines


def test_a_child_is_not_waited_for_when_there_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.machine.child._GRACE_S", 0.3)
    ended: list[str] = []
    commands = [helper("wait", str(tmp_path / "pid"), label="idle"), helper("say", "done", label="busy")]

    def heard(label: str, facts: dict[str, Any]) -> None:
        ended.append(label)

    run_children(
        commands, tmp_path / "log", lambda line: None, heard,
        enough=lambda: (tmp_path / "pid").exists() and "busy" in ended,
    )  # fmt: skip
    assert ended == ["busy", "busy"]
