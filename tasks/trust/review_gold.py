"""People's answers become gold labels: a majority of the annotators of a pair, of its latest answers.

A line of ``review/answers.jsonl``::

    {"pair": "9f31…", "item": "demo-3f0c81d2-0001", "annotator": "anna", "answer": "B", "time": "2026-11-26T19:31:00+00:00",
     "into": "labeled"}

Its answer is A for the response that sorts first as text: which one a run shows as A can change, as when its seed does.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from data.records import flip
from tasks.trust.review_answers import Answer
from tasks.trust.review_files import Destination, ReviewError, pair_of

Row = Mapping[str, Any]
_ITEM = re.compile(r"(.+)-[0-9a-f]{8}-\d{4,}")


def run_named_in(answers: Sequence[Answer]) -> str:
    """The name of the run that answers are about, from their ids. Raises ReviewError if they are not about one run."""
    runs: dict[str, str] = {}
    for one in answers:
        found = _ITEM.fullmatch(one.item)
        if found is None:
            raise ReviewError(
                f"{one.where}: the id {one.item!r} is none of a review queue: answers keep the ids they were given"
            )
        runs.setdefault(found[1], one.where)
    if len(runs) > 1:
        raise ReviewError(f"{list(runs.values())[1]}: is about another run than the lines before: {', '.join(runs)}")
    return next(iter(runs))


def in_the_run(
    answers: Iterable[Answer], queue: Mapping[str, Row], into: Destination, written: str
) -> list[dict[str, Any]]:
    """The answers as lines of ``answers.jsonl``: the order shown is undone; `written` is the time of those that do not tell one.

    `queue` has the lines of the run's queues by id. Raises ReviewError for an answer to none of them.
    """
    found = []
    for one in answers:
        line = queue.get(one.item)
        if line is None:
            raise ReviewError(f"{one.where}: the id {one.item!r} is in no review queue of this run")
        found.append(
            {
                "pair": line["pair"],
                "item": one.item,
                "annotator": one.annotator,
                "answer": _sorted(one.answer, line["response_1"], line["response_2"]),
                "time": one.time or written,
                "into": into,
            }
        )
    return found


def _sorted(answer: str, first: str, second: str) -> str:
    """An answer about two responses, with A for the one that sorts first; and back, as it is its own inverse."""
    return flip(answer) if answer in ("A", "B") and first > second else answer  # type: ignore[arg-type]


def check_destination(known: Iterable[Row], new: Iterable[Row]) -> None:
    """Raises ReviewError if a pair has an answer for the other pairs from an earlier import, whatever came of it.

    In both, it would be measured on what it was learned from; and its answers count together, not in two parts.
    """
    before = {row["pair"]: row["into"] for row in known if row["answer"] != "skip"}
    for row in new:
        if (other := before.get(row["pair"], row["into"])) != row["into"]:
            raise ReviewError(
                f"{row['item']} cannot join the {row['into']} pairs: an earlier import has an answer to its pair for the {other} "
                f"ones, and all answers to a pair go to one place. Import it with --into {other}"
            )


def merged(known: Iterable[Row], new: Iterable[Row]) -> tuple[list[Row], int]:
    """Each annotator's latest answer to each pair, sorted; and how many earlier answers were replaced by another one.

    An answer that only repeats what is known changes nothing, not even its time: importing a file twice is as once.
    """
    latest: dict[tuple[str, str], Row] = {}
    replaced = 0
    for row in [*known, *new]:
        before = latest.get((row["pair"], row["annotator"]))
        if before is not None and (row["answer"] == before["answer"] or row["time"] < before["time"]):
            continue
        replaced += before is not None
        latest[row["pair"], row["annotator"]] = row
    return [latest[key] for key in sorted(latest)], replaced


def outcome(answers: Collection[str]) -> str:
    """What several annotators' answers to a pair come to: A, B or tie, by more than half of those who did not skip it.

    Else "skip", if all did, or "no majority".
    """
    counted = Counter(answer for answer in answers if answer != "skip")
    if not counted:
        return "skip"
    (answer, n), *_ = counted.most_common()
    return answer if 2 * n > counted.total() else "no majority"


def gold_rows(answers: Iterable[Row], queue: Iterable[Row]) -> list[dict[str, Any]]:
    """A record with label A or B for each pair whose annotators agree on one, with who said so, when, and why they were asked."""
    asked = {line["id"]: line for line in queue}
    found = []
    for given in _by_pair(answers).values():
        line = _line_of(given, asked)
        pair = pair_of(line)
        said = [_sorted(row["answer"], pair.response_a, pair.response_b) for row in given]
        label = outcome(said)
        if label in ("A", "B"):
            review = {
                "annotators": [row["annotator"] for row in given],
                "answers": dict(sorted(Counter(said).items())),
                "time": max(row["time"] for row in given),
                "reasons": line["reasons"],
                "round": line["round"],
            }
            found.append({**pair.to_json(), "label": label, "review": review})
    return found


def _line_of(given: Sequence[Row], lines: Mapping[str, Row]) -> Row:
    """Of the queues' lines, by id, the one that the latest answer to a pair is to, skips aside: queues may share pairs."""
    return lines[max(given, key=lambda row: (row["answer"] != "skip", row["time"]))["item"]]


