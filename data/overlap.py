"""Training texts that also occur in benchmarks: found by shared runs of 13 words, and classified by how much is shared.

Words are compared after Unicode NFKC normalization, without case and punctuation. A training and a benchmark text are

- ``exact`` if their words are the same,
- ``near`` if they share a run of 13 words and at least 80% of the longer one's words (a lightly edited copy), or if the
  training text contains at least 80% of the benchmark text's runs (a copy inside a longer text),
- ``passage`` if they share a run of 13 words but are otherwise different: a quotation or a common phrase.

13 is GPT-3's n (Brown et al. 2020, appendix C); 80% is our choice. Texts of fewer than 13 words are compared as a whole, and
those of fewer than 5 not at all: "Thank you." would be a leak. So an edited short prompt is not found, and texts in scripts
without spaces between words are found only as a whole.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data.benchmarks.items import Benchmark
from data.records import Message, ResponsePair
from data.words import words_in

N = 13
SHORTEST = 5
NEAR = 0.8

Kind = Literal["exact", "near", "passage"]
Hashes = NDArray[np.uint64]
_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 1 << 64)
_CACHED = 1 << 18
"""Maximum number of words whose hash is cached: training data has unboundedly many, the frequent ones come first."""


@dataclass(frozen=True)
class Hit:
    """A training text that a benchmark contains. `field` belongs to the training row, `part` to the benchmark's item."""

    benchmark: str
    item: str
    part: str
    field: str
    kind: Kind


def words_of(text: str) -> list[str]:
    """The words of a text, normalized for comparison."""
    return words_in(unicodedata.normalize("NFKC", text).casefold(), also="_")


@dataclass(frozen=True)
class _Text:
    benchmark: str
    item: str
    part: str
    text: str
    n_words: int
    digest: bytes


class Index:
    """An index of all texts of some benchmarks, for looking up training texts. Memory: 25 to 45 bytes per word."""

    def __init__(self, benchmarks: Mapping[str, Benchmark]) -> None:
        self.texts: list[_Text] = []
        hashes: list[Hashes] = []
        owners: list[NDArray[np.int32]] = []
        for name, benchmark in benchmarks.items():
            for item in benchmark.items:
                parts = [("prompt", _joined(item.prompt))]
                parts += [(f"response {i}", text) for i, text in enumerate(item.responses)]
                for part, text in parts:
                    words = words_of(text)
                    if len(words) >= SHORTEST:
                        grams = _grams(words)
                        hashes.append(grams)
                        owners.append(np.full(len(grams), len(self.texts), dtype=np.int32))
                        self.texts.append(_Text(name, item.id, part, text, len(words), _digest(words)))
        joined = np.concatenate(hashes) if hashes else np.array([], dtype=np.uint64)
        order = np.argsort(joined, kind="stable")
        self._hashes = joined[order]
        self._owners = (np.concatenate(owners) if owners else np.array([], dtype=np.int32))[order]
        # Almost all runs of words are in no benchmark: a Bloom filter of two probes says so without a search.
        bits = max(10, len(joined).bit_length() + 3)
        self._shift, self._mask = np.uint64(64 - bits), np.uint64((1 << bits) - 1)
        self._filter = np.zeros(1 << bits, dtype=bool)
        self._filter[joined >> self._shift] = self._filter[joined & self._mask] = True

    def find(self, pair: ResponsePair) -> list[Hit]:
        """The hits of a pair: the strongest kind for each of its texts and each part of an item."""
        if not self.texts:
            return []
        fields = {"prompt": _joined(pair.prompt), "response_a": pair.response_a, "response_b": pair.response_b}
        return [hit for field, text in fields.items() for hit in self._of_text(field, text)]

    def _of_text(self, field: str, text: str) -> Iterator[Hit]:
        words = words_of(text)
        if len(words) < SHORTEST:
            return
        sharing = self._sharing(_grams(words))
        if not sharing:
            return
        digest, counted = _digest(words), Counter(words)
        for owner, n_shared in sharing.items():
            known = self.texts[owner]
            kind: Kind = "passage"
            if known.digest == digest:
                kind = "exact"
            elif _shares_most(counted, len(words), known) or (
                known.n_words >= N and n_shared >= NEAR * (known.n_words - N + 1)
            ):
                kind = "near"
            yield Hit(known.benchmark, known.item, known.part, field, kind)

    def _sharing(self, grams: Hashes) -> dict[int, int]:
        """The texts (by index) that contain some of these runs of words → how many of the runs."""
        grams = grams[self._filter[grams >> self._shift]]
        grams = grams[self._filter[grams & self._mask]]
        if not len(grams):
            return {}
        places = np.searchsorted(self._hashes, grams)
        grams = np.unique(grams[self._hashes[np.minimum(places, len(self._hashes) - 1)] == grams])
        if not len(grams):
            return {}
        starts, ends = (np.searchsorted(self._hashes, grams, side=side) for side in ("left", "right"))
        found: Counter[int] = Counter()
        for start, end in zip(starts, ends, strict=True):
            found.update(set(map(int, self._owners[start:end])))
        return dict(sorted(found.items()))


def _shares_most(counted: Counter[str], n_words: int, known: _Text) -> bool:
    """Whether two texts share 80% of the longer one's words."""
    fewer, more = sorted((n_words, known.n_words))
    return fewer >= NEAR * more and (counted & _counted(known.text)).total() >= NEAR * more


# Of the few texts that are found at all, the same ones are found again and again.
@lru_cache(maxsize=1024)
def _counted(text: str) -> Counter[str]:
    return Counter(words_of(text))


class _WordHashes(dict[str, bytes]):
    """The hash of each word. It depends on nothing but the word, so that all processes have the same index."""

    def __missing__(self, word: str) -> bytes:
        hashed = hashlib.blake2b(word.encode(), digest_size=8).digest()
        if len(self) < _CACHED:
            self[word] = hashed
        return hashed


_WORD_HASHES = _WordHashes()


def _grams(words: Sequence[str]) -> Hashes:
    """A hash for each run of 13 words, Σ hash(word i) · base^i from i = 1; a shorter text gets one of all its words.

    All arithmetic is modulo 2⁶⁴.
    """
    count, n = len(words), min(N, len(words))
    hashes = np.frombuffer(b"".join(map(_WORD_HASHES.__getitem__, words)), dtype=np.uint64)
    # A run's sum is the difference of two sums from the text's first word on, less the powers of the words before it.
    sums = np.cumsum(hashes * _powers(_BASE, count)[1:], dtype=np.uint64)
    runs = sums[n - 1 :].copy()
    runs[1:] -= sums[:-n]
    runs *= _powers(_INVERSE, count)[: len(runs)]
    # The length is hashed too, so that a short text is not mistaken for the end of a run.
    return runs ^ np.uint64(n)


def _powers(base: int, count: int) -> Hashes:
    """base^0 to base^count."""
    return _all_powers(base, count.bit_length())[: count + 1]


@lru_cache(maxsize=64)
def _all_powers(base: int, bits: int) -> Hashes:
    factors = np.full(1 << bits, base, dtype=np.uint64)
    factors[0] = 1
    return np.cumprod(factors, dtype=np.uint64)


def _joined(prompt: Sequence[Message]) -> str:
    return "\n".join(message.content for message in prompt)


def _digest(words: Sequence[str]) -> bytes:
    return hashlib.blake2b("\x1f".join(words).encode(), digest_size=16).digest()


def leaked(hits: Sequence[Hit]) -> Hit | None:
    """The hit for which a row is dropped, if any: the first exact or near one."""
    return next((hit for hit in hits if hit.kind != "passage"), None)
