"""``python -m data.world --out DIR --seed S``: writes one draw of the world as JSONL files in our own format."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from data.world import taste

SIZES = {"rationale": 12, "labeled": 20, "unlabeled": 450, "heldout": 500}
"""Our choice, used by the demo: three rounds of 150 unlabeled pairs, and enough held-out pairs to detect 4 points."""


def write_splits(out: Path, sizes: dict[str, int], seed: int) -> list[Path]:
    """Writes ``<split>.jsonl`` for every split, the same bytes for the same arguments, and returns the paths.

    The unlabeled rows carry the true label too: readers of unlabeled pairs ignore it, a report may use it.
    """
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, rows in taste.draw_splits(sizes, seed).items():
        path = out / f"{name}.jsonl"
        text = "".join(json.dumps(row.to_json(), ensure_ascii=False) + "\n" for row in rows)
        path.write_bytes(text.encode())
        print(f"{path}: {len(rows)} pairs, {sum(row.label == 'A' for row in rows)} labeled A")
        paths.append(path)
    return paths


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m data.world", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the files; created if missing")
    parser.add_argument(
        "--seed", type=int, required=True, help="selects the draw of pairs; the taste is always the same"
    )
    for name, size in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=size, metavar="N", help=f"pairs in {name}.jsonl ({size})")
    given = vars(parser.parse_args(argv))
    if min(given[name] for name in SIZES) < 0:
        parser.error("numbers of pairs can't be negative")
    write_splits(given["out"], {name: given[name] for name in SIZES}, given["seed"])


if __name__ == "__main__":
    main()
