"""Held-out rows of a file whose rows ask the same: a split by prompt would give all of them to one side."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from data.seeds import derive_seed
from flows.config.recipes import ConfigError
from flows.starting.copies import HELDOUT, LABELED, copied_rows, write_copies
from flows.starting.files import LOOKED_AT, again
from flows.starting.inputs import Inputs
from flows.starting.scale import heldout_share

_MOST_COPIED = 20 * LOOKED_AT
_FEWEST = 2


def set_apart(inputs: Inputs, folder: Path) -> Inputs:
    """The inputs with the (first) labeled file divided in two, which are written to the folder."""
    first, *others = inputs.labeled
    n_rows = sum(1 for _ in copied_rows(first.source))
    n = max(1, round(heldout_share(n_rows).value * n_rows))
    drawn = set(random.Random(derive_seed(0, "set apart")).sample(range(n_rows), n))

    def part(is_drawn: bool) -> Iterator[Mapping[str, Any]]:
        return (row for i, row in enumerate(copied_rows(first.source)) if (i in drawn) is is_drawn)

    write_copies(folder, {LABELED: part(False), HELDOUT: part(True)})
    labeled, heldout = (again(first, str((folder / name).absolute())) for name in (LABELED, HELDOUT))
    rationale = tuple(labeled if one.source == first.source else one for one in inputs.rationale)
    return replace(inputs, labeled=(labeled, *others), heldout=heldout, rationale=rationale)


def must_be_set_apart(inputs: Inputs) -> bool:
    """Whether no split by prompt can hold anything out. Raises ConfigError if there are too few rows to divide, or too many."""
    needed = inputs.flow != "benchmark" and inputs.heldout is None and inputs.one_prompt
    first = inputs.labeled[0]
    if needed and first.rows > _MOST_COPIED:
        raise ConfigError(
            f"{first.source.path}: {inputs.asking}, so pairs cannot be held out by their prompt, and {first.rows:,} rows are too "
            "many to be divided here: give labeled pairs only for measuring with --heldout FILE"
        )
    if needed and (n := first.usable("preference")) < _FEWEST:
        raise ConfigError(
            f"{first.source.path}: has {n} usable pair{'' if n == 1 else 's'}, and one to learn from and one for measuring are "
            "needed: give more, or labeled pairs only for measuring with --heldout FILE"
        )
    return needed
