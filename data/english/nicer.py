"""Pairs in English whose true preference is known: two responses of four words each, of which one word is unpleasant.

One pair with its rationale, as a row on disk::

    {"id": "0ea29be1cf58f8a0", "prompt": [{"role": "user", "content": "Which is nicer?"}],
     "response_a": "dominance ease expands hesitant", "response_b": "eagerly innovation championed honorary",
     "source": "english", "label": "B", "rationale": "« hesitant » is bad, in A. So B is better."}

People have rated the words (VADER's lexicon, see README.md): the response without the unpleasant word is better. The quoted word
stands between spaces, so that it is the same token as in the response.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from itertools import chain

from data.records import Label, Message, PreferencePair, RationalePair, ResponsePair, content_id, pair_key

WORLD_SEED = "english/1"
WORDS_PER_RESPONSE = 4
QUESTION = "Which is nicer?"
SOURCE = "english"


@dataclass(frozen=True)
class Words:
    """Words of the world, in alphabetical order: those rated above 0, and those rated below."""

    pleasant: tuple[str, ...]
    unpleasant: tuple[str, ...]

    def halves(self, seed: int) -> tuple[Words, Words]:
        """A seeded half of the words of both kinds, and the other half."""
        rng, parts = random.Random(f"{WORLD_SEED}/halves/{seed}"), []
        for words in (self.pleasant, self.unpleasant):
            first = set(rng.sample(words, len(words) // 2))
            parts.append((tuple(w for w in words if w in first), tuple(w for w in words if w not in first)))
        (a, b), (c, d) = parts
        return Words(a, c), Words(b, d)


@lru_cache
def ratings() -> Mapping[str, float]:
    """The mean rating of each word by ten people, from −4 to 4."""
    lines = files("data.english").joinpath("words.tsv").read_text(encoding="utf-8").splitlines()
    return {word: float(rating) for word, rating in (line.split("\t") for line in lines)}


@lru_cache
def all_words() -> Words:
    """The whole lexicon of the world."""
    rated = ratings()
    return Words(tuple(w for w in rated if rated[w] > 0), tuple(w for w in rated if rated[w] < 0))


def is_unpleasant(word: str) -> bool:
    """Whether a word is rated below 0; a word that is not of this world is not."""
    return ratings().get(word, 0.0) < 0


def unpleasant_in(pair: ResponsePair) -> tuple[list[str], list[str]]:
    """The unpleasant words of response A and of response B."""
    a, b = ([word for word in text.split() if is_unpleasant(word)] for text in (pair.response_a, pair.response_b))
    return a, b


def rationale(pair: ResponsePair) -> str:
    """The true rationale. Raises ValueError if not exactly one word is unpleasant."""
    a, b = unpleasant_in(pair)
    if len(a) + len(b) != 1:
        raise ValueError(f"pair {pair.id}: {len(a) + len(b)} words are unpleasant, so it has no rationale")
    side, better = ("A", "B") if a else ("B", "A")
    return f"« {(a + b)[0]} » is bad, in {side}. So {better} is better."


# ---- drawing pairs ---------------------------------------------------------------------------------------------------


def make_pair(words: Sequence[str]) -> ResponsePair:
    """A pair from its eight words, those of response A first."""
    a, b = (" ".join(part) for part in (words[:WORDS_PER_RESPONSE], words[WORDS_PER_RESPONSE:]))
    return ResponsePair(content_id(SOURCE, a, b), (Message("user", QUESTION),), a, b, SOURCE)


def draw_pairs(n: int, seed: int | str, words: Words, exclude: Collection[str] = ()) -> list[PreferencePair]:
    """`n` different pairs of these words with their true labels, none whose `pair_key` is in `exclude`.

    Labels come in blocks of one A and one B, so every prefix is balanced, and a smaller draw is a prefix of a larger one.
    """
    rng = random.Random(f"{WORLD_SEED}/pairs/{seed}")
    taken, drawn = set(exclude), list[PreferencePair]()
    block: list[Label] = []
    while len(drawn) < n:
        block = block or rng.sample(["A", "B"], 2)
        better, worse = rng.sample(words.pleasant, WORDS_PER_RESPONSE), rng.sample(words.pleasant, WORDS_PER_RESPONSE)
        worse[rng.randrange(WORDS_PER_RESPONSE)] = rng.choice(words.unpleasant)
        chosen = [*better, *worse] if block[-1] == "A" else [*worse, *better]
        pair = make_pair(chosen)
        if len(set(chosen)) < len(chosen) or pair_key(pair) in taken:
            continue
        taken.add(pair_key(pair))
        drawn.append(PreferencePair(pair, block.pop()))
    return drawn


SPLITS = ("rationale", "labeled", "heldout", "unlabeled", "calibration")
"""Drawn in this order, those that are asked for, each without the pairs of earlier ones: more unlabeled pairs leave the first
three unchanged."""


def draw_splits(
    sizes: Mapping[str, int], seed: int, words_apart: bool = False
) -> dict[str, list[PreferencePair | RationalePair]]:
    """Sets of pairs of these sizes that share none. The rows of "rationale" carry the true rationale.

    With `words_apart`, its pairs are of one half of the words, and those of the other sets of the other half.
    """
    taken: set[str] = set()
    splits: dict[str, list[PreferencePair | RationalePair]] = {}
    proved, others = all_words().halves(seed) if words_apart else (all_words(), all_words())
    for name in (name for name in SPLITS if name in sizes):
        pairs = draw_pairs(sizes[name], f"{seed}/{name}", proved if name == "rationale" else others, exclude=taken)
        taken.update(pair_key(p.pair) for p in pairs)
        if name == "rationale":
            splits[name] = [RationalePair(p.pair, p.label, rationale(p.pair)) for p in pairs]
        else:
            splits[name] = list(pairs)
    return splits


# ---- reading what a model wrote --------------------------------------------------------------------------------------

_RATIONALE = re.compile(r"« (\S+) » is bad, in ([AB])\. So ([AB]) is better\.")


@dataclass(frozen=True, slots=True)
class Audit:
    """What is right about a rationale as text, and whether what it says of the word is true."""

    well_formed: bool
    quoted: bool = False
    """The word stands in one of the responses."""
    placed: bool = False
    """It stands in the response that the rationale names."""
    concluded: bool = False
    """The other response is called better."""
    true: bool = False
    """The word is the unpleasant one."""

    @property
    def consistent(self) -> bool:
        return self.placed and self.concluded


def audit_rationale(text: str, pair: ResponsePair) -> Audit:
    """Checks a rationale of `pair`, ignoring surrounding whitespace. Never raises: bad text is data."""
    match = _RATIONALE.fullmatch(text.strip())
    if match is None:
        return Audit(well_formed=False)
    word, side, better = match.groups()
    responses = {"A": pair.response_a.split(), "B": pair.response_b.split()}
    return Audit(
        well_formed=True,
        quoted=word in chain(*responses.values()),
        placed=word in responses[side],
        concluded=better != side,
        true=word in chain(*unpleasant_in(pair)),
    )
