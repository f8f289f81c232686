"""Child processes: what they say arrives, how they fail is told, and none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest

from tasks.machine.child import ChildError, Command, run_children
from tasks.machine.gpus import claim_gpus, visible_gpus
from tests.conftest import ROOT

HELPERS = "tests.support.child_helpers"
PATHS = {"PYTHONPATH": str(ROOT)}


def helper(what: str, *arguments: str, label: str = "child") -> Command:
    return Command(HELPERS, [what, *arguments], PATHS, label)


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts helpers as the test itself; all have ended after the test."""
    started: list[subprocess.Popen[str]] = []

    def start_one(what: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", HELPERS, what, *arguments],
                env={**os.environ, **PATHS, "PYTHONUNBUFFERED": "1", **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield start_one
    for process in started:
        process.kill()
        process.communicate()


class Heard:
    """Runs children and keeps what arrives."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "logs/child.log"
        self.lines: list[str] = []
        self.progress: list[tuple[str, dict[str, Any]]] = []

    def run(self, *commands: Command) -> None:
        run_children(commands, self.log, self.lines.append, lambda label, facts: self.progress.append((label, facts)))


@pytest.fixture
def heard(tmp_path: Path) -> Heard:
    return Heard(tmp_path)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def pid_in(file: Path) -> int:
    assert within(20, lambda: file.exists() and file.read_text().isdigit()), f"{file} was not written"
    return int(file.read_text())


# ---- what arrives ------------------------------------------------------------------------------------------------------


def test_lines_and_progress_arrive_with_the_label_of_their_child(heard: Heard) -> None:
    heard.run(helper("say", "one", "two", label="engine 0"), helper("say", "three", label="engine 1"))
    assert [line for line in heard.lines if "engine 0" in line] == ["[engine 0] one", "[engine 0] two"]
    assert [line for line in heard.lines if "engine 1" in line] == ["[engine 1] three"]
    for label in ("engine 0", "engine 1"):
        assert [facts["done"] for who, facts in heard.progress if who == label] == [1, 2]
    assert sorted(heard.log.read_text().split()) == ["one", "three", "two"]


def test_a_child_reports_its_own_peak_of_memory_or_that_of_its_largest_child(heard: Heard) -> None:
    """Not that of the process that started it, which holds more."""
    held = bytearray(400 << 20)
    heard.run(helper("hold_memory", "10", label="small"), helper("hold_memory", "200", label="large"))
    heard.run(helper("hold_memory", "10", "200", label="parent"))
    peaks = {label: facts["memory_mib"] for label, facts in heard.progress}
    assert len(held) == 400 << 20
    assert 10 < peaks["small"] < 380
    assert peaks["large"] > peaks["small"] + 150
    assert peaks["parent"] > 200


def test_the_log_of_an_earlier_attempt_is_kept(heard: Heard) -> None:
    heard.run(helper("say", "first"))
    heard.run(helper("say", "second"))
    assert heard.log.read_text() == "first\nsecond\n"


def test_long_lines_broken_bytes_and_a_missing_line_break_arrive(heard: Heard) -> None:
    heard.run(helper("odd_output"))
    long, *rest = heard.lines
    assert long == "[child] " + "x" * 1_000_000 + "é"
    assert rest == ["[child] \ufffd\ufffd broken", "[child] bar", "[child] the end"]


def test_text_around_progress_arrives_too(heard: Heard) -> None:
    heard.run(helper("say_after_a_message"))
    assert heard.progress == [("child", {"done": 1})]
    assert heard.lines == ["[child] before", "[child]  after"]


def test_text_that_looks_like_progress_is_a_line(heard: Heard) -> None:
    heard.run(helper("repeat_a_mark"))
    assert heard.progress == []
    assert len(heard.lines) == 2


# ---- how they fail -----------------------------------------------------------------------------------------------------


def test_a_failing_child_is_told_with_its_exit_code_and_last_lines(heard: Heard) -> None:
    with pytest.raises(ChildError) as caught:
        heard.run(helper("fail", "3", "60", label="train"))
    message = str(caught.value)
    assert message.startswith(f"train failed with exit code 3. Its log: {heard.log}. Its last lines:\n")
    assert message.endswith("line 58\nline 59\nValueError: what went wrong")
    assert "line 0\n" not in message  # only the last 40
    assert "line 0\n" in heard.log.read_text()


def test_a_killed_child_is_told_by_its_signal(heard: Heard) -> None:
    with pytest.raises(ChildError, match=r"child was killed by SIGKILL \(out of memory\?\)\..*\nstill here$"):
        heard.run(helper("kill_itself", "SIGKILL"))
    with pytest.raises(ChildError, match=r"child was killed by SIGSEGV\. "):
        heard.run(helper("kill_itself", "SIGSEGV"))


def test_one_failing_child_ends_the_other(heard: Heard, tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(ChildError, match="second failed with exit code 5"):
        heard.run(helper("wait", str(tmp_path / "pid"), label="first"), helper("fail", "5", label="second"))
    assert time.monotonic() - started < 20
    if (tmp_path / "pid").exists():  # it may have been ended before it could say who it is
        assert not is_alive(pid_in(tmp_path / "pid"))


@pytest.mark.parametrize("what", ["wait", "wait_stubbornly"])
def test_an_error_in_a_callback_ends_the_children(tmp_path: Path, what: str) -> None:
    """The one that ignores SIGTERM is killed after a grace of 5 s."""

    def raises(line: str) -> None:
        raise ZeroDivisionError(line)

    with pytest.raises(ZeroDivisionError, match=r"\[child\] waiting"):
        run_children([helper(what, str(tmp_path / "pid"))], tmp_path / "log", raises, lambda label, facts: None)
    assert not is_alive(pid_in(tmp_path / "pid"))


def test_a_child_that_cannot_start_leaves_no_other_behind(heard: Heard, tmp_path: Path) -> None:
    broken = Command(HELPERS, ["say"], {"NUL\0": "x"}, "broken")
    with pytest.raises(ValueError, match="null"):
        heard.run(helper("wait", str(tmp_path / "pid")), broken)
    time.sleep(0.5)
    assert not (tmp_path / "pid").exists() or not is_alive(pid_in(tmp_path / "pid"))


# ---- none is left behind ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_parent_that_is_killed_takes_its_child_along(start: Start, tmp_path: Path, number: int) -> None:
    parent = start("parent", str(tmp_path))
    child = pid_in(tmp_path / "child.pid")
    assert is_alive(child)
    parent.send_signal(number)
    parent.wait(timeout=10)
    assert within(5, lambda: not is_alive(child))


def test_a_child_whose_parent_is_already_gone_ends_at_once(heard: Heard) -> None:
    with pytest.raises(ChildError, match="exit code 1") as caught:
        heard.run(helper("orphan"))
    assert "the parent process is gone" in str(caught.value)
    assert heard.lines == ["[child] the parent process is gone"]


@pytest.fixture
def grandchild(tmp_path: Path) -> Iterator[Path]:
    """Where a grandchild's id is written; it is ended after the test."""
    file = tmp_path / "grandchild.pid"
    yield file
    with suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int(file.read_text()), signal.SIGKILL)


@pytest.mark.parametrize("code", [0, 7])
def test_a_grandchild_that_holds_the_pipe_does_not_hang_the_parent(heard: Heard, grandchild: Path, code: int) -> None:
    started = time.monotonic()
    with pytest.raises(ChildError, match="exit code 7") if code else nullcontext():
        heard.run(helper("leave_grandchild", str(grandchild), str(code), ""))
    assert is_alive(pid_in(grandchild))
    assert heard.lines == ["[child] the child ends"]
    assert time.monotonic() - started < 20


def test_an_unfinished_last_line_arrives_although_a_grandchild_holds_the_pipe(heard: Heard, grandchild: Path) -> None:
    heard.run(helper("leave_grandchild", str(grandchild), "0", "last words"))
    assert heard.lines[-1] == "[child] last words"


# ---- locks ---------------------------------------------------------------------------------------------------------------


def line_from(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def three(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Names of three GPUs that no other test has."""
    names = [f"test-{os.getpid()}-{i}" for i in range(3)]
    yield names
    for name in names:
        Path(f"/tmp/gram-r2-locks-{os.getuid()}/gpu-{name}.lock").unlink(missing_ok=True)


def test_a_gpu_has_one_process_and_is_free_when_that_is_killed(start: Start, tmp_path: Path, three: list[str]) -> None:
    x, y, _ = three
    first = start("hold_gpus", x, "1")
    assert line_from(first) == f"has {x}"
    assert line_from(start("hold_gpus", f"{x},{y}", "1")) == f"has {y}"
    # Another idea of where temporary files go is the same lock.
    third = start("hold_gpus", x, "1", TMPDIR=str(tmp_path))
    assert line_from(third) == f"waiting for GPU {x}, held by process {first.pid}"
    time.sleep(0.3)
    assert third.poll() is None
    first.kill()
    assert line_from(third) == f"has {x}"
    assert Path(f"/tmp/gram-r2-locks-{os.getuid()}/gpu-{x}.lock").read_text() == str(third.pid)


def test_who_waits_for_several_gpus_holds_none_meanwhile(start: Start, three: list[str]) -> None:
    x, y, z = three
    first = start("hold_gpus", y, "1")
    assert line_from(first) == f"has {y}"
    two = start("hold_gpus", f"{x},{y}", "2")
    assert line_from(two) == f"waiting for GPU {y}, held by process {first.pid}"
    third = start("hold_gpus", f"{x},{z}", "2")
    said = line_from(third)
    while said.startswith("waiting for"):  # the second looked at the same time
        said = line_from(third)
    assert said == f"has {x},{z}"


def test_more_gpus_than_there_are_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(ValueError, match="3 GPUs are needed, but only 2 are visible: 0, 1"):
        claim_gpus(3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert claim_gpus(3) == []


@pytest.mark.parametrize(("given", "seen"), [("0,2", ["0", "2"]), ("", []), ("-1", []), (" 3 ", ["3"])])
def test_the_environment_says_which_gpus_may_be_used(
    monkeypatch: pytest.MonkeyPatch, given: str, seen: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert visible_gpus() == seen
