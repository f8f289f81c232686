"""How long a stage was worked on: over all attempts, however they ended, and nothing of it in its content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from data.store.artifacts import Outcome
from data.store.store import RunStore
from data.store.worked import WORKED, note_work
from tests.support.stages import STAGE, began_earlier, writes


def works(seconds: float, then: Callable[[Path], Outcome]) -> Callable[[Path], Outcome]:
    """A stage's body that began so many seconds ago, and then goes on like another one."""

    def body(work: Path) -> Outcome:
        began_earlier(work, seconds)
        note_work(work)
        return then(work)

    return body


def killed(work: Path) -> Outcome:
    raise KeyboardInterrupt


def test_the_seconds_of_a_stage_are_those_of_all_attempts(tmp_path: Path) -> None:
    undisturbed = RunStore(tmp_path / "other", "demo").run(STAGE, writes("x\n"))
    store = RunStore(tmp_path / "store", "demo")
    for seconds in (100, 50):
        with pytest.raises(KeyboardInterrupt):
            store.run(STAGE, works(seconds, killed))
    made = store.run(STAGE, writes("x\n"))
    assert (made.manifest.earlier_s, made.manifest.seconds) == (pytest.approx(150, abs=5), pytest.approx(150, abs=5))
    assert made.manifest.seconds >= made.manifest.earlier_s
    assert undisturbed.manifest.earlier_s == 0
    assert (made.manifest.key, made.content) == (undisturbed.manifest.key, undisturbed.content)
    assert [path.name for path in made.path.iterdir() if path.name.startswith(".")] == []


def test_a_finished_stage_that_is_taken_up_again_keeps_its_seconds_once(tmp_path: Path) -> None:
    store = RunStore(tmp_path, "demo")
    for body in (works(100, killed), writes("x\n")):
        try:
            store.run(STAGE, body)
        except KeyboardInterrupt:
            continue
    for body in (works(30, killed), works(20, killed), writes("y\n")):
        try:
            made = store.run(STAGE, body, take_up_again=lambda manifest: True)
        except KeyboardInterrupt:
            continue
    assert made.file("labels.jsonl").read_text() == "y\n"
    assert made.manifest.seconds == pytest.approx(150, abs=5)


def test_a_note_is_not_written_at_every_step_and_not_where_nothing_is_under_way(tmp_path: Path) -> None:
    seen: list[tuple[bytes, bytes]] = []

    def looks(work: Path) -> Outcome:
        before = (work / WORKED).read_bytes()
        note_work(work)
        seen.append((before, (work / WORKED).read_bytes()))
        return writes("x\n")(work)

    RunStore(tmp_path, "demo").run(STAGE, looks)
    assert seen[0][0] == seen[0][1]
    note_work(tmp_path / "ended")
    assert not (tmp_path / "ended").exists()
