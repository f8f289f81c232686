"""``gram-r2`` as a whole: its help, its completion, and how quickly it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from flows.cli.app import app
from flows.cli.given import recipe_names
from flows.config.recipes import recipe_files
from tests.conftest import ROOT
from tests.support.commands import gram_r2

HEAVY = ("torch", "vllm", "transformers", "trl", "datasets", "prefect", "pyarrow", "matplotlib")


def commands() -> Iterator[tuple[str, typer.core.TyperCommand]]:
    yield from get_command(app).commands.items()  # type: ignore[attr-defined]


def python(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)


def test_help_is_quick_as_it_loads_nothing_heavy() -> None:
    program = (
        "import sys; from tests.support.commands import gram_r2, words_of_commands\n"
        "for words in words_of_commands(): gram_r2(*words, '--help')\nprint(*sys.modules)"
    )
    done = python("-c", program)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "flows.cli.run" in loaded
    assert not loaded.intersection(HEAVY)


def test_the_help_is_worth_reading() -> None:
    """Every command has a panel, and a first sentence that fits a line or two."""
    text = gram_r2("--help").out
    for panel in ("Start here", "Runs", "Models and data", "Server"):
        assert f"─ {panel} ─" in text
    for name, command in commands():
        said = command.help or ""
        assert 30 <= len(said.split("\n")[0]) <= 130, name


def test_recipes_and_runs_are_completed(tmp_path: Path) -> None:
    assert recipe_names("llama-3.2-3b") == ["llama-3.2-3b", "llama-3.2-3b-lora"]
    names = {path.stem if flow == "self-train" else f"{flow}/{path.stem}" for flow, path in recipe_files()}
    assert set(recipe_names("")) == names
    (tmp_path / "runs/mine").mkdir(parents=True)
    (tmp_path / "runs/mine/metrics.jsonl").touch()
    for words, completed in (("gram-r2 run ada", "adapt/demo"), ("gram-r2 open m", "mine")):
        done = subprocess.run(
            [sys.executable, "-m", "flows.cli.app"],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "_GRAM_R2_COMPLETE": "complete_bash",
                "COMP_WORDS": words,
                "COMP_CWORD": "2",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert completed in done.stdout.split(), done.stderr


def test_the_built_in_recipes_are_listed() -> None:
    done = gram_r2("recipes")
    assert done.code == 0
    assert len(done.out.splitlines()) == len(recipe_files())
    assert "demo " in done.out
    assert "two CPU cores" in done.out


@pytest.mark.parametrize(
    "arguments", [["chekc"], ["check"], ["check", "demo", "--no-such"], ["run", "demo", "--on-change", "x"]]
)
def test_a_command_that_is_mistyped_is_said_so_without_a_traceback(arguments: list[str]) -> None:
    done = gram_r2(*arguments)
    assert done.code == 2
    assert "Traceback" not in done.err
    assert "Usage: gram-r2" in done.err
