"""What the values of a label column mean: only where the value itself, or the names of the columns, leave no doubt.

Of the responses ``answer_1`` and ``answer_2``: "answer_2", "2", 2 and "second" are B, "tie" and "both" are ties, but
"1 (tie-break)" is not. Of the responses ``left`` and ``right``, 0 and 1 are not clear: what they mean is never guessed. Nor is
what a column means that may be about the worse response: ``worse_a``, ``a_is_not_better``, ``toxicity_score_a``; or that only
has the article: ``preferred_by_a_human``; or whose number is that of something else: ``annotator_1_winner``, ``preferred_v2``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import Any, Literal

from flows.starting.seen import Seen, pairs_in

Meaning = Literal["A", "B", "tie"]
_Paths = tuple[str, str]

FIRST = ("a", "1", "first", "left", "one", "0")
SECOND = ("b", "2", "second", "right", "two", "1")
"""What the two sides are called, each beside its opposite."""
_TIES = {"tie", "tied", "equal", "equally", "same", "draw", "both", "neither", "none"}
_NEGATIONS = {"no", "not", "non", "isnt", "never", "without"}
_NOUNS = {"response", "answer", "model", "assistant", "output", "candidate", "option", "completion", "text", "reply"}
_FILLING = {"the", "is", "it", "one", "better", "best", "wins", "win", "won", "winner", "preferred", "prefer", *_NOUNS}
_BETTER = {"better", "best", "wins", "win", "won", "winner", "winning", "preferred", "chosen", "selected", "picked", "accepted",
           "favorite", "favourite"}  # fmt: skip
_WORSE = {"worse", "worst", "loser", "loses", "lose", "losing", "lost", "loss", "rejected", "bad", "not", "non", "isnt", "less",
          "least", "dispreferred", "unpreferred", "disliked", "inferior", "negative", "toxic", "toxicity", "harm", "harmful",
          "harmfulness", "unsafe", "wrong", "incorrect", "error", "errors"}  # fmt: skip
_HIGHER = {"score", "scores", "rating", "ratings", "reward", "points", "stars", "quality", "overall", "helpfulness", "helpful",
           "correctness", "accuracy", "coherence", "usefulness", "truthfulness", "honesty"}  # fmt: skip
"""What is better the more there is of it."""
_WHO = {"human", "annotator", "labeler", "labeller", "expert", "judge", "rater", "grader", "evaluator", "reviewer", "worker",
        "gpt", "llm", "rm"}  # fmt: skip
_WHOSE = {*_WHO, "label", "mean", "average", "avg", "total", "final"}
"""Says whose marks or scores they are, or how they were made, and nothing of their direction."""


def meanings(label: Seen, responses: tuple[Seen, Seen]) -> dict[Any, Meaning | None]:
    """Each value of a label column, and which response it says is better; None if that is not clear."""
    named = tuple(_own_words(one, other) for one, other in (responses, responses[::-1]))
    if is_about_the_worse(label):
        return dict.fromkeys(label.distinct)
    side = _side_in_name(label, responses, named)
    if label.kind == "flag" and side is not None and len(label.distinct) == 2:
        other: Meaning = "B" if side == "A" else "A"
        return {value: side if str(value).strip().lower() in ("1", "true") else other for value in label.distinct}
    words = {value: _words_of(value) for value in label.distinct}
    numbers = {word for (word, *more) in words.values() if not more and word.lstrip("-").isdigit()}
    clear = {"1", "2"}
    if ("0",) in named:
        clear = {"0", "1"}
    elif numbers - clear:  # beside 0, a 1 may be the first of 1 and 2, or the second of 0 and 1; or a step of a scale
        clear = set()
    doubtful = numbers - clear
    return {
        value: None if doubtful.issuperset(own) else _meaning(own, responses, named) for value, own in words.items()
    }


def is_about_the_worse(column: Seen) -> bool:
    """Whether a column, by the words of its name, may say which response is worse."""
    return not _WORSE.isdisjoint(column.words)


def marks_in(columns: Iterable[Seen], responses: Sequence[Seen], hints: Set[str]) -> tuple[list[_Paths], list[_Paths]]:
    """The pairs of columns that mark the better response; and others of marks, whose names have one of the hints."""
    return _of_each_response([one for one in columns if one.kind == "flag"], responses, _BETTER, hints)


def scores_in(columns: Iterable[Seen], responses: Sequence[Seen], hints: Set[str]) -> tuple[list[_Paths], list[_Paths]]:
    """The pairs of columns with scores of which the higher one is better; and others with one of the hints."""
    return _of_each_response([one for one in columns if one.kind in ("number", "flag")], responses, _HIGHER, hints)


def _of_each_response(
    columns: Sequence[Seen], responses: Sequence[Seen], clear: Set[str], hints: Set[str]
) -> tuple[list[_Paths], list[_Paths]]:
    """The pairs of columns with a clear word in their names and none that is not known; and others with a hint."""
    of_responses = set.intersection(*(set(one.words) for one in responses))
    found, others = [], []
    for one, other in pairs_in(columns, set(zip(FIRST, SECOND, strict=True))):
        place = next(i for i, word in enumerate(one.words) if word != other.words[i])
        if not _is_of_a_response(one.words, place, of_responses | hints | _WORSE):
            continue
        words = set(one.words) & set(other.words) - of_responses
        if words & clear and all(word.isdigit() or word in clear | _FILLING | _WHOSE for word in words):
            found.append((one.path, other.path))
        elif words & hints:
            others.append((one.path, other.path))
    return found, others


def _own_words(one: Seen, other: Seen) -> tuple[str, ...]:
    """The words by which the name of a response differs from the other's."""
    return tuple(word for word, its in zip(one.words, other.words, strict=False) if word != its)


