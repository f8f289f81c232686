"""Files through a judge: results, resuming, and what is not taken for done."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tasks.model.chat import ChatEncoder
from tasks.rank import Judge
from tasks.rank import files as rank_files
from tasks.rank.output import held
from tests.conftest import rows_of
from tests.tasks.test_rank import judge_of

# ---- files ------------------------------------------------------------------------------------------------------------------


def write(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def run_command(tmp_path: Path, encoder: ChatEncoder, *arguments: str, **judge: Any) -> int:
    """The command with a judge over a fake engine in place of a checkpoint."""

    @contextlib.contextmanager
    def opened(*_: Any, **__: Any) -> Iterator[Judge]:
        yield judge_of(encoder, **judge)[0]

    files = [str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl")]
    command = [arguments[0], *files, "--judge", "GRAM-RR-x", "--quiet", *arguments[1:]]
    return rank_files.main(command, opened)


ROWS = [{"id": f"q{i}", "prompt": "Why?", "responses": list("abc")[: i + 1]} for i in range(3)]


def test_rows_go_in_and_results_come_out(
    tmp_path: Path, encoder: ChatEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "in.jsonl", ROWS)
    assert run_command(tmp_path, encoder, "best-of-n") == 0
    found = rows_of(tmp_path / "out.jsonl")
    assert [(row["id"], row["best"], row["matches"]) for row in found] == [("q0", 0, 0), ("q1", 1, 1), ("q2", 2, 2)]
    assert "3 rows in" in (said := capsys.readouterr().err)
    assert "3 comparisons, 6 generations in 2 batches" in said


def test_the_command_goes_on_where_it_was_stopped(
    tmp_path: Path, encoder: ChatEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "in.jsonl", ROWS)
    run_command(tmp_path, encoder, "rank")
    whole = (tmp_path / "out.jsonl").read_text()
    cut = '{"id": "q2", "rationale": "é'.encode()[:-1]  # in the middle of a character
    (tmp_path / "out.jsonl").write_bytes("".join(whole.splitlines(keepends=True)[:2]).encode() + cut)
    capsys.readouterr()
    assert run_command(tmp_path, encoder, "rank") == 0
    assert (tmp_path / "out.jsonl").read_text() == whole
    assert "1 rows in" in capsys.readouterr().err
    assert run_command(tmp_path, encoder, "rank") == 0
    assert "all 3 rows are already done" in capsys.readouterr().err


def test_a_failed_row_is_not_done(tmp_path: Path, encoder: ChatEncoder) -> None:
    write(tmp_path / "in.jsonl", ROWS)
    assert run_command(tmp_path, encoder, "best-of-n", fails=lambda a, b: "c" in (a, b)) == 1
    [_, _, failed] = rows_of(tmp_path / "out.jsonl")
    assert failed["failed"] == {"engine_abort": 2}
    assert run_command(tmp_path, encoder, "best-of-n") == 0
    found = rows_of(tmp_path / "out.jsonl")
    assert [(row["id"], row["best"], row["failed"]) for row in found] == [("q0", 0, {}), ("q1", 1, {}), ("q2", 2, {})]


def test_another_judge_does_not_go_on_in_the_same_file(
    tmp_path: Path, encoder: ChatEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "in.jsonl", ROWS)
    run_command(tmp_path, encoder, "rank")
    assert run_command(tmp_path, encoder, "rank", "--seed", "4") == 2
    assert "was started with another judge or other settings (seed 0 → 4" in capsys.readouterr().err
    write(tmp_path / "in.jsonl", ROWS)
    (tmp_path / "out.jsonl.run.json").unlink()
    assert run_command(tmp_path, encoder, "rank") == 2
    assert "was not written by this command" in capsys.readouterr().err


def test_a_row_that_has_changed_is_not_taken_for_done(
    tmp_path: Path, encoder: ChatEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{key: value for key, value in row.items() if key != "id"} for row in ROWS]
    write(tmp_path / "in.jsonl", rows)
    run_command(tmp_path, encoder, "rank")
    write(tmp_path / "in.jsonl", [{"prompt": "New?", "responses": ["x"]}, *rows])  # all numbers shift by one
    assert run_command(tmp_path, encoder, "rank") == 2
    assert "the result for '0' is for a different prompt or responses" in capsys.readouterr().err


def test_two_commands_do_not_write_one_file(
    tmp_path: Path, encoder: ChatEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "in.jsonl", ROWS)
    with held(tmp_path / "out.jsonl"):
        assert run_command(tmp_path, encoder, "rank") == 2
    assert "another process is writing it" in capsys.readouterr().err
    assert run_command(tmp_path, encoder, "rank") == 0


def test_a_judge_that_cannot_be_opened_leaves_no_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in.jsonl", ROWS)
    files = [str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl")]
    assert rank_files.main(["rank", *files, "--judge", str(tmp_path)]) == 2
    assert "the prompt that this judge was trained with is unknown" in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl.run.json").exists()


@pytest.mark.parametrize("option", [("--at-once", "0"), ("--votes", "-1"), ("--context", "0")])
def test_numbers_that_make_no_sense_are_refused(tmp_path: Path, encoder: ChatEncoder, option: tuple[str, str]) -> None:
    write(tmp_path / "in.jsonl", ROWS)
    with pytest.raises(SystemExit) as refused:
        run_command(tmp_path, encoder, "rank", *option)
    assert refused.value.code == 2


@pytest.mark.parametrize("line", ['{"id": "q0"}', "[1]", '{"id"'])
def test_a_damaged_output_is_named(
    tmp_path: Path, encoder: ChatEncoder, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    write(tmp_path / "in.jsonl", ROWS)
    run_command(tmp_path, encoder, "rank")
    (tmp_path / "out.jsonl").write_text(line + "\n")
    assert run_command(tmp_path, encoder, "rank") == 2
    assert "out.jsonl, line 1" in capsys.readouterr().err


def test_where_nothing_was_decided_there_is_no_best(tmp_path: Path, encoder: ChatEncoder) -> None:
    write(tmp_path / "in.jsonl", ROWS)
    run_command(tmp_path, encoder, "best-of-n", say=lambda a, b: "")
    assert [row["best"] for row in rows_of(tmp_path / "out.jsonl")] == [0, None, None]  # one response is its own best


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "Why?"}, "row 1: field 'responses': must be a list of strings"),
        ({"prompt": "Why?", "responses": ["\ud800", "b"]}, "row 1: field 'responses[0]': is not Unicode text"),
        ({"prompt": "Why?", "responses": []}, "row 1: field 'responses'"),
        ({"prompt": "", "responses": ["a", "b"]}, "row 1: field 'prompt': is empty"),
        ({"prompt": "Why?", "responses": ["a"]}, "row 1: field 'responses': must be exactly two for compare, got 1"),
        ("text", "row 1: the row must be an object"),
    ],
)
def test_a_row_that_is_none_is_named(
    tmp_path: Path,
    encoder: ChatEncoder,
    capsys: pytest.CaptureFixture[str],
    row: Any,
    message: str,
) -> None:
    write(tmp_path / "in.jsonl", [row])
    assert run_command(tmp_path, encoder, "compare") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()


def test_an_id_that_comes_twice_is_refused(
    tmp_path: Path, encoder: ChatEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "in.jsonl", [ROWS[0], ROWS[0]])
    assert run_command(tmp_path, encoder, "rank") == 2
    assert "row 2: the id 'q0' is already that of row 1" in capsys.readouterr().err


def test_a_file_without_rows_is_refused(
    tmp_path: Path, encoder: ChatEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "in.jsonl", [])
    assert run_command(tmp_path, encoder, "rank") == 2
    assert capsys.readouterr().err == f"{tmp_path}/in.jsonl: holds no rows\n"
    assert not (tmp_path / "out.jsonl").exists()
