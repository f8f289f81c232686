"""Writes one draw of the world in English as JSONL files in our own format, for ``gram-r2 world --english``."""

from __future__ import annotations

from pathlib import Path

from data.english import nicer
from data.world.splits import write_files

SIZES = {"rationale": 300, "labeled": 20, "unlabeled": 450, "heldout": 200, "calibration": 300}
"""Our choice, used by the recipe english: three rounds of 150 unlabeled pairs, and a prover that finds the word."""


def write_splits(out: Path, seed: int, sizes: dict[str, int] = SIZES, words_apart: bool = False) -> list[Path]:
    """Writes ``<split>.jsonl`` for every split, the same bytes for the same arguments, and returns the paths."""
    return write_files(out, nicer.draw_splits(sizes, seed, words_apart))
