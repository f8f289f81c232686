"""What is known of how far the labels behind a judge can be trusted, in sentences for its model card."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tasks.page.rendering import number, percent
from tasks.run.stage import Run

Row = dict[str, Any]


def checked(run: Run, table: Sequence[Row], chosen: int) -> list[str]:
    """One sentence for each thing that was checked; `table` is the run's table of rounds, `chosen` the judge's round."""
    origins = learned(table, chosen)
    examples = [f"Examples: {origins}."] if origins else []
    return [*examples, *_reviewed(run), *(said for row in table for said in _of_round(row))]


def learned(table: Sequence[Row], chosen: int) -> str:
    """How many examples of each origin the judge of round `chosen` learned from; empty where it is not known."""
    row = next((row for row in table if row["round"] == chosen), None)
    if row is None or row["labeled"] is None:
        return ""
    human = f" ({number(row['human'])} with a rationale by people)" if row["human"] else ""
    rounds = [f"{number(n)} of round {round}" for round, n in row["pseudo_by_round"].items()]
    by_round = f" ({', '.join(rounds)})" if len(rounds) > 1 else ""
    again = f", {number(row['repeated'])} of labeled pairs again" if row["repeated"] else ""
    lost = f"; the training kept {number(row['examples'])} of these" if row["examples"] != row["examples_of"] else ""
    return (
        f"{number(row['labeled'])} of labeled pairs{human}, "
        f"{number(row['pseudo_labeled'])} of pseudo-labeled pairs{by_round}{again}{lost}"
    )


def _reviewed(run: Run) -> Iterator[str]:
    data = run.finished_stage("reviewed-data")
    for into, n in (data.manifest.metrics["reviewed"] if data is not None else {}).items():
        use = "learned from" if into == "labeled" else "used for calibration"
        yield f"Reviewed by people for this run, and {use}: {number(n)} pairs."


def _of_round(row: Row) -> Iterator[str]:
    name = f"Round {row['name']}"
    if row["promised"] is not None:
        shown = (
            "this was not shown on calibration pairs"
            if not row["promise_holds"]
            else "this was shown on calibration pairs, at a less strict threshold than the one used"
            if row["promise_bound"] is None
            else f"at least {percent(row['promise_bound'])} was shown on calibration pairs"
        )
        yield f"{name}: at least {percent(row['promised'])} of the kept labels were to be right; {shown}."
    if row["gate"] is not None:
        yield f"Gate: {row['gate_reason']}."
    if row["proof_audit"] is not None:
        passed = row["proof_audit"]["passed"]
        yield (
            f"{name}: of the prover's proofs of wrong labels, {percent(passed['wrong']['value'])} pass the rules, of right "
            f"ones {percent(passed['right']['value'])}."
        )
