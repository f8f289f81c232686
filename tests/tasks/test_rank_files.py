"""Files through a judge: results, resuming, and what is not taken for done."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from data.sources.rows import SourceError
from tasks.model.chat import ChatEncoder
from tasks.rank import Judge
from tasks.rank.files import Command, RankSettings, judge_file, read_rows
from tasks.rank.output import OutputError, held
from tests.conftest import rows_of
from tests.tasks.test_rank import judge_of

# ---- files ------------------------------------------------------------------------------------------------------------------


def write(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def judged(tmp_path: Path, encoder: ChatEncoder, command: Command, seed: int = 0, **judge: Any) -> int:
    """How many rows failed with a judge over a fake engine in place of a checkpoint."""

    @contextlib.contextmanager
    def opened(*_: Any, **__: Any) -> Iterator[Judge]:
        yield judge_of(encoder, **judge)[0]

    settings = RankSettings(command, "GRAM-RR-x", seed=seed, progress=False)
    return judge_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", settings, opened)


ROWS = [{"id": f"q{i}", "prompt": "Why?", "responses": list("abc")[: i + 1]} for i in range(3)]


def test_rows_go_in_and_results_come_out(
    tmp_path: Path, encoder: ChatEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "in.jsonl", ROWS)
    assert judged(tmp_path, encoder, "best-of-n") == 0
    found = rows_of(tmp_path / "out.jsonl")
    assert [(row["id"], row["best"], row["matches"]) for row in found] == [("q0", 0, 0), ("q1", 1, 1), ("q2", 2, 2)]
    assert "3 rows in" in (said := capsys.readouterr().err)
    assert "3 comparisons, 6 generations in 2 batches" in said


def test_the_command_goes_on_where_it_was_stopped(
    tmp_path: Path, encoder: ChatEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "in.jsonl", ROWS)
    judged(tmp_path, encoder, "rank")
    whole = (tmp_path / "out.jsonl").read_text()
    cut = '{"id": "q2", "rationale": "é'.encode()[:-1]  # in the middle of a character
    (tmp_path / "out.jsonl").write_bytes("".join(whole.splitlines(keepends=True)[:2]).encode() + cut)
    capsys.readouterr()
    assert judged(tmp_path, encoder, "rank") == 0
    assert (tmp_path / "out.jsonl").read_text() == whole
    assert "1 rows in" in capsys.readouterr().err
    assert judged(tmp_path, encoder, "rank") == 0
    assert "all 3 rows are already done" in capsys.readouterr().err


def test_a_failed_row_is_not_done(tmp_path: Path, encoder: ChatEncoder) -> None:
    write(tmp_path / "in.jsonl", ROWS)
    assert judged(tmp_path, encoder, "best-of-n", fails=lambda a, b: "c" in (a, b)) == 1
    [_, _, failed] = rows_of(tmp_path / "out.jsonl")
    assert failed["failed"] == {"engine_abort": 2}
    assert judged(tmp_path, encoder, "best-of-n") == 0
    found = rows_of(tmp_path / "out.jsonl")
    assert [(row["id"], row["best"], row["failed"]) for row in found] == [("q0", 0, {}), ("q1", 1, {}), ("q2", 2, {})]


def test_a_row_that_has_changed_is_not_taken_for_done(tmp_path: Path, encoder: ChatEncoder) -> None:
    rows = [{key: value for key, value in row.items() if key != "id"} for row in ROWS]
    write(tmp_path / "in.jsonl", rows)
    judged(tmp_path, encoder, "rank")
    write(tmp_path / "in.jsonl", [{"prompt": "New?", "responses": ["x"]}, *rows])  # all numbers shift by one
    with pytest.raises(OutputError, match="the result for '0' is for a different prompt or responses"):
        judged(tmp_path, encoder, "rank")


def test_two_commands_do_not_write_one_file(tmp_path: Path, encoder: ChatEncoder) -> None:
    write(tmp_path / "in.jsonl", ROWS)
    with held(tmp_path / "out.jsonl"), pytest.raises(OutputError, match="another process is writing it"):
        judged(tmp_path, encoder, "rank")
    assert judged(tmp_path, encoder, "rank") == 0


def test_a_judge_that_cannot_be_opened_leaves_no_trace(tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", ROWS)
    with pytest.raises(ValueError, match="the prompt that this judge was trained with is unknown"):
        judge_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", RankSettings("rank", str(tmp_path)))
    assert not (tmp_path / "out.jsonl.run.json").exists()


@pytest.mark.parametrize("line", ['{"id": "q0"}', "[1]", '{"id"'])
def test_a_damaged_output_is_named(tmp_path: Path, encoder: ChatEncoder, line: str) -> None:
    write(tmp_path / "in.jsonl", ROWS)
    judged(tmp_path, encoder, "rank")
    (tmp_path / "out.jsonl").write_text(line + "\n")
    with pytest.raises(OutputError, match=r"out\.jsonl, line 1"):
        judged(tmp_path, encoder, "rank")


def test_where_nothing_was_decided_there_is_no_best(tmp_path: Path, encoder: ChatEncoder) -> None:
    write(tmp_path / "in.jsonl", ROWS)
    judged(tmp_path, encoder, "best-of-n", say=lambda a, b: "")
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
    row: Any,
    message: str,
) -> None:
    write(tmp_path / "in.jsonl", [row])
    with pytest.raises(SourceError, match=re.escape(message)):
        judged(tmp_path, encoder, "compare")
    assert not (tmp_path / "out.jsonl").exists()


def test_an_id_that_comes_twice_is_refused(tmp_path: Path, encoder: ChatEncoder) -> None:
    write(tmp_path / "in.jsonl", [ROWS[0], ROWS[0]])
    with pytest.raises(SourceError, match="row 2: the id 'q0' is already that of row 1"):
        judged(tmp_path, encoder, "rank")


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
    assert list(read_rows(path, "compare")) == [{"id": "0", "prompt": TURNS, "responses": ["a", "b"]}]


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
    tmp_path: Path, encoder: ChatEncoder, row: Any, message: str
) -> None:
    write(tmp_path / "in.jsonl", [row])
    with pytest.raises(SourceError, match=f"in.jsonl, row 1: .*{re.escape(message)}"):
        judged(tmp_path, encoder, "rank")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.jsonl", "", "holds no rows"),
        ("in.jsonl", "\n\n", "holds no rows"),
        ("in.txt", "x", "has an unsupported type; supported are"),
        ("missing.jsonl", None, "there is no such file or folder"),
    ],
)
def test_a_file_without_rows_is_named(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(SourceError, match=message):
        judge_file(tmp_path / name, tmp_path / "out.jsonl", RankSettings("rank", "x"), _never)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("in.jsonl", "is the input: write the results to another file"),
        ("in.jsonl/out.jsonl", "cannot be written (File exists)"),
        ("folder", "is a folder: give the file to write"),
    ],
)
def test_where_nothing_can_be_written_no_judge_is_opened(tmp_path: Path, output: str, message: str) -> None:
    write(tmp_path / "in.jsonl", ROWS)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=re.escape(message)):
        judge_file(tmp_path / "in.jsonl", tmp_path / output, RankSettings("rank", "GRAM-RR-x"), _never)


def _never(*_: Any, **__: Any) -> Any:
    pytest.fail("a judge was opened")


def test_rows_without_a_verdict_are_no_ties(
    tmp_path: Path, encoder: ChatEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "in.jsonl", [{"prompt": "Why?", "responses": ["a", "b"]}])
    commands: tuple[Command, ...] = ("compare", "best-of-n", "rank")
    for command in commands:
        (tmp_path / "out.jsonl").unlink(missing_ok=True)
        assert judged(tmp_path, encoder, command, say=lambda a, b: "") == 0
        said = capsys.readouterr().err
        assert "2 answers have no verdict, 0 comparisons are ties; rows with a tie: 0" in said
    assert judged(tmp_path, encoder, "rank") == 0


def test_the_engines_words_are_told_once(
    tmp_path: Path, encoder: ChatEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "in.jsonl", ROWS[1:])
    assert judged(tmp_path, encoder, "rank", fails=lambda a, b: True) == 2
    assert capsys.readouterr().err.count("first engine_abort: no reason") == 1
    write(tmp_path / "in.jsonl", [ROWS[1]])
    with pytest.raises(OutputError, match="command 'rank' → 'compare'"):
        judged(tmp_path, encoder, "compare")
    (tmp_path / "out.jsonl").unlink()
    assert judged(tmp_path, encoder, "compare", fails=lambda a, b: True) == 1
    [row] = rows_of(tmp_path / "out.jsonl")
    assert {answer["detail"] for answer in row["answers"]} == {"no reason"}
