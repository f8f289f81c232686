"""``gram-r2 world``: data of the small invented world, on which the demo runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from data.world.splits import SIZES, write_splits
from flows.cli.errors import command


@command
def world(
    out: Annotated[Path, typer.Option(help="Folder for the files; created if missing.")],
    seed: Annotated[int, typer.Option(help="Selects the draw of pairs; what the world likes is always the same.")],
    rationale: Annotated[int, typer.Option(min=0, help="Pairs in rationale.jsonl.")] = SIZES["rationale"],
    labeled: Annotated[int, typer.Option(min=0, help="Pairs in labeled.jsonl.")] = SIZES["labeled"],
    unlabeled: Annotated[int, typer.Option(min=0, help="Pairs in unlabeled.jsonl.")] = SIZES["unlabeled"],
    heldout: Annotated[int, typer.Option(min=0, help="Pairs in heldout.jsonl.")] = SIZES["heldout"],
) -> None:
    """Write the data of the demo: pairs of a small invented world, whose right labels are known.

    Writes rationale.jsonl, labeled.jsonl, unlabeled.jsonl and heldout.jsonl, all
    disjoint, and the same bytes for the same options. Needs nothing else.

    Examples:
      gram-r2 world --out runs/world/seed-0 --seed 0
    """
    sizes = {"rationale": rationale, "labeled": labeled, "unlabeled": unlabeled, "heldout": heldout}
    write_splits(out, seed, sizes)
