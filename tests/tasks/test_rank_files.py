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
        ({"prompt": "Why?"}, "row 1: field 'responses': is missing: the row has the columns prompt"),
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


# ---- what can be given ---------------------------------------------------------------------------------------------------------


TURNS = [{"role": "user", "content": "Why?"}]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": TURNS, "responses": ["a", "b"]},
        {"prompt": [{"from": "human", "value": "Why?"}], "responses": ["a", "b"]},
        {"prompt": "Why?", "responses": [{"role": "assistant", "content": text} for text in "ab"]},
        {"prompt": "Why?", "responses": [{"from": "gpt", "value": text} for text in "ab"]},
        {"prompt": "Why?", "responses": [[{"role": "assistant", "content": text}] for text in "ab"]},
        {"prompt": TURNS, "responses": [[*TURNS, {"role": "assistant", "content": text}] for text in "ab"]},
        {"prompt": "Why?", "responses": '["a", "b"]'},
    ],
)
def test_rows_may_have_any_shape_that_describe_reads(tmp_path: Path, encoder: ChatEncoder, row: Any) -> None:
    path = write(tmp_path / "in.jsonl", [row])
    assert list(rank_files.read_rows(path, "compare")) == [{"id": "0", "prompt": TURNS, "responses": ["a", "b"]}]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": [{"role": "user", "content": " "}], "responses": ["a", "b"]}, "field 'prompt': is empty"),
        (
            {"prompt": [{"role": "user", "content": "\ud83d"}], "responses": ["a"]},
            "'prompt[0].content': is not Unicode",
        ),
        (
            {"prompt": "Why?", "responses": ["a", 7]},
            "'responses[1]': must be a string, or an assistant's message, got int 7",
        ),
        ({"prompt": "Why?", "responses": [TURNS, "b"]}, "'responses[0]': must end with the assistant's answer"),
        ({"prompt": "Why?", "responses": "ab"}, "'responses': must be a list of responses, got str 'ab'"),
        (
            {"prompt": "Why?", "responses": []},
            "'responses': must be a list with at least one response, got an empty list",
        ),
        (
            {"prompt": "Why?", "chosen": "a", "rejected": "b"},
            "is missing: the row has the columns prompt, chosen, rejected",
        ),
    ],
)
def test_a_row_of_no_shape_is_named_with_its_place(
    tmp_path: Path, encoder: ChatEncoder, capsys: pytest.CaptureFixture[str], row: Any, message: str
) -> None:
    write(tmp_path / "in.jsonl", [row])
    assert run_command(tmp_path, encoder, "rank") == 2
    error = capsys.readouterr().err
    assert "in.jsonl, row 1: " in error
    assert message in error


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.jsonl", "", "holds no rows"),
        ("in.jsonl", "\n\n", "holds no rows"),
        ("in.txt", "x", "has an unsupported type; supported are"),
        ("missing.jsonl", None, "there is no such file or folder"),
    ],
)
def test_a_file_without_rows_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    assert rank_files.main(["rank", str(tmp_path / name), str(tmp_path / "out.jsonl"), "--judge", "x"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("in.jsonl", "is the input: write the results to another file"),
        ("in.jsonl/out.jsonl", "cannot be written (File exists)"),
        ("folder", "is a folder: give the file to write"),
    ],
)
def test_where_nothing_can_be_written_no_judge_is_opened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], output: str, message: str
) -> None:
    write(tmp_path / "in.jsonl", ROWS)
    (tmp_path / "folder").mkdir()
    files = [str(tmp_path / "in.jsonl"), str(tmp_path / output)]
    assert rank_files.main(["rank", *files, "--judge", "GRAM-RR-x"], _never) == 2
    assert message in capsys.readouterr().err


def _never(*_: Any, **__: Any) -> Any:
    pytest.fail("a judge was opened")


def test_rows_without_a_verdict_are_no_ties(
    tmp_path: Path, encoder: ChatEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "in.jsonl", [{"prompt": "Why?", "responses": ["a", "b"]}])
    for command in ("compare", "best-of-n", "rank"):
        (tmp_path / "out.jsonl").unlink(missing_ok=True)
        assert run_command(tmp_path, encoder, command, say=lambda a, b: "") == 0
        said = capsys.readouterr().err
        assert "2 answers have no verdict, 0 comparisons are ties; rows with a tie: 0" in said
    assert run_command(tmp_path, encoder, "rank") == 0


def test_the_engines_words_are_told_once(
    tmp_path: Path, encoder: ChatEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "in.jsonl", ROWS[1:])
    assert run_command(tmp_path, encoder, "rank", fails=lambda a, b: True) == 1
    assert capsys.readouterr().err.count("first engine_abort: no reason") == 1
    write(tmp_path / "in.jsonl", [ROWS[1]])
    assert run_command(tmp_path, encoder, "compare", fails=lambda a, b: True) == 2  # of another command
    (tmp_path / "out.jsonl").unlink()
    assert run_command(tmp_path, encoder, "compare", fails=lambda a, b: True) == 1
    [row] = rows_of(tmp_path / "out.jsonl")
    assert {answer["detail"] for answer in row["answers"]} == {"no reason"}
