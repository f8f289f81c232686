"""Runs as JudgeBench's and LLMBar's authors store them, read as games; on made-up rows of their shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data.benchmarks import judgebench, llmbar
from data.benchmarks.items import Benchmark
from tasks.benchmark.games import GamesError, read_games
from tasks.benchmark.score import score
from tests.support.scoring import DRAWS
from tests.support.scoring_rows import Row, judgebench_row, llmbar_row, write_rows


def stored(row: Row, *decisions: str | None) -> Row:
    """A row of JudgeBench with what the judge decided in each order; None for a judgment that failed."""
    judgments = [None if one is None else {"judgment": {"text": "…"}, "decision": one} for one in decisions]
    return {**row, "judge_name": "any", "judgments": judgments}


def knowledge(tmp_path: Path, *decisions: str | None, label: str = "A>B", **kept: Any) -> Any:
    row = judgebench_row("p1", label=label)
    benchmark = judgebench.load(write_rows(tmp_path / "jb.jsonl", [row]))
    games = read_games(benchmark, Path(write_rows(tmp_path / "run.jsonl", [stored(row, *decisions)])), **kept)
    return score(games, draws=DRAWS, **kept)


@pytest.mark.parametrize(
    ("label", "decisions", "right"),
    [
        ("A>B", ("A>B", "B>A"), 1.0),  # the second judgment is of the swapped pair, in its own terms
        ("B>A", ("A>B", "B>A"), 0.0),
        ("B>A", ("B>A", "A=B"), 1.0),
        ("A>B", ("A>B", None), 1.0),
        ("A>B", ("A>B", "A>B"), 0.0),
        ("A>B", ("A>B", "C"), 1.0),  # what is none of these counts as nothing, as in the authors' code
        ("A>B", ("C", None), 0.0),
    ],
)
def test_judgebenchs_judgments_are_in_terms_of_what_was_shown(
    tmp_path: Path, label: str, decisions: tuple[str | None, ...], right: float
) -> None:
    scored = knowledge(tmp_path, *decisions, label=label)
    assert scored["categories"]["knowledge"] == right
    assert scored["games"]["unparsed"] == sum(one in (None, "C") for one in decisions) / 2
    assert ("unknown decision 'C'" in scored["games"]["unparsed_reasons"]) == ("C" in decisions)


def test_a_run_of_single_games_lacks_the_second_order(tmp_path: Path) -> None:
    with pytest.raises(GamesError, match=r"1 game is missing .* p1 BA.* --partial"):
        knowledge(tmp_path, "A>B")
    assert knowledge(tmp_path, "A>B", partial=True)["single_game"]["categories"]["knowledge"] == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pair_id": "p9"}, "line 1: field 'pair_id': the data has no 'p9'; it is a row of the split 'gpt'"),
        ({"label": "B>A"}, "line 1: field 'label': is str 'B>A', but 'A>B' in the data"),
        ({"judgments": []}, "line 1: field 'judgments': must be a list of one or two judgments"),
        ({"judgments": [{"judgment": "x"}]}, "line 1: field 'judgments.0.decision': is missing"),
    ],
)
def test_a_stored_row_that_is_none_is_named(tmp_path: Path, changes: Row, message: str) -> None:
    row = judgebench_row("p1")
    benchmark = judgebench.load(write_rows(tmp_path / "jb.jsonl", [row]))
    path = write_rows(tmp_path / "run.jsonl", [{**stored(row, "A>B", "B>A"), **changes}])
    with pytest.raises(GamesError, match=message):
        read_games(benchmark, Path(path))


# ---- LLMBar ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def bar(tmp_path: Path) -> Benchmark:
    """Two rows in two subsets; the first rows differ only in their input."""
    for subset in llmbar.SUBSETS[:2]:
        write_rows(tmp_path / "bar" / f"{subset}.json", llmbar_rows(subset))
    return llmbar.load(str(tmp_path / "bar"))


def llmbar_rows(subset: str) -> list[Row]:
    return [llmbar_row(label, input=f"{subset} {label}?") for label in (1, 2)]


def with_winners(row: Row, *winners: str | None) -> Row:
    """A row of LLMBar with the winner as it is and swapped, after a step that is no verdict."""
    named = {f"swap = {swap}": {"winner": winner} for swap, winner in zip((False, True), winners, strict=True)}
    return {**row, "results": [["a metric", "stop"], named]}


def test_llmbars_winners_are_outputs_of_the_file(bar: Benchmark, tmp_path: Path) -> None:
    """The file's name does not say which subset it is of. Right in both; right as it is, no verdict swapped."""
    rows = llmbar_rows("Adversarial_Neighbor")
    results = [with_winners(rows[0], "1", "1"), with_winners(rows[1], "2", None)]
    scored = score(read_games(bar, Path(write_rows(tmp_path / "result.json", results))), draws=DRAWS)
    found = scored["subsets"]["Adversarial_Neighbor"]
    assert (found["accuracy_as_published"], found["accuracy_swapped"], found["both_correct"]) == (1.0, 0.5, 0.5)
    assert (found["agreement"], list(scored["subsets"])) == (0.5, ["Adversarial_Neighbor"])


def test_several_files_of_llmbar_are_one_run(bar: Benchmark, tmp_path: Path) -> None:
    paths = [
        Path(
            write_rows(tmp_path / str(i) / "result.json", [with_winners(row, "1", "1") for row in llmbar_rows(subset)])
        )
        for i, subset in enumerate(llmbar.SUBSETS[:2])
    ]
    scored = score(read_games(bar, *paths), draws=DRAWS)
    assert {name: one["accuracy"] for name, one in scored["subsets"].items()} == dict.fromkeys(llmbar.SUBSETS[:2], 0.5)


def test_a_stored_row_of_other_texts_is_refused(bar: Benchmark, tmp_path: Path) -> None:
    row = with_winners(llmbar_row(1, input="Another?"), "1", "1")
    path = tmp_path / "result.json"
    path.write_text(json.dumps([row]))
    with pytest.raises(GamesError, match=r"line 1: field 'input': no subset in the data has this input .* row 0"):
        read_games(bar, path)
    path.write_text(json.dumps([{**llmbar_rows("Natural")[0], "results": [{}]}]))
    with pytest.raises(GamesError, match=r"field 'results.-1.swap = False.winner': is missing"):
        read_games(bar, path)
