"""Unlabeled pairs in a seeded order, cut into batches."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from data.files import json_line
from data.records import flip
from data.seeds import derive_seed
from data.sources.prepared import Prepared, swapped
from data.sources.sources import assign_order


class Pool:
    """All unlabeled pairs, kept in the file `spool` until they are cut into batches. Only one number per pair is in memory."""

    def __init__(self, seed: int, spool: Path) -> None:
        self.seed, self.spool, self.offsets = seed, spool, array("q")

    def __len__(self) -> int:
        return len(self.offsets)

    def fill(self, pairs: Iterable[Prepared], truths: TextIO) -> None:
        """Reads and shuffles all pairs, and writes the true labels that are known."""
        with self.spool.open("wb") as stream:
            for index, pair in enumerate(pairs):
                line, label = pair.line, pair.truth
                # Files that pair two models' answers always show the same one first; a seeded coin undoes that.
                if assign_order(index, self.seed) == "B":
                    line, label = swapped(line), flip(label) if label else None
                self.offsets.append(stream.tell())
                stream.write(line)
                if label is not None:
                    truths.write(json_line({"id": pair.id, "label": label}))
        random.Random(derive_seed(self.seed, "batches")).shuffle(self.offsets)

    def batch(self, round: int, size: int) -> Iterator[bytes]:
        """The lines of the batch of a round, the first of which is 1; earlier batches do not depend on later ones."""
        with self.spool.open("rb") as stream:
            for offset in self.offsets[(round - 1) * size : round * size]:
                stream.seek(offset)
                yield stream.readline()
