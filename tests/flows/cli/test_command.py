"""What all sub-commands have in common: help, completion, their output, and how they end on bad input."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from typing import get_args

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner, Result

from flows.cli.app import app
from flows.cli.errors import InputError, ServerError, bad_input, command
from flows.cli.values import pairs, values
from prompts.catalog import JUDGE_PROMPTS, JudgePromptName
from tests.conftest import ROOT
from tests.support.commands import COMMAND, gram_r2, words_of_commands

# ---- help ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", list(words_of_commands())[1:], ids=" ".join)
def test_the_help_of_each_command_says_what_every_option_is(words: tuple[str, ...]) -> None:
    found = get_command(app)
    for word in words:
        found = found.commands[word]  # type: ignore[attr-defined]
    assert found.help
    assert not [param.name for param in found.params if not getattr(param, "help", None)]
    done = gram_r2(*words, "--help")
    assert done.code == 0
    assert max(map(len, found.help.split("\n")[1:]), default=0) <= 78, "lines are not wrapped a second time"
    examples = list(examples_in(found.help))
    assert any(example[: len(words)] == list(words) for example in examples)
    for example in examples:
        parse(example)


def examples_in(text: str) -> Iterator[list[str]]:
    """The arguments of each example of ours in a command's help. Further lines of an example are indented more."""
    for lines in re.split(r"\n  (?=\S)", text.partition("Examples:")[2]):
        variables, program, arguments = lines.partition("gram-r2 ")
        if program and all("=" in word for word in variables.split()):
            yield shlex.split(arguments.replace("\\\n", ""))


def parse(arguments: list[str]) -> None:
    """Raises an error if a command does not take the arguments."""
    found, words = get_command(app), list(arguments)
    while hasattr(found, "commands"):
        found, words = found.commands[words[0]], words[1:]
    if "--help" not in words:
        found.make_context(" ".join(arguments), words)


def test_an_example_with_an_option_that_is_not_there_is_noticed() -> None:
    assert list(
        examples_in("X.\n\nExamples:\n  A=1 gram-r2 up\n  prefect run gram-r2 x\n  gram-r2 run a \\\n    --x\n")
    ) == [
        ["up"],
        ["run", "a", "--x"],
    ]
    with pytest.raises(Exception, match="No such option: --x"):
        parse(["run", "a", "--x"])


@pytest.mark.parametrize("words", [("--help",), ("rank", "--help"), ("rank", "--votes", "none")])
def test_help_and_usage_print_to_any_output(words: tuple[str, ...]) -> None:
    """The texts have characters that ASCII has not, as every … here."""
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*COMMAND, *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == (0 if "--help" in words else 2)
    assert "Usage: gram-r2" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


# ---- completion ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("pl", {"plan"}),
        ("benchmark ", {"score", "compare"}),
        ("describe help", {"helpsteer3"}),
        ("describe rows.jsonl --format gram-", {"gram-pre-training", "gram-fine-tuning", "gram-rr"}),
        ("describe rows.jsonl --benchmark reward", {"reward-bench", "reward-bench-2"}),
        ("rank b", {"best-of-n"}),
        ("rank rank in out --prompt ", set(JUDGE_PROMPTS)),
        ("benchmark score games.jsonl --benchmark ju", {"judgebench"}),
    ],
)
def test_the_shell_completes_commands_and_values(typed: str, offered: set[str]) -> None:
    words = f"gram-r2 {typed}"
    asked = {"_GRAM_R2_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    done = CliRunner().invoke(app, prog_name="gram-r2", env=asked)
    assert {line.split("\t")[0] for line in done.stdout.split()} >= offered
    assert typed == "rank rank in out --prompt " or len(done.stdout.split()) == len(offered)


def test_the_names_of_prompts_are_those_that_there_are() -> None:
    assert get_args(JudgePromptName) == tuple(JUDGE_PROMPTS)


# ---- bad input ----------------------------------------------------------------------------------------------------------


def ending_with(error: Exception) -> Result:
    """How a command ends that raises this."""
    only = typer.Typer()

    @only.command()
    @command
    def fails() -> None:
        print("half of the output")
        raise error

    return CliRunner().invoke(only)


@pytest.mark.parametrize("kind", bad_input())
def test_bad_input_ends_with_one_line_and_code_2(kind: type[Exception]) -> None:
    done = ending_with(kind("rows.jsonl: holds no rows"))
    assert (done.exit_code, done.stderr) == (2, "rows.jsonl: holds no rows\n")


def test_a_server_that_cannot_be_used_is_a_failure() -> None:
    done = ending_with(ServerError("no server answers at http://127.0.0.1:1/api"))
    assert (done.exit_code, done.stderr) == (1, "no server answers at http://127.0.0.1:1/api\n")


def test_a_bug_keeps_its_traceback() -> None:
    done = ending_with(ValueError("not of ours"))
    assert (done.exit_code, done.stderr) == (1, "")
    assert isinstance(done.exception, ValueError)


def test_a_setting_that_is_no_pair_is_bad_input() -> None:
    assert pairs(["a.b=1=2"]) == {"a.b": "1=2"}
    assert values(["a=1", "b=[1, 2]", "c=x y", 'd="4"']) == {"a": 1, "b": [1, 2], "c": "x y", "d": "4"}
    for text in ("a", "a=", "=1"):
        with pytest.raises(InputError, match="is not NAME=VALUE"):
            pairs([text])
