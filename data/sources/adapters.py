"""One row of a public format → a `Candidate` per pair. Each family of formats has a file in `data.sources.formats`.

A row that does not match its format raises `RecordError`; the reader adds file and row.
"""

from __future__ import annotations

from typing import Literal

from data.sources.columns import ColumnMap
from data.sources.fields import Row, unshown_in
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
