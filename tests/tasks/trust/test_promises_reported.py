"""What was promised of a round's labels, and whether it was shown, is in the tables of rounds."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tasks.report import ui
from tasks.report.self_training import write_report
from tasks.run.rounds import round_table
from tasks.run.stage import Run
from tests.support.written_run import fake_run, put


def group(domain: str | None, threshold: float | None) -> dict[str, Any]:
    return {"domain": domain, "threshold": threshold}


@pytest.fixture(scope="module")
def promised(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Round 1 keeps its promise; round 2 has shown it for one of two domains."""
    run, _ = fake_run(tmp_path_factory.mktemp("promised"))
    metrics: dict[str, Any] = {"promised": 0.95, "confidence": 0.95, "holds": True, "bound": 0.961, "kept_share": 0.7}
    put(run, "round-1/threshold", "threshold", 1, {}, {**metrics, "groups": [group(None, 0.85)]})
    groups = [group("chat", 0.75), group("code", None)]
    kept_right = {"kept_right": 0.9, "all_right": 0.8, "kept_right_in": {"chat": 0.9}}
    run.finished = [stage for stage in run.finished if stage.manifest.name != "round-2/audit"]
    put(run, "round-2/audit", "audit", 2, {}, kept_right)
    put(run, "round-2/threshold", "threshold", 2, {}, {**metrics, "holds": False, "bound": 0.952, "groups": groups})
    return run


def test_the_report_has_promise_bound_and_truth_side_by_side(promised: Run) -> None:
    page = write_report(promised).read_text(encoding="utf-8")
    table = page.split("Promised precision of labels, by round</h3>")[1].split("</table>")[0]
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in table.split("<tr")[2:]]
    said = [[" ".join(re.sub(r"<[^>]+>|&nbsp;", " ", cell).split()) for cell in row] for row in cells]
    truth = [f"{100 * row['kept_right']:.1f}%" for row in round_table(promised) if row["kept_right"] is not None]
    assert said == [
        ["95.0%", "96.1%", "70.0%", truth[0], "0.85"],
        ["95.0% not shown", "95.2%", "70.0%", "90.0%", "chat: 0.75 (90.0% correct) code: none kept"],
    ]


def test_without_a_promise_there_is_no_such_table(reported: Run) -> None:
    assert "Promised precision" not in write_report(reported).read_text(encoding="utf-8").split('<h2 id="words"')[0]
    assert not [row for row in ui.rounds_as_columns(round_table(reported))[0] if row["figure"] == "promised correct"]


def test_the_ui_says_where_it_is_not_shown(promised: Run) -> None:
    [row] = [row for row in ui.rounds_as_columns(round_table(promised))[0] if row["figure"] == "promised correct"]
    assert (row["round 1"], row["round 2"]) == ("95.0%", "not shown")
