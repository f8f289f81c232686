"""Writes one draw of the world as JSONL files in our own format, for ``gram-r2 world``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from data.records import PreferencePair, RationalePair
from data.world import taste

SIZES = {"rationale": 12, "labeled": 20, "unlabeled": 450, "heldout": 500, "calibration": 300}
"""Our choice, used by the demo: three rounds of 150 unlabeled pairs, enough held-out pairs to detect 4 points, and enough
calibration pairs to promise a precision of 0.9."""


def write_splits(out: Path, seed: int, sizes: dict[str, int] = SIZES) -> list[Path]:
    """Writes ``<split>.jsonl`` for every split, the same bytes for the same arguments, and returns the paths.

    The unlabeled rows carry the true label too: readers of unlabeled pairs ignore it, a report may use it.
    """
    return write_files(out, taste.draw_splits(sizes, seed))


def write_files(out: Path, splits: Mapping[str, Sequence[PreferencePair | RationalePair]]) -> list[Path]:
    """Writes the rows of each split into ``<split>.jsonl``, says how many, and returns the paths."""
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, rows in splits.items():
        path = out / f"{name}.jsonl"
        text = "".join(json.dumps(row.to_json(), ensure_ascii=False) + "\n" for row in rows)
        path.write_bytes(text.encode())
        print(f"{path}: {len(rows)} pairs, {sum(row.label == 'A' for row in rows)} labeled A")
        paths.append(path)
    return paths
