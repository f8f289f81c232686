"""What the report says of an audit of proofs, on a run written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.page.rendering import template
from tasks.report.costs import by_kind
from tasks.report.self_training import write_report
from tasks.run.rounds import round_table
from tasks.run.stage import Run
from tests.support.written_run import fake_run, put

PART = "Does a proof prove?"


def figure(value: float | None, low: float = 0.0, high: float = 1.0) -> dict[str, Any]:
    return {"value": value, "interval": None if value is None else [low, high]}


def audited(folder: Path, p_label: dict[str, Any] | None) -> Run:
    """A run whose round 1 has been audited."""
    run, _ = fake_run(folder)
    made = {
        "pairs": 50,
        "passed": {"right": figure(0.9625, 0.94, 0.98), "wrong": figure(0.2125, 0.15, 0.28)},
        "proved": {"right": figure(1.0), "wrong": figure(0.11)},
        "score": figure(0.742, 0.661, 0.815),
        "tokens_generated": 26_400,
    }
    put(run, "round-1/audit-claims", "audit-claims", 1, {}, {"right_by": {"true label": 48, "pseudo-label": 2}})
    put(run, "round-1/audit-proofs", "audit-proofs", 1, {}, made)
    read = {"judge": "round-0/judge", **({"p_label": p_label, "reply": figure(0.7)} if p_label else {})}
    put(run, "round-1/judge-proofs", "judge-proofs", 1, {}, read)
    return run


def test_the_audit_is_shown_by_round_with_its_intervals(tmp_path: Path) -> None:
    run = audited(tmp_path, figure(0.6, 0.52, 0.68))
    page = write_report(run).read_text(encoding="utf-8")
    section = page.split(PART)[1].split("</table>")[0]
    for shown in ("96.2%", "21.2%", "15 – 28%", "0.74", "0.66 – 0.81", "0.60", "11.0%"):
        assert shown in section
    assert "true label:&nbsp;<b>48</b>" in section
    assert section.count("<tr") == 2, "only round 1 has been audited"
    assert [row["proof_audit"] is None for row in round_table(run)] == [True, False, True, True]
    costs = {cost.name: cost for cost in by_kind(run)}
    assert costs["Auditing proofs (prover and judge)"].stages == 3
    assert costs["Auditing proofs (prover and judge)"].generated == 26_400


def test_an_audit_in_which_no_proof_has_passed_is_shown_too(tmp_path: Path) -> None:
    shown = template("audited.html.jinja").render(table=round_table(audited(tmp_path, None)), best=None)
    assert shown.count("–</td>") == 2


def test_without_an_audit_nothing_is_said_of_it(reported: Run) -> None:
    assert PART not in template("audited.html.jinja").render(table=round_table(reported), best=None)
