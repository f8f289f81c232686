"""Our own records, and rows read through a column map."""

from __future__ import annotations

import json
from typing import Any, TypeGuard

from data.records import Message, RecordError
from data.sources.columns import ColumnMap
from data.sources.fields import (
    Row,
    Turns,
    as_id,
    as_prompt,
    as_text,
    contents,
    given_id,
    got,
    is_null,
    number_at,
    optional_text_at,
    reach,
    read_prompt,
    text_at,
    text_or_turns,
    with_system,
    with_text,
)
from data.sources.formats.candidate import Candidate, Kind, Truth, Unusable, truth_of_scores
from data.sources.formats.chosen_rejected import each_rejected, prompts_differ, split_answer, split_turns


def own_record(row: Row, kind: Kind) -> Candidate:
    label = row.get("label")
    if kind in ("preference", "rationale") or (kind == "pair_with_truth" and not is_null(label)):
        if label not in ("A", "B"):
            raise RecordError("label", f'must be "A" or "B", got {got(label)}')
    else:
        label = None
    # That the row has all its columns comes first: only then may one be refused for what it shows.
    asked, responses = reach(row, "prompt"), (text_at(row, "response_a"), text_at(row, "response_b"))
    return Candidate(
        prompt=read_prompt(asked, "prompt"),
        responses=responses,
        truth=label,
        rationale=optional_text_at(row, "rationale") if kind == "rationale" and "rationale" in row else None,
        id=given_id(row),
        source=optional_text_at(row, "source") if "source" in row else None,
    )


# ---- column maps -----------------------------------------------------------------------------------------------------


def by_columns(row: Row, columns: ColumnMap, kind: Kind) -> tuple[Candidate | Unusable, ...]:
    """The pair that a column map finds in a row, or one for each of several rejected responses."""
    row = _without_json_text(row, columns.json_columns)
    identity = as_id(reach(row, columns.id), columns.id) if columns.id is not None else None
    first = columns.response_a or columns.chosen or ""
    seconds = [(columns.response_b or "", identity)]
    if columns.rejected is not None:
        asks_in_turns = columns.prompt is not None and _is_texts(reach(row, columns.prompt))
        seconds = [(columns.rejected, identity)] if asks_in_turns else each_rejected(row, columns.rejected, identity)
    return tuple(_pair_by_columns(row, columns, kind, (first, second), own_id) for second, own_id in seconds)


def _pair_by_columns(
    row: Row, columns: ColumnMap, kind: Kind, paths: tuple[str, str], identity: str | None
) -> Candidate | Unusable:
    sides = [_side(row, columns, path) for path in paths]
    conversations = [(path, turns) for path, (turns, _) in zip(paths, sides, strict=True) if turns]
    if len(conversations) == 2:
        differ = prompts_differ(paths, (sides[0][0], sides[1][0]), identity)
        if differ is not None:
            return differ
    responses = (sides[0][1], sides[1][1])
    place, prompt = _prompt_by_columns(row, columns, conversations, responses)
    return Candidate(
        prompt=with_system(prompt, optional_text_at(row, columns.system), columns.system or "", place),
        responses=responses,
        positioned=columns.chosen is None,
        truth=_truth_by_columns(row, columns, kind),
        rationale=optional_text_at(row, columns.rationale) if kind == "rationale" else None,
        id=identity,
    )


def _side(row: Row, columns: ColumnMap, path: str) -> tuple[Turns, str]:
    """The turns before a response in its column, if it holds the whole conversation, and the response."""
    value = reach(row, path)
    asked = reach(row, columns.prompt) if columns.prompt is not None else None
    if not _is_texts(asked):
        return split_turns(value, path)
    # Chatbot Arena on Kaggle: a list of what the user says, and a list of what each model answers.
    if not _is_texts(value) or len(value) != len(asked):
        many = f"must be a list of {len(asked)} texts, as many as {columns.prompt!r} has"
        raise RecordError(path, f"{many}, got {got(value)}")
    turns: list[Message] = []
    for question, answer in zip(asked, value, strict=True):
        turns += [Message("user", as_text(question, columns.prompt or "")), Message("assistant", as_text(answer, path))]
    return split_answer(tuple(turns), path)


def _prompt_by_columns(
    row: Row, columns: ColumnMap, conversations: list[tuple[str, Turns]], responses: tuple[str, str]
) -> tuple[str, Turns]:
    """The column that the prompt was read from, and the prompt, without what the system column adds.

    A conversation that ends with one of the responses is the prompt up to there.
    """
    extra, given = optional_text_at(row, columns.prompt_extra), None
    if columns.prompt is not None:
        value = reach(row, columns.prompt)
        # A list of texts is only read beside lists of answers, of which the conversations were made.
        given = conversations[0][1] if conversations and _is_texts(value) else text_or_turns(value, columns.prompt)
    if given and given[-1].role == "assistant" and given[-1].content in responses:
        given = given[:-1]
    if given is None and not conversations:
        raise RecordError(
            "prompt", f"is not in the map, and the responses are only answers: name its column; the row {contents(row)}"
        )
    for path, turns in conversations:
        if given and given != turns and not (len(given) == 1 and given[0] in turns):
            raise RecordError(
                path, f"is a conversation that does not contain {columns.prompt!r}; it is unclear which is right"
            )
    place, turns = conversations[0] if conversations else (columns.prompt or "", given or ())
    return place, as_prompt(with_text(turns, extra), place)


def _truth_by_columns(row: Row, columns: ColumnMap, kind: Kind) -> Truth:
    """The label as the map finds it: in a column, or several; by scores; or by the names chosen and rejected alone."""
    if kind == "pair":
        return "A" if columns.chosen is not None else None
    if columns.labels:
        return columns.label_in(row)
    if columns.one_hot:
        return columns.marked_in(row)
    if columns.score_a is None or columns.score_b is None:
        return "A" if columns.chosen is not None else None
    truth = truth_of_scores(number_at(row, columns.score_a), number_at(row, columns.score_b))
    if columns.chosen is not None and truth == "B":
        raise RecordError(
            columns.score_a,
            f"is lower than {columns.score_b!r}, but belongs to {columns.chosen!r}, the better response",
        )
    return truth


def _is_texts(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


def _without_json_text(row: Row, names: list[str]) -> Row:
    """The row with the cells of these columns parsed. Raises RecordError for one that is not JSON written as text."""
    parsed: dict[str, Any] = {}
    for name in names:
        text = text_at(row, name)
        try:
            parsed[name] = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RecordError(name, f"must be JSON written as text ({error}), got {got(text)}") from error
    return {**row, **parsed} if parsed else row
