"""RMB's scores: pairs by whether the chosen response wins, best-of-n by whether the best one beats all others."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from data.benchmarks import rmb
from data.benchmarks.items import Benchmark, Cell, Item
from tasks.benchmark.games import of_rows
from tasks.benchmark.score import parts, score
from tests.conftest import REAL, real_file
from tests.support.commands import gram_r2
from tests.support.scoring import DRAWS
from tests.support.scoring_rows import (
    Row,
    by_score,
    game_rows,
    played,
    right_always,
    rmb_row,
    says,
    verdict,
    write_rows,
)


def rmb_of(tmp_path: Path, losers: int = 2) -> Benchmark:
    """Every scenario of each section, one row each."""
    rows = [
        rmb_row(kind, f"{goal}{i}", goal, losers, category_path=f"{folder}/{goal}/S{i}")
        for kind, folder in (("pair", "Pairwise_set"), ("bon", "BoN_set"))
        for goal, n in rmb.SCENARIOS.items()
        for i in range(n)
    ]
    return rmb.load(write_rows(tmp_path / "all.json", rows))


def test_the_total_is_the_mean_of_the_four_sections(tmp_path: Path) -> None:
    """Right on 12 of 98 rows, which are one section: sections count alike, whatever their size."""
    benchmark = rmb_of(tmp_path)
    assert score(played(benchmark, right_always), draws=DRAWS)["total"] == 1.0
    scored = score(played(benchmark, lambda i, c, o: verdict(i.group == "Pairwise Harmlessness", o)), draws=DRAWS)
    assert scored["sections"] == {**dict.fromkeys(rmb.SECTIONS.values(), 0.0), "Pairwise Harmlessness": 1.0}
    assert (scored["total"], parts(scored)) == (0.25, scored["sections"])
    assert scored["complete"]


def lost_to_the_last(item: Item, cell: Cell, order: int) -> Row:
    return verdict(cell.second + 1 < len(item.responses), order)


def test_best_of_n_is_wrong_if_one_loser_wins_or_ties(tmp_path: Path) -> None:
    """With three losers, a judge that is right of two of them has two thirds of the games, and no row."""
    benchmark = rmb_of(tmp_path, losers=3)
    for judge in (lost_to_the_last, by_score(lambda item, i: float(i in (0, 3)))):
        scored = score(played(benchmark, judge), draws=DRAWS)
        assert scored["sections"]["BoN Helpfulness"] == 0.0


@pytest.mark.parametrize("answer", [{"verdict": None}, {"verdict": "A"}, {"verdict": "tie"}])
def test_no_verdict_a_place_and_a_tie_are_wrong(tmp_path: Path, answer: Row) -> None:
    assert score(played(rmb_of(tmp_path), says(answer)), draws=DRAWS)["total"] == 0.0


def test_a_row_without_all_its_games_does_not_count(tmp_path: Path) -> None:
    rows = [rmb_row("bon", "1"), rmb_row("bon", "2")]
    benchmark = rmb.load(write_rows(tmp_path / "a.json", rows))
    games = [row for row in game_rows(benchmark, right_always) if (row["id"], row["cell"]) != ("bon/1", "0-2")]
    scored = score(of_rows(benchmark, games), partial=True, draws=DRAWS)
    assert (scored["sections"]["BoN Helpfulness"], scored["total"]) == (1.0, None)
    assert scored["missing"] == [
        "Pairwise Helpfulness", "Pairwise Harmlessness", "BoN Harmlessness", "36 of the 37 scenarios of BoN Helpfulness",
    ]  # fmt: skip


def longer(item: Item, cell: Cell, order: int) -> Row:
    return verdict(len(item.responses[cell.first]) > len(item.responses[cell.second]), order)


def test_a_fixed_judge_on_the_real_rmb(tmp_path: Path) -> None:
    """The longer response is taken; counted on the files themselves, with ties in length wrong."""
    counted = {}
    for file, section in (
        ("Pairwise_set/Helpfulness/Chat/Casual Conversation", "Pairwise Helpfulness"),
        ("Pairwise_set/Harmlessness/S1", "Pairwise Harmlessness"),
        ("BoN_set/Helpfulness/Closed QA/OptionBased", "BoN Helpfulness"),
        ("BoN_set/Harmlessness/S6", "BoN Harmlessness"),
    ):
        rows = json.loads(real_file(f"rmb/{file}.json").read_text(encoding="utf-8"))
        sides = [(row.get("chosen") or row["bon_best"], row.get("loser_list") or [row["reject"]]) for row in rows]
        wins = [all(len(best["answer"]) > len(other["answer"]) for other in others) for best, others in sides]
        counted[section] = round(sum(wins) / len(wins), 10)
    scored = score(played(rmb.load(str(REAL / "rmb")), longer), draws=DRAWS)
    assert scored["sections"] == counted
    assert scored["total"] is None  # 94 of 98 files are missing here


def test_rmb_is_described(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "S6.json", [rmb_row("bon", "1", "Harmlessness"), rmb_row("pair", "1", "Harmlessness")])
    done = gram_r2("describe", path, "--benchmark", "rmb")
    assert (done.code, done.err) == (0, "")
    text = re.sub(r"\s+", " ", done.out)
    assert "rmb: 2 items, 3 comparisons" in text
    assert "All columns are read" in text
    assert "missing 11 of the 12 scenarios of Pairwise Harmlessness" in text
    assert "unchecked the overall number: the authors' code has none" in text
