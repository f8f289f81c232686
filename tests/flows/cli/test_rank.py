"""``gram-r2 rank``: its options and exit codes; what it writes is tested in tests/tasks/test_rank_files.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from flows.cli.rank import rank
from tasks.rank.files import METHODS
from tasks.rank.opening import Dtype
from tests.conftest import rows_of
from tests.support.commands import Ended, gram_r2
from tests.support.endpoints import chat, serving


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """One row with two responses, and where its result goes."""
    (tmp_path / "in.jsonl").write_text('{"id": "q", "prompt": "Why?", "responses": ["a", "b"]}\n')
    return [str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl")]


def refused(*arguments: str) -> Ended:
    done = gram_r2("rank", *arguments)
    assert (done.code, done.out) == (2, "")
    return done


def test_a_file_goes_through_a_judge(files: list[str]) -> None:
    with serving(lambda body: (200, chat("<think> x </think><answer>A</answer>"))) as served:
        options = ["--judge", f"{served.url}#m", "--prompt", "compact", "--one-order", "--max-tokens", "9", "--quiet"]
        done = gram_r2("rank", "best-of-n", *files, *options, "--method", "linear")
    assert (done.code, done.out) == (0, "")
    assert [(row["id"], row["best"]) for row in rows_of(Path(files[1]))] == [("q", 0)]
    assert served.seen[0]["max_tokens"] == 9
    made_with = json.loads(Path(f"{files[1]}.run.json").read_text())
    assert (made_with["command"], made_with["method"], made_with["one_order"]) == ("best-of-n", "linear", True)


def test_rows_that_fail_are_told_by_the_exit_code(files: list[str]) -> None:
    with serving(lambda body: (400, {"error": {"message": "too long"}})) as served:
        done = gram_r2("rank", "compare", *files, "--judge", f"{served.url}#m", "--prompt", "compact", "--quiet")
    assert done.code == 1
    assert "failed: 1" in done.err


def test_bad_input_is_one_line(files: list[str], tmp_path: Path) -> None:
    for arguments, line in (
        (["rank", *files, "--judge", "x", "--gpu-memory-share", "5"], "gpu_memory_share: must be at most 1, got 5.0\n"),
        (["rank", *files, "--judge", "x", "--method", "linear"], "method: must be round-robin or repeated-best, got 'linear'\n"),
        (["compare", *files, "--judge", "x", "--method", "linear"], "method: is only for best-of-n and rank, got 'linear'\n"),
        (["rank", files[0], files[0], "--judge", "x"], f"{files[0]} is the input: write the results to another file\n"),
    ):  # fmt: skip
        assert refused(*arguments).err == line
    text = refused("rank", *files, "--judge", str(tmp_path)).err
    assert "the prompt that this judge was trained with is unknown" in text
    assert text.count("\n") == 1


@pytest.mark.parametrize("option", [("--at-once", "0"), ("--votes", "-1"), ("--context", "0"), ("--prompt", "new")])
def test_values_that_make_no_sense_are_refused(files: list[str], option: tuple[str, str]) -> None:
    assert option[0] in refused("rank", *files, "--judge", "x", *option).err


def test_the_choices_are_those_of_the_judge() -> None:
    """They are written out in the command, which must not load what opens a judge before it does."""
    hints = get_type_hints(rank)
    assert get_args(hints["task"]) == tuple(METHODS)
    assert set(get_args(get_args(hints["method"])[0])) == {name for names in METHODS.values() for name in names}
    assert get_args(hints["dtype"])[0] == Dtype
