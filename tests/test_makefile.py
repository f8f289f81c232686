"""What `make setup` begins with; what `make clean` and `make clean-all` remove, and what they leave."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

DEMO = (
    "runs/demo/report.html",
    "runs/world/seed-0/heldout.jsonl",
    ".venv/pyvenv.cfg",
    ".venv/.begun",
    ".trainers/verl",
    ".label-studio/sdk",
)
OTHERS = ("runs/paper/manifest.json", "runs/world/seed-1/heldout.jsonl", ".prefect/prefect.db")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text(encoding="utf-8"), encoding="utf-8")
    for name in (*DEMO, *OTHERS):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def run_make(folder: Path, *arguments: str, answer: str | None = None) -> tuple[int, str]:
    """The exit code and the output; with an answer, its input is a terminal."""
    ours, theirs = pty.openpty() if answer is not None else (-1, subprocess.DEVNULL)
    if answer is not None:
        os.write(ours, f"{answer}\n".encode())
    done = subprocess.run(
        ["make", *arguments], cwd=folder, stdin=theirs, capture_output=True, text=True, timeout=60, check=False
    )
    if answer is not None:
        os.close(ours)
        os.close(theirs)
    return done.returncode, done.stdout + done.stderr


def own_environment(folder: Path) -> str:
    """An environment that someone made without make."""
    (folder / "mine").mkdir()
    (folder / "mine/pyvenv.cfg").touch()
    return "mine"


def there(folder: Path, names: tuple[str, ...]) -> list[str]:
    return [name for name in names if (folder / name).exists()]


def test_clean_removes_what_the_demo_made_and_names_what_it_keeps(folder: Path) -> None:
    code, said = run_make(folder, "clean")
    assert code == 0, said
    assert there(folder, DEMO) == []
    assert there(folder, OTHERS) == list(OTHERS)
    assert all(f"kept: {name}\n" in said for name in ("runs/paper", "runs/world", ".prefect"))
    assert run_make(folder, "clean")[0] == 0, "nothing left to remove is no error"


def test_clean_leaves_no_empty_folders(folder: Path) -> None:
    for name in OTHERS[:2]:
        (folder / name).unlink()
        (folder / name).parent.rmdir()
    assert run_make(folder, "clean")[0] == 0
    assert not (folder / "runs").exists()


def test_the_demo_writes_the_worlds_files_where_its_newest_is_missing(folder: Path) -> None:
    """A folder that was written before the world had calibration pairs has the others."""
    (folder / "pyproject.toml").touch()
    calibration = folder / "runs/world/seed-0/calibration.jsonl"
    command = "gram-r2 world --out runs/world/seed-0 --seed 0"
    assert command in run_make(folder, "--dry-run", "demo")[1]
    calibration.touch()
    assert command not in run_make(folder, "--dry-run", "demo")[1]


@pytest.mark.parametrize("target", ["clean", "clean-all"])
def test_a_folder_that_is_no_environment_of_makes_is_not_removed(folder: Path, target: str) -> None:
    for name in ("runs/paper", "mine"):
        code, said = run_make(folder, target, f"VENV={own_environment(folder) if name == 'mine' else name}", "YES=1")
        assert code != 0
        assert f"{name} is not an environment that make set up: nothing was removed" in said
    assert (folder / "mine/pyvenv.cfg").exists()
    assert there(folder, DEMO + OTHERS) == list(DEMO + OTHERS)


@pytest.mark.parametrize(
    ("answer", "removed"), [("y", True), ("YES", True), ("n", False), ("", False), ("yonder", False)]
)
def test_clean_all_asks_first(folder: Path, answer: str, removed: bool) -> None:
    code, said = run_make(folder, "clean-all", answer=answer)
    assert "runs/paper" in said
    assert "Remove all of these? [y/N]" in said
    assert (code == 0) == removed
    assert there(folder, DEMO + OTHERS) == ([] if removed else list(DEMO + OTHERS))


def test_clean_all_refuses_without_a_terminal(folder: Path) -> None:
    code, said = run_make(folder, "clean-all")
    assert code != 0
    assert "use make clean-all YES=1" in said
    assert there(folder, DEMO + OTHERS) == list(DEMO + OTHERS)


def test_clean_all_needs_no_terminal_where_yes_is_given(folder: Path) -> None:
    assert run_make(folder, "clean-all", "YES=1")[0] == 0
    assert there(folder, DEMO + OTHERS) == []


def test_a_python_that_is_not_allowed_is_refused_before_anything_is_made(folder: Path) -> None:
    (folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text(encoding="utf-8"), encoding="utf-8")
    newer = folder / "newer"
    newer.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 99); exec(sys.argv[1])" "$2"\n'
    )
    newer.chmod(0o755)
    for python in (str(newer), "no-such-python"):
        code, said = run_make(folder, "setup", f"PYTHON={python}", "VENV=new")
        assert code != 0
        assert (
            f"PYTHON={python} is not there, or is not of a version that is allowed (>=3.11,<3.13): give another" in said
        )
        assert not (folder / "new").exists()


def test_what_a_failed_set_up_has_left_is_cleared(folder: Path) -> None:
    (folder / "pyproject.toml").touch()
    assert "-m venv --clear --without-pip .venv" in run_make(folder, "--dry-run", "setup")[1]
    assert "--clear" not in run_make(folder, "--dry-run", "setup", "VENV=runs/paper")[1], "it is no environment"
    (folder / ".venv/.ready-cpu").touch()
    (folder / "pyproject.toml").touch()
    os.utime(folder / ".venv/.ready-cpu", (0, 0))
    assert "-m venv  --without-pip .venv" in run_make(folder, "--dry-run", "setup")[1]


def test_an_environment_that_make_did_not_set_up_is_refused_before_anything_is_done(folder: Path) -> None:
    (folder / "pyproject.toml").touch()
    code, said = run_make(folder, "setup", f"VENV={own_environment(folder)}", "PYTHON=no-such-python")
    assert code != 0
    assert "mine is an environment that make did not set up: give another VENV=…, or remove it first" in said
    assert [one.name for one in (folder / "mine").iterdir()] == ["pyvenv.cfg"]
