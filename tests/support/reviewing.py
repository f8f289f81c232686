"""A queue, and what annotators make of it in each format."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.files import write_jsonl

Row = dict[str, Any]


def queue_line(number: int, order: str = "ab", run: str = "demo", **changes: Any) -> Row:
    """A line of a queue: the pair pN with the responses "first N" and "second N", of which the judge prefers A as shown."""
    first, second = f"first {number}", f"second {number}"
    return {
        "id": f"{run}-0123abcd-{number:04d}",
        "pair": f"p{number}",
        "order": order,
        "prompt": [{"role": "user", "content": f"Question {number}?"}],
        "response_1": first if order == "ab" else second,
        "response_2": second if order == "ab" else first,
        "reasons": ["near_threshold"],
        "run": run,
        "round": 1,
        "source": "hand",
        "judge_label": "A",
        "confidence": 0.75,
        **changes,
    }


def label_studio_export(
    path: Path, answers: Mapping[str, Sequence[tuple[int, str]]], time: str = "2026-11-26T12:00:00.5Z"
) -> Path:
    """Label Studio's export as JSON: for each id, who answered what."""

    def annotation(who: int, answer: str) -> Row:
        value = {
            "type": "choices",
            "value": {"choices": [answer]},
            "from_name": "answer",
            "to_name": "prompt",
            "id": "x",
        }
        return {"completed_by": who, "result": [value], "was_cancelled": False, "updated_at": time}

    tasks = [
        {"id": n, "data": {"id": item}, "annotations": [annotation(*one) for one in given], "predictions": []}
        for n, (item, given) in enumerate(answers.items(), start=1)
    ]
    path.write_text(json.dumps(tasks), encoding="utf-8")
    return path


def potato_export(path: Path, answers: Mapping[str, str], user: str = "anna") -> Path:
    """Potato's export as jsonl: for each id, the answer."""
    write_jsonl(
        path,
        (
            {"instance_id": item, "user_id": user, "labels": {"answer": {answer: answer}}, "spans": {}, "links": {}}
            for item, answer in answers.items()
        ),
    )
    return path


def potato_state(path: Path, answers: Mapping[str, str], user: str = "anna") -> Path:
    """One annotator's state, as Potato keeps it while they answer."""
    state = {
        "user_id": user,
        "instance_id_to_label_to_value": {
            item: [[{"schema": "answer", "name": answer}, answer]] for item, answer in answers.items()
        },
        "instance_id_to_behavioral_data": {
            item: {"annotation_changes": [{"timestamp": 1_800_000_000.0, "schema_name": "answer"}]} for item in answers
        },
    }
    path.write_text(json.dumps(state, indent=1), encoding="utf-8")
    return path
