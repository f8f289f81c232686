"""``python -m tasks.describe``: what it says of files written here, and of real ones where they are present."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from data.sources.catalog import DATASETS
from data.sources.sources import ColumnMap, Dropped, Source, read_source
from prompts.judge import COMPACT, GRAM_R2
from tasks.describe.columns import Columns
from tasks.describe.command import main
from tasks.describe.layout import named, quoted, shortened, width
from tasks.describe.survey import Survey, survey
from tests.conftest import ROOT, real_file
from tests.support.data_sets import ROWS

Rows = Sequence[object]


def write(path: Path, rows: Rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


class Describe:
    """Runs the command in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: str, code: int = 0) -> str:
        assert main(arguments) == code
        out, err = self.capsys.readouterr()
        assert bool(err) == bool(code and "No known format" not in out and "Several formats" not in out)
        return str(err or out)


@pytest.fixture
def describe(capsys: pytest.CaptureFixture[str]) -> Describe:
    return Describe(capsys)


def own(n: int, label: str | None = "A", **changes: Any) -> dict[str, Any]:
    row = {"prompt": f"Question {n}?", "response_a": f"good {n}", "response_b": f"bad {n}", **changes}
    return row if label is None else {**row, "label": label}


def surveyed(tmp_path: Path, rows: Rows, **config: Any) -> Survey:
    return survey(Source(path=write(tmp_path / "rows.jsonl", rows), **config), GRAM_R2)


# ---- what is counted ---------------------------------------------------------------------------------------------------

MIXED = [
    own(0),
    own(1, "B"),
    own(1, "B", id="again"),
    own(0, "B", response_a="bad 0", response_b="good 0"),  # the same pair and label, shown the other way round
    own(1, "A"),  # the other label
    own(2, None),
    own(3, response_b=" "),
    own(4, "neither"),
    "no row",
    own(5, rationale="Feedback:\nOne.\n\nComparision:\nTwo.\n\nConclusion:\nResponse A is better."),
    own(6, rationale="It is the better one."),
]


def test_everything_that_a_run_would_count(tmp_path: Path) -> None:
    found = surveyed(tmp_path, MIXED)
    assert (found.rows, found.pairs) == (11, 11)
    assert {reason: each.n for reason, each in found.dropped.items()} == {"empty_response": 1, "malformed": 2}
    assert found.dropped["malformed"].where.endswith("rows.jsonl:8")
    assert found.dropped["malformed"].detail == """field 'label': must be "A" or "B", got str 'neither'"""
    assert found.labels == {"A": 4, "B": 3, "none": 1}
    assert found.usable == {"pair": 5, "preference": 4, "rationale": 2}
    assert (found.duplicates.n, found.duplicates.where[-2:]) == (2, ":3")
    assert (found.conflicts.n, found.conflicts.where[-2:]) == (1, ":5")
    assert found.no_rationale.n == 5
    assert (found.out_of_shape.n, found.out_of_shape.detail) == (1, "missing_headings")


def test_a_survey_counts_what_the_reader_yields(tmp_path: Path) -> None:
    """Of every known set: usable pairs and those dropped, as `read_source` has them."""
    for name, rows in ROWS.items():
        source = Source(dataset=name, path=write(tmp_path / f"{name}.jsonl", rows))
        found = survey(source, GRAM_R2)
        items = list(read_source(source, "pair_with_truth", 0))
        assert found.pairs == len(items)
        assert sum(found.labels.values()) == sum(not isinstance(item, Dropped) for item in items)
        assert sum(each.n for each in found.dropped.values()) == sum(isinstance(item, Dropped) for item in items)


def test_the_shape_of_rationales_is_the_prompts(tmp_path: Path) -> None:
    source = Source(path=write(tmp_path / "rows.jsonl", [own(1, rationale="It is. So A is better.")]))
    assert survey(source, GRAM_R2).out_of_shape.n == 1
    assert survey(source, COMPACT).out_of_shape.n == 0


def test_a_pair_that_comes_again_brings_no_second_rationale(tmp_path: Path) -> None:
    found = surveyed(tmp_path, [own(1, rationale="So A is better."), own(1, rationale="A is right. So A is better.")])
    assert found.usable == {"pair": 1, "preference": 1, "rationale": 1}
    assert found.duplicates.n == 1