def _side_in_name(label: Seen, responses: tuple[Seen, Seen], named: Sequence[tuple[str, ...]]) -> Meaning | None:
    """The side that a column such as ``a_is_better`` is about; None if it names none, or both."""
    nouns = {*_NOUNS, *set(responses[0].words).intersection(responses[1].words)}
    about = [_names(label.words, own, nouns) for own in named]
    if not _BETTER & set(label.words) or about[0] == about[1]:
        return None
    return "A" if about[0] else "B"


def _names(words: tuple[str, ...], own: tuple[str, ...], nouns: Set[str]) -> bool:
    """Whether a column's name has the words of a side."""
    if len(own) != 1 or own[0] not in (*FIRST, *SECOND):
        return set(own) <= set(words)
    places = [i for i, word in enumerate(words) if word == own[0] and _is_of_a_response(words, i, nouns)]
    return any(words[i] != "a" or _is_no_article(words, i, nouns) for i in places)


def _is_of_a_response(words: tuple[str, ...], i: int, known: Set[str]) -> bool:
    """Whether the side at a place is that of a response: ``answer_1_score``, but not ``judge_1_score`` or ``preferred_v2``."""
    if i == 0:
        return words[1:] == () or words[1] not in _WHO
    return words[i - 1] in known | _FILLING | _BETTER | _HIGHER


def _is_no_article(words: tuple[str, ...], i: int, nouns: Set[str]) -> bool:
    """Whether an "a" is a side: ``better_a``, ``a_is_better``, ``answer_a_wins``, but not ``chosen_by_a_human``."""
    return i == len(words) - 1 or (words[i - 1] in nouns if i else words[1] in _FILLING | _BETTER)


def _words_of(value: Any) -> tuple[str, ...]:
    if isinstance(value, bool):
        return (str(value).lower(),)
    if isinstance(value, int | float):
        return (f"{value:g}",)
    text = str(value).strip()
    return (text,) if text.lstrip("-").isdigit() else Seen(text).words or (text,)


def _meaning(words: tuple[str, ...], responses: tuple[Seen, Seen], named: Sequence[tuple[str, ...]]) -> Meaning | None:
    if _TIES & set(words):
        # Not "A (tie-break)", nor "no tie".
        return None if {*FIRST, *SECOND, *_NEGATIONS} & ({*words} - _FILLING) else "tie"
    if words in (responses[0].words, responses[1].words):
        return "A" if words == responses[0].words else "B"
    common = set(responses[0].words) & set(responses[1].words)
    left = tuple(word for word in words if word not in common and (word not in _FILLING or (word,) in named))
    if left in named:
        return "A" if left == named[0] else "B"
    if len(left) != 1:
        return None
    # "1" is the second of 0 and 1, which are names of the columns, but the first of 1 and 2.
    sides: dict[str, Meaning] = {**dict.fromkeys(SECOND[:-1], "B"), **dict.fromkeys(FIRST[:-1], "A")}
    return sides.get(left[0])
