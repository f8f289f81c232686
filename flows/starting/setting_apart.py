"""Held-out rows of a file whose rows ask the same: a split by prompt would give all of them to one side.

The rows are copied as they are, so that the file's format reads both parts.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

from data.files import write_jsonl
from data.seeds import derive_seed
from data.sources.rows import BrokenRow
from data.sources.sources import read_rows
from flows.config.recipes import ConfigError
from flows.starting.files import LOOKED_AT, again
from flows.starting.inputs import Inputs
from flows.starting.scale import heldout_share

LABELED, HELDOUT = "prepared/labeled.jsonl", "prepared/heldout.jsonl"


def set_apart(inputs: Inputs, folder: Path) -> Inputs:
    """The inputs with the (first) labeled file divided in two, which are written to the folder."""
    first, *others = inputs.labeled
    rows = [raw.value for raw in read_rows(first.source) if not isinstance(raw.value, BrokenRow)]
    n = max(1, round(heldout_share(len(rows)).value * len(rows)))
    drawn = set(random.Random(derive_seed(0, "set apart")).sample(range(len(rows)), n))
    if Path(first.source.path).resolve().parent == (folder / LABELED).resolve().parent:
        raise ConfigError(f"{first.source.path}: lies where its two parts would be written: move it, or give --heldout")
    for name, wanted in ((LABELED, False), (HELDOUT, True)):
        write_jsonl(folder / name, (row for i, row in enumerate(rows) if (i in drawn) is wanted))  # type: ignore[misc]
    labeled, heldout = (again(first, str((folder / name).absolute())) for name in (LABELED, HELDOUT))
    own = inputs.rationale is not None and inputs.rationale.source == first.source
    rationale = labeled if own else inputs.rationale
    return replace(inputs, labeled=(labeled, *others), heldout=heldout, rationale=rationale)


def must_be_set_apart(inputs: Inputs) -> bool:
    """Whether no split by prompt can hold anything out, and the rows are few enough to be copied."""
    needs = inputs.flow != "benchmark" and inputs.heldout is None and inputs.one_prompt
    return needs and inputs.labeled[0].rows <= 20 * LOOKED_AT
