"""Whether a rationale quotes what is there: a quotation must occur in what the judge is shown.

    Response A says "the capital is Lyon", and calls itself ‘an expert’.     quotes: the capital is Lyon; an expert
    A: zuvi yes vato no = 1. B: fero no diku no = 0. So A is better.         lists, in the compact form: zuvi, vato, fero, diku

Case, whitespace, punctuation, emphasis and apostrophes make no difference, since writers adapt them to their sentence. What
a quotation leaves out ("…") or puts in ("[sic]") divides it into parts, each of which must occur. Marks in code do not quote.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain

from data.words import words_in

RULE = "grounded/1"
"""Goes into the keys of stages that apply the rule: a changed rule keeps other proofs."""

_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_MARKS = re.compile(r"[\"'“”„‘’«»「」『』]")
_NOT_QUOTED = r"(?!\d0s\b|(?:em|til|tis|twas|cause|n)\b)"
"""What may follow an apostrophe that opens a word: the '90s, 'em, rock 'n' roll."""
_QUOTED = re.compile(
    r"“([^“”]*)”|„([^„“”]*)[“”]|«([^«»]*)»|「([^「」]*)」|『([^『』]*)』"
    r'|(?<!\w)"(?=\S)([^"\n]*)(?<=\S)"(?!\w)'
    # A single quotation mark opens after a space or bracket; between two letters it is an apostrophe.
    rf"|(?<![^\s(\[{{—–/-])['‘]{_NOT_QUOTED}(?=\w)((?:[^'‘’\n]|(?<=\w)['’](?=\w))*)(?<=\S)['’](?!\w)"
)
_OPENING = "“„«「『\"'‘"
"""What a quotation begins with: no other character need be tried as the beginning of one."""
_LEFT_OUT = re.compile(r"\[[^\[\]]*\]|…|(?:\.\s?){3,}")
_LISTED = re.compile(r"\b[AB]: ((?:\S+ (?:yes|no) )+)= \d+\.")
_UNSEEN = "'’ʼ\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
_WORD = re.compile(r"[^\W_]+")


def ungrounded_quote(rationale: str, sources: Sequence[str], lists_words: bool) -> str | None:
    """The first quotation, or listed word if it `lists_words`, that occurs in none of the sources; None if all do."""
    quoted = ((quote, _words(quote)) for quote in _quotations(rationale))
    listed = ((word, f" {_words(word)} ") for word in _listed_words(rationale)) if lists_words else ()
    missing = (text for text, sought in chain(quoted, listed) if not any(sought in _kept(source) for source in sources))
    return next(missing, None)


def _quotations(rationale: str) -> Iterator[str]:
    text = _CODE.sub(lambda code: _MARKS.sub(" ", code[0]), rationale)
    end = 0
    for place in sorted(place for mark in _OPENING for place in _places(text, mark)):
        match = _QUOTED.match(text, place) if place >= end else None
        if match is not None:
            end = match.end()
            quote = next(group for group in match.groups() if group is not None)
            yield from (part for part in _LEFT_OUT.split(quote) if _WORD.search(part))


def _places(text: str, mark: str) -> Iterator[int]:
    place = text.find(mark)
    while place >= 0:
        yield place
        place = text.find(mark, place + 1)


def _listed_words(rationale: str) -> Iterator[str]:
    for match in _LISTED.finditer(rationale):
        yield from match[1].split()[::2]


def _words(text: str) -> str:
    """The words of a text alone, in lower case, one space apart."""
    plain = unicodedata.normalize("NFKC", text)
    for mark in _UNSEEN:
        plain = plain.replace(mark, "")
    return " ".join(words_in(plain.casefold()))


# All proofs of a pair are held against the same four texts.
@lru_cache(maxsize=8)
def _kept(source: str) -> str:
    return f" {_words(source)} "
