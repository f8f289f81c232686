"""One row of a public format → a `Candidate` per pair. Each family of formats has a file in `data.sources.formats`.

A row that does not match its format raises `RecordError`; the reader adds file and row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from data.sources.columns import ColumnMap
from data.sources.fields import UNSHOWN, Row, outermost, unshown_in
from data.sources.formats.asked import prompt_columns
from data.sources.formats.candidate import REFUSED, Candidate, DropReason, Kind, Unusable
from data.sources.formats.chosen_rejected import chosen_rejected
from data.sources.formats.compared import multipref, pku_saferlhf, preference_collection, unified_feedback
from data.sources.formats.gram import gram_fine_tuning, gram_pre_training, gram_rr
from data.sources.formats.helpsteer3 import helpsteer3
from data.sources.formats.own import by_columns, own_record
from data.sources.formats.several import code_ultrafeedback, stack_exchange

__all__ = [
    "RATIONALE_FORMATS",
    "REFUSED",
    "UNLABELED_FORMATS",
    "Candidate",
    "DropReason",
    "Format",
    "Kind",
    "Unusable",
    "adapt",
    "columns_read",
]

Format = Literal[
    "records",
    "chosen-rejected",
    "helpsteer3",
    "multipref",
    "code-ultrafeedback",
    "unified-feedback",
    "preference-collection",
    "pku-saferlhf",
    "stack-exchange",
    "gram-pre-training",
    "gram-fine-tuning",
    "gram-rr",
    "columns",
]
UNLABELED_FORMATS: tuple[Format, ...] = ("gram-pre-training",)
"""The formats without labels; a column map may also name none."""
RATIONALE_FORMATS: tuple[Format, ...] = ("records", "helpsteer3", "preference-collection", "gram-rr")
"""The formats with rationales; a column map may also name one."""

_READ: Mapping[Format, frozenset[str]] = {
    "records": frozenset({"id", "prompt", "response_a", "response_b", "label", "rationale", "source"}),
    "chosen-rejected": frozenset({"id", "chosen", "rejected"}),
    "helpsteer3": frozenset({"id", "context", "response1", "response2", "overall_preference", "individual_preference"}),
    "multipref": frozenset(
        {"comparison_id", "text", "completion_a", "completion_b"}
        | {"normal_worker_annotations", "expert_worker_annotations"}
    ),
    "code-ultrafeedback": frozenset({"instruction", "responses", "annotations"}),
    "unified-feedback": frozenset({"conv_A", "conv_B", "conv_A_rating", "conv_B_rating"}),
    "preference-collection": frozenset(
        {"orig_instruction", "orig_response_A", "orig_response_B", "orig_preference"}
        | {"orig_feedback", "orig_feedback_A", "orig_feedback_B"}
    ),
    "pku-saferlhf": frozenset({"prompt", "response_0", "response_1", "better_response_id"}),
    "stack-exchange": frozenset({"question", "answers"}),
    "gram-pre-training": frozenset({"id", "instruction", "input", "output"}),
    "gram-fine-tuning": frozenset({"id", "instruction", "output"}),
    "gram-rr": frozenset({"id", "instruction", "output"}),
    "columns": frozenset(),
}


def columns_read(row: Row, format: Format, columns: ColumnMap | None) -> frozenset[str]:
    """The columns of a row that its format or column map reads, some of which only for labels or rationales.

    Those of `UNSHOWN` are among them: a row that fills one is refused. Of nested columns, the outermost is named.
    """
    read = {*_READ[format], *UNSHOWN}
    if format == "chosen-rejected":
        read |= prompt_columns(row)
    if columns is not None:
        read |= {outermost(row, path) for path in columns.read}
    return frozenset(name for name in row if name in read)


def adapt(row: Row, format: Format, columns: ColumnMap | None, kind: Kind) -> tuple[Candidate | Unusable, ...]:
    """The pairs in a row: one, except in "code-ultrafeedback" and where several responses are rejected.

    Labels are read unless `kind` is "pair", rationales only for "rationale". Raises RecordError for a malformed row, and
    NotShowable for one that fills a column of `UNSHOWN`, unless a column map names it.
    """
    pairs = _pairs(row, format, columns, kind)
    for refusal in unshown_in(row):
        if columns is None or refusal.field not in columns.read:
            raise refusal
    return pairs


def _pairs(row: Row, format: Format, columns: ColumnMap | None, kind: Kind) -> tuple[Candidate | Unusable, ...]:
    if format == "code-ultrafeedback":
        return code_ultrafeedback(row, kind)
    if format == "chosen-rejected":
        return chosen_rejected(row)
    if format == "columns":
        assert columns is not None, "Source requires a column map for this format"
        return by_columns(row, columns, kind)
    return (_the_pair(row, format, kind),)


def _the_pair(row: Row, format: Format, kind: Kind) -> Candidate | Unusable:
    match format:
        case "records":
            return own_record(row, kind)
        case "helpsteer3":
            return helpsteer3(row, kind)
        case "multipref":
            return multipref(row, kind)
        case "unified-feedback":
            return unified_feedback(row, kind)
        case "preference-collection":
            return preference_collection(row, kind)
        case "pku-saferlhf":
            return pku_saferlhf(row, kind)
        case "stack-exchange":
            return stack_exchange(row, kind)
        case "gram-pre-training":
            return gram_pre_training(row)
        case "gram-fine-tuning":
            return gram_fine_tuning(row, kind)
        case "gram-rr":
            return gram_rr(row, kind)
        case "chosen-rejected" | "code-ultrafeedback" | "columns":
            raise AssertionError("its rows can have several pairs")
