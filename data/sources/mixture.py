"""Mixtures of several sources of one kind: how many usable pairs are taken from each, and which ones.

A source contributes at most its `cap`. If the sources have weights, the mixture is then the largest one whose parts are in
proportion to the weights, with no pair repeated. With 1000 and 300 pairs found, no caps, and weights 1 and 1::

    takes([1000, 300], sources) == [Take(1000, 1000, 300), Take(300, 300, 300)]
"""

from __future__ import annotations

import pickle
import random
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from data.seeds import derive_seed
from data.sources.prepared import Prepared
from data.sources.sources import Source


@dataclass(frozen=True, slots=True)
class Take:
    """How many usable pairs a source has, how many its cap leaves, and how many of those are in the mixture."""

    found: int
    capped: int
    kept: int


def needs_drawing(sources: Sequence[Source]) -> bool:
    """Whether the mixture is more than the sources one after another."""
    return any(source.cap is not None or source.weight is not None for source in sources)


def takes(found: Sequence[int], sources: Sequence[Source]) -> list[Take]:
    """How much is taken from each source; weights are given for all of them or for none."""
    capped = [n if source.cap is None else min(n, source.cap) for n, source in zip(found, sources, strict=True)]
    # From the decimals as written: as binary fractions, 0.1 and 0.3 would lose a pair.
    weights = [Fraction(repr(source.weight)) for source in sources if source.weight is not None]
    if not weights:
        return [Take(n, m, m) for n, m in zip(found, capped, strict=True)]
    scale = min(m / weight for m, weight in zip(capped, weights, strict=True))
    return [Take(n, m, int(scale * weight)) for n, m, weight in zip(found, capped, weights, strict=True)]


class Mixture:
    """The usable pairs of some sources, kept in a file until it is known how many are taken from each.

    Only one number per pair is in memory. They come out in input order. Which pairs are taken from a source depends on
    its own pairs and seed and on how many are taken, not on the other sources' pairs.
    """

    def __init__(self, sources: Sequence[Source], seed: int, spool: Path) -> None:
        self.sources, self.seed, self.spool = sources, seed, spool
        self.offsets = [array("q") for _ in sources]

    def fill(self, pairs: Iterable[tuple[int, Prepared]]) -> list[Take]:
        """Reads all pairs, each with the number of its source, and returns how much is taken from each source."""
        with self.spool.open("wb") as stream:
            for number, pair in pairs:
                self.offsets[number].append(stream.tell())
                pickle.dump(pair, stream)
        return takes([len(offsets) for offsets in self.offsets], self.sources)

    def pairs(self, taken: Sequence[Take]) -> Iterator[Prepared]:
        """The pairs of the mixture. The file is deleted once they have been read."""
        with self.spool.open("rb") as stream:
            for source, offsets, take in zip(self.sources, self.offsets, taken, strict=True):
                for offset in self._drawn(source, offsets, take.kept):
                    stream.seek(offset)
                    pair: Prepared = pickle.load(stream)
                    yield pair
        self.spool.unlink()

    def _drawn(self, source: Source, offsets: array[int], kept: int) -> Sequence[int]:
        if kept == len(offsets):
            return offsets
        drawn = array("q", offsets)
        # Seeded by the source itself, not by its place in the list: another source before it must not change its draw.
        own = derive_seed(self.seed, "mixture", source.path, source.subset, source.split, source.seed)
        random.Random(own).shuffle(drawn)
        return sorted(drawn[:kept])
