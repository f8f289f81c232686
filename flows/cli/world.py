"""``gram-r2 world``: data of the two small worlds whose right labels are known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from data.english import splits as in_english
from data.world import splits as invented
from flows.cli.errors import InputError, command


def _size(name: str) -> Any:
    sizes = f"{invented.SIZES[name]}; {in_english.SIZES[name]} with --english"
    return typer.Option(min=0, help=f"Pairs in {name}.jsonl.", show_default=sizes)


def _may_write(path: Path) -> bool:
    """Whether there is no such file yet, or one of these worlds."""
    if not path.exists():
        return True
    with path.open("rb") as stream:
        first = stream.readline()
    return not first or any(f'"source": "{name}"'.encode() in first for name in ("taste", "english"))


@command
def world(
    out: Annotated[Path, typer.Option(help="Folder for the files; created if missing.")],
    seed: Annotated[int, typer.Option(help="Selects the draw of pairs; what the world likes is always the same.")],
    rationale: Annotated[int | None, _size("rationale")] = None,
    labeled: Annotated[int | None, _size("labeled")] = None,
    unlabeled: Annotated[int | None, _size("unlabeled")] = None,
    heldout: Annotated[int | None, _size("heldout")] = None,
    calibration: Annotated[int | None, _size("calibration")] = None,
    english: Annotated[bool, typer.Option("--english", help="The world in English, for a real model.")] = False,
    words_apart: Annotated[
        bool, typer.Option("--words-apart", help="With --english: no word of rationale.jsonl is in another file.")
    ] = False,
) -> None:
    """Write pairs whose right labels are known: of the small invented world, or of the one in English.

    Writes rationale.jsonl, labeled.jsonl, unlabeled.jsonl, heldout.jsonl and
    calibration.jsonl, all disjoint, and the same bytes for the same options.
    Needs nothing else.

    Examples:
      gram-r2 world --out runs/world/seed-0 --seed 0
      gram-r2 world --english --out runs/english/seed-0 --seed 0
    """
    asked = {
        "rationale": rationale,
        "labeled": labeled,
        "unlabeled": unlabeled,
        "heldout": heldout,
        "calibration": calibration,
    }
    given = {name: n for name, n in asked.items() if n is not None}
    for name in asked:
        if not _may_write(path := out / f"{name}.jsonl"):
            raise InputError(f"{path} is there already, with other data: give another folder with --out")
    if english:
        in_english.write_splits(out, seed, {**in_english.SIZES, **given}, words_apart)
    elif words_apart:
        raise InputError("--words-apart is of the world in English: give --english too, or leave it out")
    else:
        invented.write_splits(out, seed, {**invented.SIZES, **given})
