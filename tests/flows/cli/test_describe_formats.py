"""What `describe` takes a file for, what it says of one that it cannot read, and real files."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from data.sources.sources import ColumnMap, Source
from prompts.judge import GRAM_R2
from tasks.describe.survey import survey
from tests.conftest import ROOT, real_file
from tests.support.commands import COMMAND, gram_r2
from tests.support.data_sets import ROWS
from tests.support.describing import describe, own, write

# ---- which format ----------------------------------------------------------------------------------------------------------


def test_rows_that_no_format_reads_are_shown_and_a_column_map_is_asked_for(tmp_path: Path) -> None:
    path = write(
        tmp_path / "rows.jsonl", [{"q": "Why?", "first": "a", "second": "b", "winner": 1 + i % 2} for i in range(9)]
    )
    text = describe(path, code=2)
    assert "No known format reads the first 9 rows" in text
    assert re.search(r"winner +integer: 1 \(5\), 2 \(4\)", text)
    assert re.search(r"helpsteer3 +field 'overall_preference': is missing", text)
    assert "--columns" in text
    columns = {
        "prompt": "q",
        "response_a": "first",
        "response_b": "second",
        "label": "winner",
        "label_a": [1],
        "label_b": [2],
    }
    mapped = describe(path, "--columns", json.dumps(columns))
    assert re.search(r"5 +55\.6% +first is better \(A\)", mapped)
    assert "8 contradicting an earlier pair (opposite label)" not in mapped


def test_several_formats_that_read_the_rows_are_asked_about(tmp_path: Path) -> None:
    rows = [{**own(i), "chosen": "x", "rejected": "y"} for i in range(4)]
    text = describe(write(tmp_path / "rows.jsonl", rows), code=2)
    assert "Several formats read the first 4 rows: records, chosen-rejected" in text
    assert "--format" in text
    chosen = describe(str(tmp_path / "rows.jsonl"), "--format", "chosen-rejected")
    assert "no positions and no label balance" in " ".join(chosen.split())


def test_a_format_that_reads_a_few_rows_only_is_not_one_of_several(tmp_path: Path) -> None:
    text = describe(write(tmp_path / "rows.jsonl", [own(i) for i in range(8)] + ROWS["hh-rlhf"] * 3))
    assert "only records reads 8 of the first 11 rows" in text


def test_a_benchmarks_file_is_recognised_and_described(tmp_path: Path) -> None:
    rows = [
        {"id": i, "prompt": f"Question {i}?", "subset": "s", "chosen": ["a", "b", "c"], "rejected": ["d", "e", "f"]}
        for i in range(3)
    ]
    path = tmp_path / "chat_filtered.json"
    path.write_text(json.dumps(rows))
    assert "describe it with --benchmark rm-bench.\n" in describe(str(path), code=2)
    text = describe(str(path), "--benchmark", "rm-bench")
    assert "rm-bench: 3 items, 27 comparisons" in text
    assert re.search(r"chat +3 +27 +6", text)
    assert re.search(r"code +0 +0 +–", text)
    assert "Not read: subset. All other columns are read." in text
    extra = tmp_path / "Processed_FairEval.json"
    extra.write_text(json.dumps([{"input": "Why?", "output_1": "a", "output_2": "b", "label": 1}]))
    assert re.search(r"Processed_FairEval +1 +1 +2", describe(str(extra), "--benchmark", "llmbar"))


def test_a_named_set_says_what_its_card_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And where the hub cannot be reached, how a local copy is described."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    command = [*COMMAND, "describe", "pku-saferlhf"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert "CC-BY-NC-4.0" in done.stdout
    assert "PKU-Alignment/PKU-SafeRLHF, split train" in done.stdout
    assert "at most 10,000 rows" in done.stdout
    assert "To describe a local copy, pass its path and --format pku-saferlhf" in done.stderr
    assert "Traceback" not in done.stderr


# ---- what is read ------------------------------------------------------------------------------------------------------------


def test_each_column_is_said_to_be_read_or_not(tmp_path: Path) -> None:
    rows = [{**own(i), "context": "A passage.", "note": None, "images": []} for i in range(4)]
    text = describe(write(tmp_path / "rows.jsonl", rows))
    assert re.search(r"context +text: 'A passage\.'; not read\n", text)
    assert re.search(r"note +null; not read\n", text)
    assert re.search(r"prompt +text[^\n;]*\n", text)
    assert "Not read: context, note. All other columns are read." in text
    columns = {"prompt": "prompt", "prompt_extra": "context", "response_a": "response_a", "response_b": "response_b"}
    mapped = describe(str(tmp_path / "rows.jsonl"), "--columns", json.dumps(columns))
    assert "Not read: label, note. All other columns are read." in mapped
    assert "All columns are read." in describe(write(tmp_path / "own.jsonl", [own(1), own(2)]))


def test_columns_beyond_those_that_are_shown_are_said_to_be_unread(tmp_path: Path) -> None:
    more = {f"more_{i}": i for i in range(40)}
    text = " ".join(describe(write(tmp_path / "rows.jsonl", [{**own(1), **more}])).split())
    assert f"Not read: {', '.join(more)}. All" in text


def test_rows_that_no_judge_can_be_shown_have_their_own_reason(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Weather?"}, {"role": "tool", "content": "12"}]
    rows = [{"prompt": turns, "chosen": f"{i}", "rejected": "?"} for i in range(3)]
    text = describe(write(tmp_path / "rows.jsonl", [*rows, {**rows[0], "prompt": "Weather?"}]))
    assert "Format detected: only chosen-rejected reads the first 4 rows." in text
    assert "1 usable as labeled pairs" in text
    assert "3 tools; first: rows.jsonl:1: field 'prompt[1].role': is a turn of 'tool'" in " ".join(text.split())
    assert "malformed" not in text


def test_ids_at_which_a_run_would_stop(tmp_path: Path) -> None:
    folder = tmp_path / "both"
    folder.mkdir()
    for name in ("one", "two"):
        rows = [own(i, prompt=f"Question {i} of {name}?", id=i) for i in range(3)]
        write(folder / f"{name}.jsonl", [*rows, rows[0]])  # a repeated row is a duplicate and no clash
    text = " ".join(describe(str(folder), code=2).split())
    assert 'A run would stop: 3 pairs have the id of another pair; id_from = "content" makes new ones.' in text
    assert "3 with the same id as another pair; first: two.jsonl:1:" in text
    assert "same id" not in describe(str(folder / "one.jsonl"))


def test_a_rationale_that_names_positions_of_its_own_is_counted(tmp_path: Path) -> None:
    texts = ["The chosen response is right.", "Response B is right."]
    rows = [{"q": f"Why {i}?", "c": "a", "r": "b", "why": text} for i, text in enumerate(texts)]
    columns = json.dumps({"prompt": "q", "chosen": "c", "rejected": "r", "rationale": "why"})
    text = " ".join(describe(write(tmp_path / "rows.jsonl", rows), "--columns", columns).split())
    assert "1 without a rationale; first: rows.jsonl:2: the rationale names a response by a position" in text
    assert re.search(r"<think> │ Response [AB] is right\. │ </think>", text)


# ---- what cannot be read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing-here"], r"there is no such file or folder .*The known data sets are helpsteer3, "),
        (["multi-pref"], r"Did you mean multipref\?"),
        (["missing.jsonl"], r"'missing.jsonl': there is no such file or folder"),
        (["missing.jsonl", "--format", "helpsteer3"], r"'missing.jsonl': there is no such file or folder"),
        (["x.jsonl", "--columns", "{"], r"--columns: is not JSON"),
        (["x.jsonl", "--columns", '{"promt": "q"}'], r"columns.promt: no such setting; did you mean columns.prompt\?"),
        (["x.jsonl", "--format", "columns"], r"needs a column map"),
        (["x.jsonl", "--subset", "s"], r"split, subset and revision are only for hub data sets"),
        (["x.jsonl", "--benchmark", "llmbar"], r"no such file or folder"),
        (["https://example.org/rows.jsonl"], r"is a URL"),
    ],
)
def test_wrong_arguments_are_a_clear_error(arguments: list[str], message: str) -> None:
    error = describe(*arguments, code=2)
    assert re.search(message, error)
    assert "Traceback" not in error


def test_a_file_that_is_no_list_of_rows_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('{"data": []}')
    assert "must be a list of rows, is an object with the keys 'data'" in describe(str(tmp_path / "rows.json"), code=2)
    (tmp_path / "empty.jsonl").write_text("")
    for arguments in ([], ["--format", "records"]):
        assert describe(str(tmp_path / "empty.jsonl"), *arguments, code=2) == f"{tmp_path}/empty.jsonl: holds no rows\n"


def test_the_files_of_a_folder_are_named(tmp_path: Path) -> None:
    for name in ("pairs/a.jsonl", "pairs/b.jsonl", "pairs/older/c.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / name, [own(1), own(2)])
    text = describe(str(tmp_path / "pairs"))
    assert re.search(r"files +a.jsonl, b.jsonl\n", text)
    assert re.search(r"not read +older/c.jsonl; name them in path", text)
    assert re.search(r"files +a.jsonl, b.jsonl, older/c.jsonl\n", describe(f"{tmp_path}/*/**"))
    assert "  files" not in describe(f"{tmp_path}/pairs/a.jsonl")


def test_a_folder_with_its_data_in_sub_folders(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / "set" / split).mkdir(parents=True)
        write(tmp_path / "set" / split / "0.jsonl", [own(1)])
    error = describe(str(tmp_path / "set"), code=2)
    assert f"test: {tmp_path}/set/test/0.jsonl; train: {tmp_path}/set/train/0.jsonl" in error
    (tmp_path / "set" / "test" / "0.jsonl").unlink()
    assert "1 usable as labeled pairs" in describe(str(tmp_path / "set"))


def test_a_problem_of_the_row_itself_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(" ".join(json.dumps(own(i)) for i in range(3)))
    text = describe(str(tmp_path / "rows.jsonl"), code=2)
    assert text.count("the line holds more than one JSON value; a JSONL file has one object per line.") == 1
    assert "--columns" not in text


def test_half_of_the_rows_suffice_for_a_format(tmp_path: Path) -> None:
    text = describe(write(tmp_path / "rows.jsonl", [own(1), own(2, prompt=7)]))
    assert "only records reads 1 of the first 2 rows" in text
    assert "1 malformed; first: rows.jsonl:2: field 'prompt'" in text


def test_only_malformed_rows_are_no_crash(tmp_path: Path) -> None:
    text = describe(write(tmp_path / "rows.jsonl", [1, None, [2]]), "--format", "multipref", code=2)
    assert "  A run would stop: No row is usable (3 malformed).\n" in text
    said = "3 malformed; first: rows.jsonl:1: the row must be an object with columns, got int"
    assert said in " ".join(text.split())


def test_a_limit(tmp_path: Path) -> None:
    text = describe(write(tmp_path / "rows.jsonl", [own(i) for i in range(30)]), "--limit", "7")
    assert "at most 7 rows are read" in text
    assert "7 usable as labeled pairs" in text


@pytest.mark.parametrize("n", [1, 5])
def test_a_reader_that_stops_early_is_no_error(tmp_path: Path, n: int) -> None:
    path = write(tmp_path / "rows.jsonl", [own(i, prompt="word " * 2000 * (n - 1) + "?") for i in range(n)])
    command = f"set -o pipefail; {shlex.join([*COMMAND, 'describe', path])} | true"
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, env=buffered, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_the_output_cannot_show_is_replaced(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "rows.jsonl", [own(1, **{"half \ud83d of a pair": 1, "prompt": "Question 字?"})])
    done = gram_r2("describe", path, charset=encoding)
    assert (done.code, done.err) == (0, "")
    text = done.out
    shown = "\ufffd" if encoding == "utf-8" else "?"
    assert f"half {shown} of a pair  integer: 1" in text
    assert "Question 字?" in text if encoding == "utf-8" else "Question ??" in text


# ---- real files --------------------------------------------------------------------------------------------------------------


PANDALM = ColumnMap(
    prompt="instruction",
    prompt_extra="input",
    response_a="response1",
    response_b="response2",
    label="annotator1",
    label_a=[1],
    label_b=[2],
    label_tie=[0],
)


def test_real_pandalm() -> None:
    source = Source(path=str(real_file("pandalm/testset-v1.json")), format="columns", columns=PANDALM)
    found = survey(source, GRAM_R2)
    assert {reason: each.n for reason, each in found.dropped.items()} == {"malformed": 6, "empty_response": 54}
    assert found.dropped["malformed"].where.endswith(":158")
    assert found.labels == {"A": 400, "B": 444, "tie": 95}
    assert found.usable["pair"] + found.duplicates.n + found.conflicts.n >= 939


Case = tuple[str, list[str], int, str]


REAL: list[Case] = [
    ("hh-rlhf/harmless-base/test.jsonl.gz", [], 0, r"2,303 usable as labeled pairs"),
    ("llamafactory-dpo/dpo_en_demo.json", [], 0, r"only chosen-rejected reads"),
    ("llamafactory-dpo/dpo_zh_demo.json", [], 0, r"64 with a system turn"),
    ("pandalm/testset-v1.json", [], 2, r"annotator1 +integer: 2 \(475\), 1 \(427\), 0 \(97\)"),
    ("rm-bench/chat_filtered.json", [], 2, r"--benchmark rm-bench"),
    ("rm-bench/chat_filtered.json", ["--benchmark", "rm-bench"], 0, r"(?s)Not read: .*129 items, 1,161 comparisons"),
    ("llmbar/Natural.json", [], 2, r"--benchmark llmbar"),
    ("rmb/Pairwise_set/Harmlessness/S1.json", [], 2, r"--benchmark rmb"),
    (
        "rmb/BoN_set/Harmlessness/S6.json",
        ["--benchmark", "rmb"],
        0,
        r"(?s)All columns are read.*83 items, 194 comparisons",
    ),
    ("arena-hard/question.jsonl", [], 2, r"No known format reads"),
    ("fine-grained-rlhf/qa_feedback_dev_feedback.json", [], 2, r"prediction 1 +text"),
]


@pytest.mark.parametrize(("file", "arguments", "code", "expected"), REAL)
def test_real_files(file: str, arguments: list[str], code: int, expected: str) -> None:
    assert re.search(expected, describe(str(real_file(file)), *arguments, code=code))
