"""Memory of votes: a round votes on the pairs of earlier rounds again, and what these voted enters its labels.

A row that is voted on again has its votes so far, as shares of all votes of a round, and the label of that round::

    {"id": "3f0c…", …, "earlier": [{"round": 1, "A": 0.75, "B": 0.125, "label": "A"}]}

`tasks.model.votes.Remembered` weighs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import chain
from typing import Any

from data.files import Lines, line_blocks
from data.records import parse_pair
from data.store.artifacts import Artifact, FileRef, Outcome
from tasks.machine.parallel import over_blocks
from tasks.model.requests import PROMPT_TOO_LONG
from tasks.run.sorting import SortedRows, written
from tasks.run.stage import Context, Run


def voted_on(run: Run, round: int, fresh: FileRef, labels: Artifact | None) -> FileRef:
    """The pairs that a round votes on: its fresh batch and, with `labels.memory`, those of all earlier rounds again.

    `labels` are those of the round before, whose pairs include the ones before them; None in the first round.
    """
    if labels is None or not run.settings.labels.memory:
        return fresh
    return add_earlier(run, round, fresh, labels).ref("batch.jsonl")


def add_earlier(run: Run, round: int, fresh: FileRef, labels: Artifact) -> Artifact:
    """The stage "batch" of a round: its fresh pairs, then those that the round before it voted on, kept and dropped alike."""

    def body(context: Context) -> Outcome:
        before = context.artifact("labels")
        again = chain.from_iterable(line_blocks(before.file(name)) for name in ("labels.jsonl", "dropped.jsonl"))
        blocks = chain(
            over_blocks(_fresh_in, line_blocks(context.file("fresh"))),
            over_blocks(partial(_again_in, before.manifest.round), again),
        )
        total = SortedRows()
        for made in written(context.work, "batch.jsonl", blocks):
            total.include(made)
        return Outcome(total.counts, {"fresh": total.tallies["from"]["fresh"], "again": total.tallies["from"]["again"]})

    config = {"of": labels.manifest.round}
    return run.find_or_make(f"round-{round}/batch", "batch", config, {"fresh": fresh, "labels": labels}, body, round)


def _fresh_in(lines: Lines) -> SortedRows:
    made = SortedRows()
    for row in lines.rows():
        made.tallies["from"]["fresh"] += 1
        made.keep(row)
    return made


def _again_in(round: int | None, lines: Lines) -> SortedRows:
    made = SortedRows()
    for row in lines.rows():
        pair = parse_pair(row).to_json()
        if row.get("reason") == PROMPT_TOO_LONG:
            made.drop(pair, "no_votes", because=row["reason"])
            continue
        made.tallies["from"]["again"] += 1
        # A pair whose votes failed in the round before is voted on again, with what it had.
        earlier = [*row.get("earlier", ()), *([_votes_of(row, round)] if "votes" in row else ())]
        made.keep({**pair, **({"earlier": earlier} if earlier else {})})
    return made


def _votes_of(row: Mapping[str, Any], round: int | None) -> dict[str, Any]:
    """The votes of a row that has been labeled, as shares of all of them or, of a label-only judge, as its probabilities."""
    if "p_a" in row:
        shares = {"A": row["p_a"], "B": 1 - row["p_a"]}
    else:
        n = sum(row["votes"].values())
        shares = {side: row["votes"][side] / n for side in ("A", "B")}
    return {"round": round, **shares, "label": row["label"]}
