"""The true labels of unlabeled pairs, where they are known: in place of votes, or to see how often pseudo-labels are right."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from data.files import json_line, read_jsonl
from data.store.artifacts import Artifact, Counts, FileRef, Input, Outcome, StageError
from tasks.run.stage import Context, Run


def labels_from_truth(run: Run, round: int, batch: FileRef, truth: FileRef) -> Artifact:
    """The stage "label" of the gold control: the true labels instead of the judge's.

    Raises StageError if no true label of the first round's batch is known; a later round without any is the last.
    """

    def body(context: Context) -> Outcome:
        known = {row["id"]: row["label"] for row in read_jsonl(context.file("truth"))}
        sides: Counter[str] = Counter()
        n_rows = 0
        with (
            (context.work / "labels.jsonl").open("w", encoding="utf-8") as kept_file,
            (context.work / "dropped.jsonl").open("w", encoding="utf-8") as dropped_file,
        ):
            for row in read_jsonl(context.file("batch")):
                n_rows += 1
                label = known.get(row["id"])
                if label is None:
                    dropped_file.write(json_line({**row, "reason": "truth_unknown"}))
                    continue
                sides[label] += 1
                facts = {"label": label, "confidence": 1.0, "votes": {}, "orders_agree": True}
                kept_file.write(json_line({**row, **facts}))
        unknown = n_rows - sides.total()
        counts = Counts(n_rows, sides.total(), {"truth_unknown": unknown} if unknown else {})
        made = Outcome(counts, {"label_balance": dict(sides)})
        if sides:
            return made
        nothing = f"the true label of none of {n_rows} pairs is known: check data.unlabeled_truth and the rows' labels"
        if round == 1:
            raise StageError(nothing)
        return made.warning([f"{nothing}. There are no further rounds"])

    inputs = {"batch": batch, "truth": truth}
    return run.find_or_make(f"round-{round}/labels", "label", {"source": "truth"}, inputs, body, round)


def audit_labels(run: Run, round: int, labels: Artifact, truth: FileRef, by_domain: bool = False) -> Artifact:
    """The stage "audit": how often pseudo-labels are right for pairs whose true label is known. No model sees its result."""

    def body(context: Context) -> Outcome:
        known = {row["id"]: row["label"] for row in read_jsonl(context.file("truth"))}
        right: dict[str, list[bool]] = {"kept": [], "all": []}
        kept_in: defaultdict[str, list[bool]] = defaultdict(list)
        n_rows = 0
        for name in ("labels.jsonl", "dropped.jsonl"):
            for row in read_jsonl(context.artifact("labels").file(name)):
                n_rows += 1
                if row.get("label") is None or row["id"] not in known:
                    continue
                right["all"].append(row["label"] == known[row["id"]])
                if name == "labels.jsonl":
                    right["kept"].append(right["all"][-1])
                    kept_in[row.get("source", "")].append(right["all"][-1])
        metrics: dict[str, Any] = {f"{which}_right": _mean(values) for which, values in right.items()}
        if by_domain:
            metrics["kept_right_in"] = {name: _mean(values) for name, values in sorted(kept_in.items())}
        return Outcome(Counts(n_rows, n_rows), metrics)

    config = {"by": "domain"} if by_domain else {}
    inputs: dict[str, Input] = {"labels": labels, "truth": truth}
    return run.find_or_make(f"round-{round}/audit", "audit", config, inputs, body, round)


def _mean(values: Sequence[bool]) -> float | None:
    return round(sum(values) / len(values), 6) if values else None
