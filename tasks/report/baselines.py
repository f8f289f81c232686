"""The report of the flow `baselines`: the accuracy and cost of each method, over one seed or several."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from data.files import write_json
from data.store.store import RunStore
from tasks.page import charts
from tasks.page.rendering import duration, number, percent
from tasks.page.summary import Summary, Table
from tasks.plan.show import amount

Row = dict[str, Any]
Found = Mapping[int, Sequence[Row]]
"""The methods' rows, from `tasks.baselines.Method.to_json`, by seed."""

_FOUND = "comparison.json"
TITLES = {
    "discriminative": "discriminative",
    "label-only": "label-only",
    "gram": "GRAM",
    "rationale": "with rationales",
    "self-trained": "self-trained",
}
_METHODS = {
    "discriminative": "Discriminative: scores each response, trained with the Bradley-Terry loss.",
    "label-only": "Label-only: replies with the label (Eq. 1).",
    "gram": "GRAM: trained with label smoothing over the two labels.",
    "rationale": "With rationales: the first judge, trained on the prover's proofs.",
    "self-trained": "Self-trained: that judge after its last round.",
}
_PRETRAINED = (
    "GRAM: pre-trained on both responses of the unlabeled pairs, then trained with label smoothing over the two labels."
)
_NOTES = (
    "Accuracy on the held-out pairs, each in both orders. Tokens trained count every pass, including prover and pre-training; "
    "tokens generated are those of proofs and votes. Time covers training and generation, not benchmarks.",
    "Points per cost are the accuracy above guessing (50%), in percentage points. Tokens per judgment are what each "
    "comparison costs once the judge is in use: a judge that replies with the label alone needs one.",
)


def write_comparison(store: str, run_name: str, found: Found) -> str:
    """Writes ``comparison.html``, ``.md`` and ``.json`` into the run's folder; returns where the page is in the store."""
    run = RunStore(store, run_name)
    run.path.mkdir(parents=True, exist_ok=True)
    write_json(run.path / _FOUND, {str(seed): list(rows) for seed, rows in found.items()})
    run.share(run.path / _FOUND)
    return run.shown(summary(run_name, found).write(run, "comparison"))


def compared_seeds(store: str, run_name: str) -> set[int]:
    """The seeds of the comparison that is there; none if there is none."""
    run = RunStore(store, run_name)
    path = run.path / _FOUND
    run.bring(path)
    return set(map(int, json.loads(path.read_text(encoding="utf-8")))) if path.is_file() else set()


def summary(run_name: str, found: Found) -> Summary:
    """The page."""
    methods = [row["method"] for row in next(iter(found.values()))]
    by_method = {m: [next(r for r in rows if r["method"] == m) for rows in found.values()] for m in methods}
    seeds = ", ".join(map(str, found))
    many = len(found) > 1
    table = Table(
        "The methods",
        [_shown(method, rows) for method, rows in by_method.items()],
        (
            _explained(by_method),
            *_NOTES,
            f"Mean ± standard deviation over the seeds {seeds}." if many else f"One seed: {seeds}.",
        ),
    )
    intro = "Methods of training a reward model on the same labeled pairs: how accurate each one is, and what it costs."
    points = [
        (TITLES[m], _mean([_tokens(r) for r in rows]), _mean([r["accuracy"] for r in rows]))
        for m, rows in by_method.items()
    ]
    loud = [f"seed {seed}, {line}" for seed, rows in found.items() for row in rows for line in row["warnings"]]
    loud = list(dict.fromkeys(loud))  # methods have stages in common
    return Summary(
        run_name,
        intro,
        [table, *_sets(by_method)],
        [("Accuracy by cost", charts.accuracy_by_cost(points))],
        warnings=loud,
    )


def _explained(by_method: Mapping[str, Sequence[Row]]) -> str:
    """What the methods in the table are."""
    pretrained = {"gram": _PRETRAINED} if any(row["pretrained"] for row in by_method.get("gram", ())) else {}
    return " ".join({**_METHODS, **pretrained}[method] for method in by_method)


def _shown(method: str, rows: Sequence[Row]) -> dict[str, str]:
    intervals = [row["interval"] for row in rows]
    shown = {"method": TITLES[method], "accuracy (%)": mean_sd([100 * row["accuracy"] for row in rows])}
    if len(rows) == 1:
        shown["95% interval"] = f"{percent(intervals[0][0])} – {percent(intervals[0][1])}" if intervals[0] else "–"
    return shown | {
        "tokens trained": amount(_mean([r["tokens_trained"] for r in rows])),
        "tokens generated": amount(_mean([r["tokens_generated"] for r in rows])),
        "time": duration(_mean([r["seconds"] for r in rows])),
        "points / M tokens": number(_mean([r["points_a_million_tokens"] for r in rows]), 1),
        "points / hour": number(_mean([r["points_an_hour"] for r in rows]), 0),
        "tokens / judgment": number(_mean([r["tokens_a_judgment"] for r in rows]), 1),
    }


def _sets(by_method: Mapping[str, Sequence[Row]]) -> list[Table]:
    names = list(next(iter(by_method.values()))[0]["sets"])
    if not names:
        return []
    rows = [
        {"set": name, **{TITLES[method]: _set_score(name, rows) for method, rows in by_method.items()}}
        for name in names
    ]
    return [Table("Other sets (score in %)", rows, ("A set with a missing part has no score (–).",))]


def _set_score(name: str, rows: Sequence[Row]) -> str:
    """The score of a set over the seeds; of one seed with its interval, if only some of the set's items were drawn."""
    known = [100 * row["sets"][name] for row in rows if row["sets"][name] is not None]
    if len(known) < len(rows):
        return "–"
    low_high = rows[0].get("drawn", {}).get(name) if len(rows) == 1 else None
    return mean_sd(known) + (f" ({100 * low_high[0]:.1f} – {100 * low_high[1]:.1f})" if low_high else "")


def _tokens(row: Row) -> int:
    return int(row["tokens_trained"] + row["tokens_generated"])


def _mean(values: Sequence[float]) -> float:
    return statistics.mean(values)


def mean_sd(values: Sequence[float]) -> str:
    """Mean, with the standard deviation if there are several values."""
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"
