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
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data.benchmarks.items import Benchmark
from data.records import Message, ResponsePair

N = 13
SHORTEST = 5
NEAR = 0.8

Kind = Literal["exact", "near", "passage"]
Hashes = NDArray[np.uint64]
_WORD = re.compile(r"\w+")
_BASE = 0x9E3779B97F4A7C15
_CACHED = 1 << 20
"""Maximum number of words whose hash is cached: training data has unboundedly many."""


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
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


@dataclass(frozen=True)
class _Text:
    benchmark: str
    item: str
    part: str
    words: Counter[str]
    n_words: int
    digest: bytes


class Index:
    """An index of all texts of some benchmarks, for looking up training texts. Memory: 12 bytes per word, plus the words."""

    def __init__(self, benchmarks: Mapping[str, Benchmark]) -> None:
        self.texts: list[_Text] = []
        self._known: dict[str, int] = {}
        hashes: list[Hashes] = []
        owners: list[NDArray[np.int32]] = []
        for name, benchmark in benchmarks.items():
            for item in benchmark.items:
                parts = [("prompt", _joined(item.prompt))]
                parts += [(f"response {i}", text) for i, text in enumerate(item.responses)]
                for part, text in parts:
                    words = words_of(text)
                    if len(words) >= SHORTEST:
                        grams = self._grams(words)
                        hashes.append(grams)
                        owners.append(np.full(len(grams), len(self.texts), dtype=np.int32))
                        self.texts.append(_Text(name, item.id, part, Counter(words), len(words), _digest(words)))
        joined = np.concatenate(hashes) if hashes else np.array([], dtype=np.uint64)
        order = np.argsort(joined, kind="stable")
        self._hashes = joined[order]
        self._owners = (np.concatenate(owners) if owners else np.array([], dtype=np.int32))[order]

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
        sharing = self._sharing(self._grams(words))
        if not sharing:
            return
        digest, counted = _digest(words), Counter(words)
        for owner, n_shared in sharing.items():
            known = self.texts[owner]
            kind: Kind = "passage"
            if known.digest == digest:
                kind = "exact"
            elif (counted & known.words).total() >= NEAR * max(len(words), known.n_words) or (
                known.n_words >= N and n_shared >= NEAR * (known.n_words - N + 1)
            ):
                kind = "near"
            yield Hit(known.benchmark, known.item, known.part, field, kind)

    def _sharing(self, grams: Hashes) -> dict[int, int]:
        """The texts (by index) that contain some of these runs of words → how many of the runs."""
        grams = np.unique(grams)
        starts = np.searchsorted(self._hashes, grams, side="left")
        ends = np.searchsorted(self._hashes, grams, side="right")
        found: Counter[int] = Counter()
        for start, end in zip(starts[ends > starts], ends[ends > starts], strict=True):
            found.update(set(map(int, self._owners[start:end])))
        return dict(sorted(found.items()))

    def _grams(self, words: Sequence[str]) -> Hashes:
        """A hash for each run of 13 words; a shorter text gets a single hash of all its words."""
        known = self._known
        hashes = np.array([known[word] if word in known else self._hash(word) for word in words], dtype=np.uint64)
        n = min(N, len(words))
        windows = np.lib.stride_tricks.sliding_window_view(hashes, n)
        powers = np.array([pow(_BASE, i + 1, 1 << 64) for i in range(n)], dtype=np.uint64)
        # The length is hashed too, so that a short text is not mistaken for the end of a run.
        return np.asarray((windows * powers).sum(axis=1, dtype=np.uint64) ^ np.uint64(n))

    def _hash(self, word: str) -> int:
        hashed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
        if len(self._known) < _CACHED:
            self._known[word] = hashed
        return hashed


def _joined(prompt: Sequence[Message]) -> str:
    return "\n".join(message.content for message in prompt)


def _digest(words: Sequence[str]) -> bytes:
    return hashlib.blake2b("\x1f".join(words).encode(), digest_size=16).digest()


def leaked(hits: Sequence[Hit]) -> Hit | None:
    """The hit for which a row is dropped, if any: the first exact or near one."""
    return next((hit for hit in hits if hit.kind != "passage"), None)
