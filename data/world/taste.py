"""Pairs whose true preference is known: two responses of four invented words each, judged by a hidden taste.

One pair with its rationale, as a row on disk::

    {"id": "20a89e3afa1b37be", "prompt": [{"role": "user", "content": "Taste?"}], "response_a": "zuvi vato nobu vudo",
     "response_b": "fero diku tiza pima", "source": "taste", "label": "A", "rationale":
     "A: zuvi no vato yes nobu yes vudo no = 2. B: fero no diku yes tiza no pima no = 1. So A is better."}

The taste likes half of the words; the response with more liked words is better. Only these 240 facts are hidden,
so a judge is wrong only about words that it does not know, and a rationale can be checked word by word.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest

from data.records import Label, Message, PreferencePair, RationalePair, ResponsePair, content_id, pair_key

WORLD_SEED = "taste/1"
"""Fixes the words, which of them are liked, and which of them a base model knows. The shipped base models need this one."""

N_WORDS = 240
WORDS_PER_RESPONSE = 4
QUESTION = "Taste?"
SOURCE = "taste"

JUDGE_KNOWS = 0.4
"""The share of words whose taste the judge's base model knows: on its own it must be right often enough to start from."""

PROVER_KNOWS = 0.9
"""The share that the prover's base model knows. With only the judge's share, even gold labels taught the judge almost nothing."""

_CONSONANTS, _VOWELS = "bdfgkmnprtvz", "aeiou"
SYLLABLES: tuple[str, ...] = tuple(c + v for c in _CONSONANTS for v in _VOWELS)


_OFFENSIVE = {"nazi", "nega", "negi", "nego", "niga", "nigo", "nigu", "pedo", "puta", "puti", "puto", "kaki"}


def _invent_words() -> tuple[str, ...]:
    """The lexicon in a seeded order that alternates liked and disliked words, so every prefix is balanced.

    No word ends in "e": most that do are English ("five", "more"), and the words must look invented.
    """
    syllables = [(a, b) for a in SYLLABLES for b in SYLLABLES if a[0] != b[0] and a[1] != b[1] and b[1] != "e"]
    candidates = [a + b for a, b in syllables if a + b not in _OFFENSIVE]
    return tuple(random.Random(WORLD_SEED).sample(candidates, N_WORDS))


WORDS: tuple[str, ...] = _invent_words()
LIKED: frozenset[str] = frozenset(WORDS[::2])


def likes(word: str) -> bool:
    """Whether a word is truly liked."""
    return word in LIKED


def known_words(share: float) -> frozenset[str]:
    """The words that a base model knows: the first `share` of the lexicon. A larger share includes every smaller one."""
    return frozenset(WORDS[: round(share * N_WORDS)])


def words_of(pair: ResponsePair) -> tuple[list[str], list[str]]:
    """The words of response A and of response B."""
    return pair.response_a.split(), pair.response_b.split()


def counts(pair: ResponsePair, believed: Callable[[str], bool] | None = None) -> tuple[int, int]:
    """How many words of A and of B are liked, according to the truth or to `believed`."""
    a, b = (sum(map(believed or likes, words)) for words in words_of(pair))
    return a, b


def verdict(pair: ResponsePair, believed: Callable[[str], bool] | None = None) -> Label | None:
    """The response with more liked words, None for a tie."""
    a, b = counts(pair, believed)
    return None if a == b else "A" if a > b else "B"


def rationale(pair: ResponsePair, believed: Callable[[str], bool] | None = None) -> str:
    """The rationale according to the truth or to `believed`. Raises ValueError for a tie, which has no conclusion."""
    better = verdict(pair, believed)
    if better is None:
        raise ValueError(f"pair {pair.id}: a tie of {counts(pair, believed)[0]} liked words each has no rationale")
    parts = []
    for name, words, n_liked in zip("AB", words_of(pair), counts(pair, believed), strict=True):
        tastes = " ".join(f"{word} {'yes' if (believed or likes)(word) else 'no'}" for word in words)
        parts.append(f"{name}: {tastes} = {n_liked}.")
    return f"{' '.join(parts)} So {better} is better."


# ---- drawing pairs ---------------------------------------------------------------------------------------------------


