"""What people have said about a run's pairs: the folder ``review/`` of the run, which its next start reads.

::

    review/demo-3f0c81d2.jsonl    a queue: the pairs of one export as they were shown, with what the judge said of them
    review/answers.jsonl          each annotator's latest answer to each pair
    review/labeled.jsonl          the pairs that join the labeled ones, as records with a label
    review/calibration.jsonl      those that join the calibration pairs; no pair is in both files

A line of a queue::

    {"id": "demo-3f0c81d2-0001", "pair": "9f31…", "order": "ba", "prompt": [{"role": "user", "content": "Why?"}],
     "response_1": "…", "response_2": "…", "reasons": ["orders_disagree"], "run": "demo", "round": 1, "source": "forum",
     "judge_label": "A", "confidence": 0.75}

`order` "ba" says that response_1, which is shown first and answered for as A, is the pair's response_b; `judge_label` is the
judge's label in the order shown, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from data.files import json_line, read_jsonl, write_text
from data.records import ResponsePair, parse_messages
from data.sources.source import Source
from data.store.run_folder import RunFolder
from tasks.model.orders import shown

Destination = Literal["labeled", "calibration"]
DESTINATIONS: tuple[Destination, ...] = get_args(Destination)
ANSWERS = "answers.jsonl"


class ReviewError(ValueError):
    """A run without anything to review, or a file of answers that cannot be used: which, where, and what to do."""


def review_folder(run: Path) -> Path:
    """Where a run keeps its reviews, given the run folder."""
    return run / "review"


def gold_file(run: Path, into: Destination) -> Path:
    """The reviewed pairs of a run that join its labeled pairs, or its calibration pairs. It is there only if there are any."""
    return review_folder(run) / f"{into}.jsonl"


def reviewed_source(run: RunFolder, into: Destination) -> Source | None:
    """The same as a source; None if there are no such pairs."""
    path = gold_file(run.path, into)
    run.bring(path)
    return Source(path=str(path)) if path.is_file() else None


def write_queue(run: Path, name: str, lines: Iterable[Mapping[str, Any]]) -> None:
    """Keeps what was asked: without it, answers cannot be read."""
    write_text(review_folder(run) / f"{name}.jsonl", "".join(map(json_line, lines)))


def queues_in(run: Path) -> Iterator[dict[str, Any]]:
    """The lines of every queue that was exported from a run."""
    kept = {ANSWERS, *(f"{into}.jsonl" for into in DESTINATIONS)}
    for path in sorted(review_folder(run).glob("*.jsonl")):
        if path.name not in kept:
            yield from read_jsonl(path)


def pair_of(line: Mapping[str, Any]) -> ResponsePair:
    """The pair in a line of a queue, as the run has it: the order in which it was shown is undone."""
    asked = ResponsePair(
        line["pair"], parse_messages(line["prompt"]), line["response_1"], line["response_2"], line["source"]
    )
    return shown(asked, line["order"])


def answers_in(run: Path) -> list[dict[str, Any]]:
    """All answers that have been imported into a run."""
    path = review_folder(run) / ANSWERS
    return list(read_jsonl(path)) if path.is_file() else []


def write_answers(
    run: Path, answers: Iterable[Mapping[str, Any]], into: Destination, gold: Sequence[Mapping[str, Any]]
) -> Path:
    """Writes all answers, then the reviewed pairs of a kind that follow from them; returns the latter's file.

    If it is interrupted between the two, importing the same answers again writes the second.
    """
    write_text(review_folder(run) / ANSWERS, "".join(map(json_line, answers)))
    path = gold_file(run, into)
    if gold:
        write_text(path, "".join(map(json_line, gold)))
    else:  # a source without rows would be an error
        path.unlink(missing_ok=True)
    return path
