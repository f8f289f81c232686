"""ContextualJudgeBench and ReasoningJudgeBench as their authors publish them: a file for each split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from data.benchmarks import salesforce
from data.benchmarks.catalog import load, path_of
from data.benchmarks.items import Benchmark
from data.sources import rows
from data.sources.sources import SourceError
from tests.support.hub_sets import stand_in_sets
from tests.support.scoring_rows import Row, contextual_row, reasoning_row, write_rows

Loader = Callable[..., Benchmark]


def contextual_folder(folder: Path) -> str:
    """A clone of the hub set: a page that declares its splits, and a file of each."""
    splits = "".join(f"  - split: {split}\n    path: data/{split}-*\n" for split in salesforce.CONTEXTUAL_SPLITS)
    for split in salesforce.CONTEXTUAL_SPLITS:
        write_rows(folder / "data" / f"{split}-00000-of-00001.jsonl", [contextual_row(0), contextual_row(1)])
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{splits}---\n")
    return str(folder)


def test_a_contextual_row_is_asked_with_its_context(tmp_path: Path) -> None:
    loaded = salesforce.load_contextual(write_rows(tmp_path / "faithfulness_qa.jsonl", [contextual_row(5)]))
    [item] = loaded.items
    assert (item.id, item.group, item.responses) == ("faithfulness_qa/0", "faithfulness_qa", ("good 5", "bad 5"))
    assert item.prompt[0].content == "Question 5?\n\nContext:\nIt is known that 5."
    assert (item.right, loaded.orders) == ((True, False), ("chosen_first", "rejected_first"))


@pytest.mark.parametrize(
    ("changes", "prompt"),
    [({"question": None}, "Context:\nIt is known that 5."), ({"context": " "}, "Question 5?")],
)
def test_one_part_of_a_contextual_prompt_may_be_empty(tmp_path: Path, changes: Row, prompt: str) -> None:
    [item] = salesforce.load_contextual(
        write_rows(tmp_path / "refusal_answerable.json", [contextual_row(5, **changes)])
    ).items
    assert item.prompt[0].content == prompt


def test_a_clone_is_read_split_by_split(tmp_path: Path) -> None:
    loaded = load("contextual-judgebench", contextual_folder(tmp_path))
    assert Counter(item.group for item in loaded.items) == dict.fromkeys(salesforce.CONTEXTUAL_SPLITS, 2)
    assert len(rows.sha256_by_file(path_of("contextual-judgebench", str(tmp_path)))) == 8
    one = load("contextual-judgebench", str(tmp_path / "data" / "conciseness_qa-00000-of-00001.jsonl"))
    assert list(one.by_id) == ["conciseness_qa/0", "conciseness_qa/1"]


def test_a_reasoning_row_has_its_own_id(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "folio_pairwise.jsonl", [reasoning_row("reasoning-judge-bench-folio_pairwise:1")])
    [item] = load("reasoning-judgebench", path).items
    assert (item.id, item.group) == ("reasoning-judge-bench-folio_pairwise:1", "folio_pairwise")
    assert item.pair(item.cells[0]).response_a == "good reasoning-judge-bench-folio_pairwise:1"


def test_the_hub_is_read_split_by_split(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = stand_in_sets(monkeypatch, lambda subset, split: [reasoning_row(f"{split}:1"), reasoning_row(f"{split}:2")])
    loaded = load("reasoning-judgebench", "hub:Salesforce/ReasoningJudgeBench")
    assert asked == [("Salesforce/ReasoningJudgeBench", None, split) for split in salesforce.REASONING_SPLITS]
    assert Counter(item.group for item in loaded.items) == dict.fromkeys(loaded.groups, 2)
    assert loaded.by_id["folio_pairwise:2"].group == "folio_pairwise"


@pytest.mark.parametrize(
    ("loader", "name", "row", "message"),
    [
        (salesforce.load_contextual, "test.jsonl", contextual_row(1), "is not named as one of the splits of contextual.*refusal"),
        (salesforce.load_reasoning, "folio.jsonl", reasoning_row("1"), "is not named as one of the splits .*aime_4o_pairwise"),
        (salesforce.load_contextual, "refusal_answerable.jsonl", contextual_row(1, question="", context=None),
         "row 1: field 'question': is empty"),
        (salesforce.load_contextual, "refusal_answerable.jsonl", {"question": "Why?"}, "row 1: .*'context'.* has the columns"),
        (salesforce.load_contextual, "refusal_answerable.jsonl", contextual_row(1, positive_response=7),
         "row 1: field 'positive_response': must be a string"),
        (salesforce.load_reasoning, "folio_pairwise.jsonl", reasoning_row("1", label=2), "row 1: field 'label': must be 1, f"),
        (salesforce.load_reasoning, "folio_pairwise.jsonl", reasoning_row("1", label=True), "row 1: field 'label': must be 1"),
        (salesforce.load_reasoning, "folio_pairwise.jsonl", reasoning_row("1", instruction=""), "field 'instruction': is empty"),
    ],
)  # fmt: skip
def test_wrong_files_and_rows_are_named(tmp_path: Path, loader: Loader, name: str, row: Row, message: str) -> None:
    with pytest.raises(SourceError, match=f"{name}.*{message}"):
        loader(write_rows(tmp_path / name, [row]))


@pytest.mark.parametrize(
    ("loader", "name", "row", "read"),
    [
        (salesforce.load_contextual, "refusal_answerable.jsonl", contextual_row(1),
         {"question", "context", "positive_response", "negative_response"}),
        (salesforce.load_reasoning, "folio_pairwise.jsonl", reasoning_row("1"),
         {"problem_id", "instruction", "positive_response", "negative_response", "label"}),
    ],
)  # fmt: skip
def test_the_columns_that_are_read_are_told(
    tmp_path: Path, loader: Loader, name: str, row: Row, read: set[str]
) -> None:
    told: list[set[str]] = []
    loader(write_rows(tmp_path / name, [row]), lambda row, read: told.append(set(read)))
    assert told == [read]