def make_pair(words: Sequence[str]) -> ResponsePair:
    """A pair from its eight words, those of response A first."""
    a, b = (" ".join(part) for part in (words[:WORDS_PER_RESPONSE], words[WORDS_PER_RESPONSE:]))
    return ResponsePair(content_id(SOURCE, a, b), (Message("user", QUESTION),), a, b, SOURCE)


def draw_pairs(n: int, seed: int | str, exclude: Collection[str] = ()) -> list[PreferencePair]:
    """`n` different pairs with their true labels, none a tie, none whose `pair_key` is in `exclude`.

    Labels come in blocks of one A and one B, so every prefix is balanced, and a smaller draw is a prefix of a larger one.
    """
    rng = random.Random(f"{WORLD_SEED}/pairs/{seed}")
    taken, drawn = set(exclude), list[PreferencePair]()
    block: list[Label] = []
    while len(drawn) < n:
        block = block or rng.sample(["A", "B"], 2)
        pair = make_pair(rng.sample(WORDS, 2 * WORDS_PER_RESPONSE))
        better = verdict(pair)
        if better is None or pair_key(pair) in taken:
            continue
        if better != (label := block.pop()):
            pair = make_pair(pair.response_b.split() + pair.response_a.split())
        taken.add(pair_key(pair))
        drawn.append(PreferencePair(pair, label))
    return drawn


SPLITS = ("rationale", "labeled", "heldout", "unlabeled", "calibration")
"""Drawn in this order, those that are asked for, each without the pairs of earlier ones: more unlabeled pairs leave the first
three unchanged."""


def draw_splits(sizes: Mapping[str, int], seed: int) -> dict[str, list[PreferencePair | RationalePair]]:
    """Disjoint sets of pairs of the requested sizes. The rows of "rationale" carry the true rationale."""
    taken: set[str] = set()
    splits: dict[str, list[PreferencePair | RationalePair]] = {}
    for name in (name for name in SPLITS if name in sizes):
        pairs = draw_pairs(sizes[name], f"{seed}/{name}", exclude=taken)
        taken.update(pair_key(p.pair) for p in pairs)
        if name == "rationale":
            splits[name] = [RationalePair(p.pair, p.label, rationale(p.pair)) for p in pairs]
        else:
            splits[name] = list(pairs)
    return splits


# ---- reading what a model wrote --------------------------------------------------------------------------------------

_SIDE = rf"((?:\w+ (?:yes|no) ){{{WORDS_PER_RESPONSE}}})= (\d)\."
_RATIONALE = re.compile(rf"A: {_SIDE} B: {_SIDE} So ([AB]) is better\.")


@dataclass(frozen=True, slots=True)
class Audit:
    """What is right about a rationale as text, regardless of whether its tastes are true.

    Accuracy hides a model that has forgotten how to copy: its guesses still lean the right way. These checks do not.
    """

    well_formed: bool
    copied: bool = False
    """The eight words, in order."""
    counted: bool = False
    """Both counts are the numbers of "yes"."""
    concluded: bool = False
    """The conclusion follows from the counts as written. For a tie, which no true rationale has, either conclusion does."""
    tied: bool = False
    tastes: Mapping[str, bool] = field(default_factory=dict)
    """The taste that it states for each word of the pair that it copied."""

    @property
    def consistent(self) -> bool:
        return self.copied and self.counted and self.concluded


def audit_rationale(text: str, pair: ResponsePair) -> Audit:
    """Checks a rationale of `pair`, ignoring surrounding whitespace. Never raises: bad text is data."""
    match = _RATIONALE.fullmatch(text.strip())
    if match is None:
        return Audit(well_formed=False)
    (words_a, said_a), (words_b, said_b) = ((m.split()[::2], m.split()[1::2]) for m in match.group(1, 3))
    n_a, n_b = int(match[2]), int(match[4])
    expected = list(chain(*words_of(pair)))
    tastes = zip_longest(expected, zip(words_a + words_b, said_a + said_b, strict=True))
    return Audit(
        well_formed=True,
        copied=words_a + words_b == expected,
        counted=(n_a, n_b) == (said_a.count("yes"), said_b.count("yes")),
        concluded=n_a == n_b or match[5] == ("A" if n_a > n_b else "B"),
        tied=n_a == n_b,
        tastes={word: stated[1] == "yes" for word, stated in tastes if stated is not None and stated[0] == word},
    )
