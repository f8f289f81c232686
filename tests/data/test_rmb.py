"""RMB as its authors publish it: pairs and best-of-n rows in four sections, and what is said of a row that is none."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from data.benchmarks import rmb
from data.benchmarks.catalog import load, path_of
from data.benchmarks.items import Item
from data.sources.sources import SourceError
from tests.conftest import REAL, real_file
from tests.support.scoring_rows import rmb_row, write_rows

TURN = {"role": "user", "content": "Why?", "language": "English"}


def rmb_folder(folder: Path) -> str:
    """A repository with one scenario of each section."""
    for kind, path in (("pair", "Pairwise_set"), ("bon", "BoN_set")):
        for goal, file in (("Helpfulness", "Chat/Small Talk.json"), ("Harmlessness", "S1.json")):
            rows = [rmb_row(kind, f"{goal[:4]}{i}", goal) for i in range(2)]
            write_rows(folder / "RMB_dataset" / path / goal / file, rows)
    write_rows(folder / "eval" / "result.json", [{"pair_uid": "1", "is_correct": 1}])
    return str(folder)


def test_a_pair_is_one_cell_and_a_best_of_n_row_one_for_each_loser(tmp_path: Path) -> None:
    rows = [rmb_row("pair", "7"), rmb_row("bon", "7", losers=3)]
    pair, best = rmb.load(write_rows(tmp_path / "any.json", rows)).items
    assert (pair.id, pair.group, pair.responses) == (
        "pair/7",
        "Pairwise Helpfulness",
        ("answer 0 to 7", "answer 1 to 7"),
    )
    assert (best.id, best.group, best.right) == ("bon/7", "BoN Helpfulness", (True, False, False, False))
    assert [(cell.name, cell.first, cell.second) for cell in best.cells] == [
        ("0-1", 0, 1),
        ("0-2", 0, 2),
        ("0-3", 0, 3),
    ]


def test_the_repository_is_read_without_its_results(tmp_path: Path) -> None:
    loaded = load("rmb", rmb_folder(tmp_path))
    assert Counter(item.group for item in loaded.items) == dict.fromkeys(rmb.SECTIONS.values(), 2)
    assert load("rmb", str(tmp_path / "RMB_dataset")).digest == loaded.digest
    assert path_of("rmb", str(tmp_path)) == str(tmp_path / "RMB_dataset")
    assert path_of("rmb", str(tmp_path / "RMB_dataset")) == str(tmp_path / "RMB_dataset")


def test_scenarios_that_are_not_there_are_missing(tmp_path: Path) -> None:
    loaded = load("rmb", rmb_folder(tmp_path))
    assert loaded.lacks == (
        "36 of the 37 scenarios of Pairwise Helpfulness", "11 of the 12 scenarios of Pairwise Harmlessness",
        "36 of the 37 scenarios of BoN Helpfulness", "11 of the 12 scenarios of BoN Harmlessness",
    )  # fmt: skip
    whole = [
        rmb_row("pair", f"{i}", "Harmlessness", category_path=f"Pairwise_set/Harmlessness/S{i}") for i in range(12)
    ]
    assert rmb.load(write_rows(tmp_path / "whole.json", whole)).lacks == ()


def test_empty_turns_and_equal_responses_are_scored_as_published(tmp_path: Path) -> None:
    row = rmb_row(
        "pair", "1", conversation_input=[{**TURN, "content": ""}], reject={"llm_name": "x", "answer": "answer 0 to 1"}
    )
    [item] = rmb.load(write_rows(tmp_path / "a.json", [row])).items
    assert Item.from_json(item.to_json()) == item
    assert (item.prompt[0].content, item.responses) == ("", ("answer 0 to 1", "answer 0 to 1"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"uid": "1"}, "a row needs pair_uid or bon_uid; it has the columns uid"),
        (
            rmb_row("pair", "1", category_path="Other/Helpfulness/Chat"),
            "field 'category_path': must begin with Pairwise_set/H",
        ),
        (
            rmb_row("bon", "1", category_path="Pairwise_set/Helpfulness/Chat"),
            "must begin with BoN_set/Helpfulness/ or BoN_set",
        ),
        (rmb_row("bon", "1", loser_list=[]), "field 'loser_list': must contain a response"),
        (rmb_row("bon", "1", loser_list=["no"]), "field 'loser_list.0': must be an object"),
        (rmb_row("pair", "1", reject={"llm_name": "x"}), "field 'reject.answer'"),
        (rmb_row("pair", "1", conversation_input=[]), "field 'conversation_input': must end with a user turn"),
        (rmb_row("pair", "1", conversation_input=[TURN, {**TURN, "role": "assistant"}]), "must end with a user turn"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=f"S1.json, row 1: .*{message}"):
        rmb.load(write_rows(tmp_path / "S1.json", [row]))


def test_the_columns_that_are_read_are_told(tmp_path: Path) -> None:
    told: list[set[str]] = []
    rows = [{**rmb_row(kind, "1"), "context": "not read"} for kind in ("pair", "bon")]
    rmb.load(write_rows(tmp_path / "a.json", rows), lambda row, read: told.append(set(read)))
    both = {"conversation_input", "category_path"}
    assert told == [both | {"pair_uid", "chosen", "reject"}, both | {"bon_uid", "bon_best", "loser_list"}]


def test_the_hub_has_no_rmb_of_its_authors() -> None:
    with pytest.raises(SourceError, match="RMB's authors publish files, not a hub data set"):
        rmb.load("hub:someone/RMB")


def test_the_real_rmb() -> None:
    real_file("rmb/BoN_set/Harmlessness/S6.json")
    loaded = rmb.load(str(REAL / "rmb"))
    assert Counter(item.group for item in loaded.items) == {
        "Pairwise Helpfulness": 306, "Pairwise Harmlessness": 459, "BoN Helpfulness": 100, "BoN Harmlessness": 83,
    }  # fmt: skip
    assert Counter(len(item.cells) for item in loaded.items if item.group == "BoN Harmlessness") == {2: 57, 3: 24, 4: 2}
    assert loaded.lacks[0] == "36 of the 37 scenarios of Pairwise Helpfulness"