def test_lengths(tmp_path: Path) -> None:
    found = surveyed(tmp_path, [own(0, prompt="x" * n) for n in range(1, 101)])
    assert list(found.lengths["prompt"]) == list(range(1, 101))
    assert list(found.lengths["response"]) == [6, 5] * 100
    whole = found.lengths["whole prompt of the judge"]
    assert whole[9] - whole[0] == 9


def test_lengths_are_said_in_quantiles(tmp_path: Path, describe: Describe) -> None:
    text = describe(write(tmp_path / "rows.jsonl", [own(0, prompt="x" * n) for n in range(101, 0, -1)]))
    assert re.search(r"prompt +1 +11 +51 +91 +100 +101\n", text)


def test_tokens_are_counted_of_the_same_texts(tmp_path: Path) -> None:
    source = Source(path=write(tmp_path / "rows.jsonl", [own(n) for n in range(400)]))
    found = survey(source, GRAM_R2, lambda texts: [len(text.split()) for text in texts])
    assert {name: len(values) for name, values in found.tokens.items()} == {
        name: len(values) for name, values in found.lengths.items()
    }
    assert set(found.tokens["prompt"]) == set(found.tokens["response"]) == {2}


# ---- what is said --------------------------------------------------------------------------------------------------------


def test_a_file_is_described(tmp_path: Path, describe: Describe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    text = describe(write(tmp_path / "rows.jsonl", MIXED))
    assert "Of the known formats only records reads the first 11 rows (9 of them)." in text
    for line in (
        "11 rows\n",
        "5 usable as pairs without their labels",
        "4 usable as labeled pairs\n",
        "2 usable as labeled pairs with a rationale",
        "2 duplicates of a pair before them; the first: rows.jsonl:3",
        "1 with the other label; the first: rows.jsonl:5",
        "2 malformed; the first: rows.jsonl:8: field 'label': must be",
        "max_malformed = 2 drops and counts them",
        "1 empty_response; the first: rows.jsonl:7: the second response is empty",
        "4   50.0%  the first (A)",
        "1   12.5%  no label",
        "Places stay as they are.",
        "5 without; the first: rows.jsonl:1: no text argues for the label",
        "1 not in the shape that the prompt gram-r2 asks for; the first: rows.jsonl:11: missing_headings",
        "│ Question 0?",
        "The right answer:\n│ A",
    ):
        assert line in text, line
    assert "max_malformed = 2" in text
    assert text.count("[The Start of Assistant A's Response]") == 2


def test_the_examples_are_what_the_judge_sees(tmp_path: Path, describe: Describe) -> None:
    text = describe(
        write(tmp_path / "rows.jsonl", [own(1, rationale="Good is said. So A is better.")]), "--prompt", "compact"
    )
    example = text.split("rows.jsonl:1:\n")[-1]
    shown, target = example.split("The right answer:\n")
    lines = [line.removeprefix("│").removeprefix(" ") for line in shown.splitlines()]
    assert lines == ["Question 1?", "A: good 1", "B: bad 1", "Better?"]
    assert target.strip() == "│ <think> Good is said. So A is better. </think><answer>A</answer>"


def test_sets_that_name_the_better_response_have_no_balance(tmp_path: Path, describe: Describe) -> None:
    text = describe(write(tmp_path / "rows.jsonl", ROWS["hh-rlhf"] * 4))
    assert "has no balance" in text
    assert "the first (A)" not in text
    assert "3 duplicates" in text


def test_sets_with_places_of_no_meaning(tmp_path: Path, describe: Describe) -> None:
    text = describe(write(tmp_path / "rows.jsonl", ROWS["code-ultrafeedback"]))
    assert "3 rows, 8 pairs (a row can hold several)" in text
    assert "1 few_responses" in text
    assert re.search(r"\b1 +14\.3% +a tie", text)
    assert "A run draws the places by its seed." in text


@pytest.mark.parametrize("name", [name for name in ROWS if DATASETS[name].format != "records"])
def test_the_format_of_every_known_set_is_found(tmp_path: Path, describe: Describe, name: str) -> None:
    text = describe(write(tmp_path / "rows.jsonl", ROWS[name]))  # type: ignore[index]
    assert f"only {DATASETS[name].format} reads" in text  # type: ignore[index]


def test_columns_are_named_with_their_types() -> None:
    columns = Columns()
    for i in range(20):
        columns.add(
            {
                "id": i,
                "winner": ["a", "b", None][i % 3],
                "turns": [{"from": "human", "value": "x" * (i + 1)}] * (1 + i % 2),
                "meta": {"score": i / 2},
                "flag": i == 3,
                "mixed": i if i % 10 else "none",
                **({"rare": 1} if i == 0 else {}),
            }
        )
    said = {line.split()[0]: " ".join(line.split()[1:]) for line in columns.lines()}
    assert said["id"] == "integer 0 to 19"
    assert said["winner"] == "text: 'a' (7), 'b' (7) or nothing (6 times)"
    assert said["turns"] == "list of 1 to 2"
    assert said["turns.*.from"] == "text: 'human'"
    assert said["turns.*.value"] == "text of 1 to 20 characters"
    assert said["meta"] == "object"
    assert said["meta.score"] == "number 0 to 9.5"
    assert said["flag"] == "true/false: False (19), True (1)"
    assert said["mixed"] == "integer 1 to 19 or text of 4 characters (2 times)"
    assert said["rare"] == "integer: 1; not in 19 of them"
    assert any("stands for any item" in line for line in columns.lines())


def test_very_many_columns_are_cut() -> None:
    columns = Columns()
    columns.add({f"group {i}": {f"column {j}": j for j in range(30)} for i in range(30)})
    lines = columns.lines()
    assert len(lines) == 61
    assert lines[-1].strip().startswith("… and ")


def test_control_characters_of_the_data_reach_no_terminal(tmp_path: Path, describe: Describe) -> None:
    text = describe(write(tmp_path / "rows.jsonl", [own(1, prompt="\x1b[2J\x07Hello\r\nthere?")]))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[2J" in text


def test_every_line_fits_the_terminal(tmp_path: Path, describe: Describe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "72")
    text = describe(write(tmp_path / "rows.jsonl", [*ROWS["helpsteer3"], {"a long column of no use": "word " * 300}]))
    assert max(len(line) for line in text.splitlines() if str(tmp_path) not in line) <= 72


def test_texts_are_cut_in_their_middle_at_a_space() -> None:
    text = " ".join(f"word{i}" for i in range(1000))
    short = shortened(text, 300)
    head, count, tail = short.split("\n")
    assert text.startswith(head)
    assert text.endswith(tail)
    assert text[len(head)] == text[-len(tail) - 1] == " "
    left_out = int(re.sub(r"\D", "", count))
    assert left_out == len(text) - len(head) - len(tail)
    assert shortened("x" * 300, 300) == "x" * 300
    assert len(shortened("字" * 5000, 300)) < 400
    assert quoted("a\n\nb") == "│ a\n│\n│ b"
    assert max(map(len, quoted("字" * 500).splitlines())) <= 2 + (width() - 2) // 2
    assert named("x" * 30, "text", 10) == f"  {'x' * 30}\n          text"


# ---- which format ----------------------------------------------------------------------------------------------------------


def test_rows_that_no_format_reads_are_shown_and_a_column_map_is_asked_for(tmp_path: Path, describe: Describe) -> None:
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
    assert re.search(r"5 +55\.6% +the first \(A\)", mapped)
    assert "8 with the other label" not in mapped


def test_several_formats_that_read_the_rows_are_asked_about(tmp_path: Path, describe: Describe) -> None:
    rows = [{**own(i), "chosen": "x", "rejected": "y"} for i in range(4)]
    text = describe(write(tmp_path / "rows.jsonl", rows), code=2)
    assert "Several formats read the first 4 rows: records, chosen-rejected" in text
    assert "--format" in text
    chosen = describe(str(tmp_path / "rows.jsonl"), "--format", "chosen-rejected")
    assert "has no balance" in chosen


def test_a_format_that_reads_a_few_rows_only_is_not_one_of_several(tmp_path: Path, describe: Describe) -> None:
    text = describe(write(tmp_path / "rows.jsonl", [own(i) for i in range(8)] + ROWS["hh-rlhf"] * 3))
    assert "only records reads the first 11 rows (8 of them)" in text


def test_a_benchmarks_file_is_recognised_and_described(tmp_path: Path, describe: Describe) -> None:
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
    extra = tmp_path / "Processed_FairEval.json"
    extra.write_text(json.dumps([{"input": "Why?", "output_1": "a", "output_2": "b", "label": 1}]))
    assert re.search(r"Processed_FairEval +1 +1 +2", describe(str(extra), "--benchmark", "llmbar"))


def test_a_named_set_says_what_its_card_says(
    tmp_path: Path, describe: Describe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where the hub cannot be reached, how a local copy is described."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    command = [sys.executable, "-m", "tasks.describe", "pku-saferlhf"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert "CC-BY-NC-4.0" in done.stdout
    assert "PKU-Alignment/PKU-SafeRLHF, split train" in done.stdout
    assert "at most 10,000 rows" in done.stdout
    assert "A local copy is described with PATH --format pku-saferlhf" in done.stderr
    assert "Traceback" not in done.stderr


# ---- what cannot be read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing-here"], r"there is no such file or folder .*The known data sets are helpsteer3, "),
        (["multi-pref"], r"Did you mean multipref\?"),
        (["missing.jsonl"], r"'missing.jsonl': there is no such file or folder"),
        (["missing.jsonl", "--format", "helpsteer3"], r"'missing.jsonl': there is no such file or folder"),
        (["x.jsonl", "--columns", "{"], r"--columns: Invalid JSON"),
        (["x.jsonl", "--columns", '{"promt": "q"}'], r"prompt: Field required; promt: Extra inputs"),
        (["x.jsonl", "--format", "columns"], r"needs a column map"),
        (["x.jsonl", "--subset", "s"], r"split, subset and revision are of hub data sets"),
        (["x.jsonl", "--benchmark", "llmbar"], r"no such file or folder"),
        (["https://example.org/rows.jsonl"], r"is a URL"),
    ],
)
def test_wrong_arguments_are_a_clear_error(describe: Describe, arguments: list[str], message: str) -> None:
    error = describe(*arguments, code=2)
    assert re.search(message, error)
    assert "Traceback" not in error


def test_a_file_that_is_no_list_of_rows_is_a_clear_error(tmp_path: Path, describe: Describe) -> None:
    (tmp_path / "rows.json").write_text('{"data": []}')
    assert "must be a list of rows, is an object with the keys 'data'" in describe(str(tmp_path / "rows.json"), code=2)
    (tmp_path / "empty.jsonl").write_text("")
    assert "No known format reads the first 0 rows" in describe(str(tmp_path / "empty.jsonl"), code=2)
    assert "nothing to read" in describe(str(tmp_path / "empty.jsonl"), "--format", "records")


def test_only_malformed_rows_are_no_crash(tmp_path: Path, describe: Describe) -> None:
    text = describe(write(tmp_path / "rows.jsonl", [1, None, [2]]), "--format", "multipref")
    assert "3 malformed; the first: rows.jsonl:1: the row must be an object with columns, got int" in text


def test_a_limit(tmp_path: Path, describe: Describe) -> None:
    text = describe(write(tmp_path / "rows.jsonl", [own(i) for i in range(30)]), "--limit", "7")
    assert "at most 7 rows are read" in text
    assert "7 usable as labeled pairs" in text


@pytest.mark.parametrize("n", [1, 5])
def test_a_reader_that_stops_early_is_no_error(tmp_path: Path, n: int) -> None:
    path = write(tmp_path / "rows.jsonl", [own(i, prompt="word " * 2000 * (n - 1) + "?") for i in range(n)])
    command = f"set -o pipefail; {sys.executable} -m tasks.describe {path} | true"
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, env=buffered, check=False)
    assert (done.returncode, done.stderr) == (0, "")


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
    ("rm-bench/chat_filtered.json", ["--benchmark", "rm-bench"], 0, r"129 items, 1,161 comparisons"),
    ("llmbar/Natural.json", [], 2, r"--benchmark llmbar"),
    ("arena-hard/question.jsonl", [], 2, r"No known format reads"),
    ("fine-grained-rlhf/qa_feedback_dev_feedback.json", [], 2, r"prediction 1 +text"),
]


@pytest.mark.parametrize(("file", "arguments", "code", "expected"), REAL)
def test_real_files(describe: Callable[..., str], file: str, arguments: list[str], code: int, expected: str) -> None:
    assert re.search(expected, describe(str(real_file(file)), *arguments, code=code))
