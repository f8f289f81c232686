"""Our own records, and rows read through a column map."""

from __future__ import annotations

from data.records import Message, RecordError
from data.sources.columns import ColumnMap
from data.sources.fields import (
    Row,
    as_id,
    as_prompt,
    given_id,
    got,
    optional_text_at,
    reach,
    read_prompt,
    text_at,
    text_or_turns,
    with_system,
    with_text,
)
from data.sources.formats.candidate import Candidate, Kind, Truth


def own_record(row: Row, kind: Kind) -> Candidate:
    label = row.get("label")
    if kind in ("preference", "rationale") or (kind == "pair_with_truth" and label is not None):
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


def by_columns(row: Row, columns: ColumnMap, kind: Kind) -> Candidate:
    positioned = columns.chosen is None
    paths = (columns.response_a, columns.response_b) if positioned else (columns.chosen, columns.rejected)
    truth: Truth = None if positioned else "A"
    if columns.label is not None and kind != "pair":
        truth = columns.label_of(reach(row, columns.label))
    return Candidate(
        prompt=_prompt_by_columns(row, columns),
        responses=(text_at(row, paths[0] or ""), text_at(row, paths[1] or "")),
        positioned=positioned,
        truth=truth,
        rationale=optional_text_at(row, columns.rationale) if kind == "rationale" else None,
        id=as_id(reach(row, columns.id), columns.id) if columns.id is not None else None,
    )


def _prompt_by_columns(row: Row, columns: ColumnMap) -> tuple[Message, ...]:
    value = reach(row, columns.prompt)
    turns = text_or_turns(value, columns.prompt)
    prompt = as_prompt(with_text(turns, optional_text_at(row, columns.prompt_extra)), columns.prompt)
    return with_system(prompt, optional_text_at(row, columns.system), columns.system or "", columns.prompt)
