"""What people have answered, as each format writes it.

::

    {"id": "demo-3f0c81d2-0001", …, "answer": "A", "annotator": "anna"}                         neutral JSONL, a line an answer
    [{"data": {"id": "demo-3f0c81d2-0001", …}, "annotations": [{"completed_by": 1, "updated_at": "2026-11-26T19:31:00Z",
      "result": [{"from_name": "answer", "type": "choices", "value": {"choices": ["A"]}}]}]}]   Label Studio, exported as JSON
    {"instance_id": "demo-3f0c81d2-0001", "user_id": "anna", "labels": {"answer": {"A": "A"}}}  Potato, its export jsonl
    {"user_id": "anna", "instance_id_to_label_to_value":
      {"demo-3f0c81d2-0001": [[{"schema": "answer", "name": "A"}, "A"]]}}                       Potato, a user_state.json

Potato's as in potato/export/tabular_exporter.py and potato/user_state_management.py of github.com/davidjurgens/potato, version
2.8.0, commit f5ed5d481516ad01cb1ec8041ce64b71db19d15f.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.trust.review_files import ReviewError
from tasks.trust.review_formats import ANSWERS, FIELD

_STATE = "instance_id_to_label_to_value"


@dataclass(frozen=True)
class Answer:
    """One annotator's answer to a line of a queue, for the order in which its responses were shown.

    `time` is in UTC, as ISO 8601; None if the file does not tell. `where` says where in it the answer is.
    """

    item: str
    annotator: str
    answer: str
    time: str | None
    where: str


def read_answers(path: Path, annotator: str | None = None) -> tuple[list[Answer], int]:
    """The answers in a file, and how many lines or tasks have none yet.

    `annotator` is who answered lines of neutral JSONL that do not say. Raises ReviewError, with file and line, for what is
    no answer, and for a file without any.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ReviewError(
            f"{path}: is not UTF-8 text; it is none of the files that people's answers come in"
        ) from error
    found = list(_answers_in(path, text, annotator))
    answers = [one for one in found if one is not None]
    if not answers:
        raise ReviewError(f"{path}: holds no answers" + (f"; {len(found)} are still open" if found else ""))
    return answers, len(found) - len(answers)


def _answers_in(path: Path, text: str, annotator: str | None) -> Iterator[Answer | None]:
    """Each answer, or None for each that is still to be given."""
    if text.lstrip().startswith("["):
        for number, task in enumerate(_whole(path, text), start=1):
            with _in_shape(where := f"{path}, task {number}"):
                yield from _of_label_studio(task, where)
    elif _STATE in text and isinstance(state := _whole(path, text, or_lines=True), dict):
        for item, labels in state[_STATE].items():
            with _in_shape(where := f"{path}, instance {item!r}"):
                yield _of_potato_state(state, item, labels, where)
    else:
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                with _in_shape(where := f"{path}, line {number}"):
                    row = _row(line, where)
                    yield _of_potato(row, where) if "instance_id" in row else _of_line(row, annotator, where)


@contextmanager
def _in_shape(where: str) -> Iterator[None]:
    """Raises ReviewError where a part of an answer is missing, or is something else than it has to be."""
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, ReviewError):
            raise
        raise ReviewError(f"{where}: is in none of the formats that answers come in ({error!r})") from error


def _whole(path: Path, text: str, or_lines: bool = False) -> Any:
    """A file that is one JSON value; None if it is none and may be one of lines instead."""
    try:
        return json.loads(text)
    except ValueError as error:
        if or_lines:
            return None
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise ReviewError(f"{path}{line}: is not JSON ({error}); export it again") from error


def _row(line: str, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ReviewError(f"{where}: is not JSON ({error})") from error
    if not isinstance(row, dict):
        raise ReviewError(f"{where}: must be an object, is {type(row).__name__}")
    return row


# ---- one answer of each format ---------------------------------------------------------------------------------------------


def _of_line(row: Mapping[str, Any], annotator: str | None, where: str) -> Answer | None:
    if FIELD not in row:
        raise ReviewError(f"{where}: has no field {FIELD!r}, so it is not a line of a review queue")
    if row[FIELD] is None:
        return None
    who = row.get("annotator") or annotator
    if not who:
        raise ReviewError(
            f"{where}: does not say who answered: fill in the field 'annotator', or give --annotator NAME"
        )
    return Answer(
        _item(row.get("id"), where), str(who), _answer(row[FIELD], where), _time(row.get("time"), where), where
    )


def _of_label_studio(task: Any, where: str) -> Iterator[Answer | None]:
    if not isinstance(task, dict) or not isinstance(task.get("data"), dict) or "annotations" not in task:
        raise ReviewError(f"{where}: has no data and annotations: export the project from Label Studio as JSON")
    item = _item(task["data"].get("id"), where)
    if not task["annotations"]:
        yield None
    for made in task["annotations"]:
        who = made.get("completed_by")
        who = who.get("email") or who.get("id") if isinstance(who, dict) else who
        if who is None:
            raise ReviewError(f"{where}: an annotation does not say by whom it is (completed_by)")
        chosen = [one["value"]["choices"] for one in made["result"] if one.get("from_name") == FIELD]
        if made.get("was_cancelled"):  # Label Studio's own button Skip
            chosen = [["skip"]]
        if len(chosen) != 1 or len(chosen[0]) != 1:
            raise ReviewError(f"{where}: the annotation by {who} has {len(chosen)} answers to {FIELD!r}, must have one")
        time = _time(made.get("updated_at") or made.get("created_at"), where)
        yield Answer(item, str(who), _answer(chosen[0][0], where), time, where)


def _of_potato(row: Mapping[str, Any], where: str) -> Answer | None:
    labels = row.get("labels")
    if not isinstance(labels, dict) or not row.get("user_id"):
        raise ReviewError(f"{where}: has no user_id and labels: export Potato's answers as jsonl")
    chosen = _chosen(labels.get(FIELD, {}), where)
    return Answer(_item(row["instance_id"], where), str(row["user_id"]), chosen, None, where) if chosen else None


def _of_potato_state(state: Mapping[str, Any], item: str, labels: Any, where: str) -> Answer | None:
    named = {label["name"]: value for label, value in labels if label["schema"] == FIELD}
    chosen = _chosen(named, where)
    behavior = state.get("instance_id_to_behavioral_data", {}).get(item, {})
    times = [one["timestamp"] for one in behavior.get("annotation_changes", ()) if one.get("schema_name") == FIELD]
    time = datetime.fromtimestamp(max(times), UTC).isoformat() if times else None
    return Answer(item, str(state["user_id"]), chosen, time, where) if chosen else None


def _chosen(named: Mapping[str, Any], where: str) -> str | None:
    """The label that is set, of those of Potato's question; None if none is."""
    chosen = [name for name, value in named.items() if value not in (None, "", False, "false")]
    if len(chosen) > 1:
        raise ReviewError(f"{where}: has several answers ({', '.join(chosen)}): run `potato repair-annotations` first")
    return _answer(chosen[0], where) if chosen else None


def _item(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise ReviewError(f"{where}: has no id of a review queue")
    return value


def _answer(value: object, where: str) -> str:
    if value not in ANSWERS:
        raise ReviewError(f"{where}: the answer must be one of {', '.join(ANSWERS)}, is {value!r}")
    return str(value)


def _time(value: object, where: str) -> str | None:
    """A time as UTC in ISO 8601; one without a zone is taken for UTC."""
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise ReviewError(f"{where}: {value!r} is not a time in ISO 8601") from error
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