def _by_pair(answers: Iterable[Row]) -> dict[str, list[Row]]:
    found: defaultdict[str, list[Row]] = defaultdict(list)
    for row in answers:
        found[row["pair"]].append(row)
    return found


# ---- agreement -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Agreement:
    """How far several readings of the same pairs agree, by twos: `same` of `of`; `alpha` is None if it is not defined."""

    same: int
    of: int
    alpha: float | None

    def __str__(self) -> str:
        alpha = "not defined" if self.alpha is None else f"{self.alpha:.2f}"
        return f"{self.same} of {self.of} ({self.same / self.of:.1%}), Krippendorff's alpha {alpha}"


def agreement(pairs: Iterable[Sequence[str]]) -> Agreement:
    """The agreement between the readings of each pair; a pair with one reading says nothing."""
    several = [readings for readings in pairs if len(readings) > 1]
    twos = [one == other for readings in several for one, other in combinations(readings, 2)]
    return Agreement(sum(twos), len(twos), krippendorff_alpha(several))


def krippendorff_alpha(units: Iterable[Sequence[str]]) -> float | None:
    """Krippendorff's alpha for nominal values, any number of observers, and values that are missing.

    1 is full agreement, 0 what chance gives. None if all values are equal, or there are none to compare. From his "Computing
    Krippendorff's Alpha-Reliability" (2011), section C, written as 1 − observed ÷ expected disagreement.
    """
    observed, totals = 0.0, Counter[str]()
    for values in units:
        if len(values) > 1:
            counted = Counter(values)
            totals.update(counted)
            observed += _unequal(counted) / (len(values) - 1)
    expected = _unequal(totals) / (totals.total() - 1) if totals else 0.0
    return 1 - observed / expected if expected else None


def _unequal(counted: Counter[str]) -> int:
    """How many ordered twos of the counted values differ."""
    return counted.total() ** 2 - sum(n * n for n in counted.values())


def report(answers: Sequence[Row], queue: Iterable[Row]) -> list[str]:
    """The lines that an import prints of the pairs whose answers it has read: what became of them, and who agrees."""
    asked, by_pair = {line["id"]: line for line in queue}, _by_pair(answers)
    judged = {pair: _judge_label(_line_of(rows, asked)) for pair, rows in by_pair.items()}
    given = {pair: [row["answer"] for row in rows] for pair, rows in by_pair.items()}
    results = {pair: outcome(said) for pair, said in given.items()}
    count = Counter(results.values())
    annotators = sorted({row["annotator"] for row in answers})
    meant = [[answer for answer in said if answer != "skip"] for said in given.values()]
    lines = [
        f"answers: {len(answers)}, by {len(annotators)} annotator{'s' if len(annotators) > 1 else ''}; pairs: {len(given)}",
        f"gold labels: {count['A'] + count['B']} ({count['A']} A, {count['B']} B); left out: {count['tie']} tied, "
        f"{count['skip']} skipped, {count['no majority']} without a majority",
    ]
    between = agreement(meant)
    if between.of:
        split = sum(len(set(said)) > 1 for said in meant)
        lines.append(f"annotators agree in {between}; pairs on which they differ: {split}")
    with_judge = agreement(
        [label, judge] for pair, label in results.items() if label in ("A", "B") and (judge := judged[pair]) is not None
    )
    if with_judge.of:
        lines.append(f"the judge's labels agree with the gold ones in {with_judge}")
    return lines


def _judge_label(line: Row) -> str | None:
    """The judge's label, with A for the response that sorts first."""
    label = line["judge_label"]
    return label and _sorted(label, line["response_1"], line["response_2"])
