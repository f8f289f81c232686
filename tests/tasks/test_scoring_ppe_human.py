"""The accuracy on PPE's human preferences: each order for itself, and their mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.benchmarks import ppe
from data.benchmarks.items import Benchmark
from tasks.benchmark.score import parts, score
from tests.support.scoring import DRAWS
from tests.support.scoring_rows import played, ppe_human_row, right_always, says, verdict, write_rows


def human_of(tmp_path: Path) -> Benchmark:
    winners = ["model_a", "model_b", "model_b", "tie"]
    return ppe.load_human(write_rows(tmp_path / "a.jsonl", [ppe_human_row(str(i), w) for i, w in enumerate(winners)]))


def test_the_total_is_the_share_of_right_verdicts_on_pairs_with_a_winner(tmp_path: Path) -> None:
    benchmark = human_of(tmp_path)
    scored = score(played(benchmark, lambda i, c, o: verdict(i.id == "1", o)), draws=DRAWS)
    assert (scored["total"], scored["dropped"]) == (round(1 / 3, 10), {"tie": 1})
    assert parts(scored) == {"ppe-human-preference": round(1 / 3, 10)}
    assert score(played(benchmark, right_always), draws=DRAWS)["total"] == 1.0


@pytest.mark.parametrize(("said", "total"), [("A", 0.5), ("tie", 0.0), (None, 0.0)])
def test_a_place_is_right_in_one_order_and_a_tie_in_none(tmp_path: Path, said: str | None, total: float) -> None:
    scored = score(played(human_of(tmp_path), says({"verdict": said})), draws=DRAWS)
    assert (scored["total"], scored["both_correct"]) == (total, 0.0)
