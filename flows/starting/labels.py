"""What the values of a label column mean: only where the value itself, or the names of the columns, leave no doubt.

Of the responses ``answer_1`` and ``answer_2``: "answer_2", "2", 2 and "second" are B, "tie" and "both" are ties. Of the
responses ``left`` and ``right``, 0 and 1 are not clear: what they mean is never guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from flows.starting.seen import Seen

Meaning = Literal["A", "B", "tie"]

FIRST = ("a", "1", "first", "left", "one", "0")
SECOND = ("b", "2", "second", "right", "two", "1")
"""What the two sides are called, each beside its opposite."""
_TIES = {"tie", "tied", "equal", "equally", "same", "draw", "both", "neither", "none"}
_FILLING = {"the", "is", "it", "one", "better", "best", "wins", "win", "won", "winner", "preferred", "prefer", "response",
            "answer", "model", "assistant", "output", "candidate", "option", "completion", "text", "reply"}  # fmt: skip
_BETTER = {"better", "best", "wins", "win", "won", "winner", "preferred", "chosen"}
_WORSE = {"worse", "worst", "loser", "loses", "rejected", "bad"}


def meanings(label: Seen, responses: tuple[Seen, Seen]) -> dict[Any, Meaning | None]:
    """Each value of a label column, and which response it says is better; None if that is not clear."""
    named = tuple(_own_words(one, other) for one, other in (responses, responses[::-1]))
    if _WORSE & set(label.words):
        return dict.fromkeys(label.distinct)
    side = _side_in_name(label, named)
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


def _own_words(one: Seen, other: Seen) -> tuple[str, ...]:
    """The words by which the name of a response differs from the other's."""
    return tuple(word for word, its in zip(one.words, other.words, strict=False) if word != its)


def _side_in_name(label: Seen, named: Sequence[tuple[str, ...]]) -> Meaning | None:
    """The side that a column such as ``a_is_better`` is about; None if it names none, or both."""
    about = [set(own) <= set(label.words) for own in named]
    if not _BETTER & set(label.words) or about[0] == about[1]:
        return None
    return "A" if about[0] else "B"


def _words_of(value: Any) -> tuple[str, ...]:
    if isinstance(value, bool):
        return (str(value).lower(),)
    if isinstance(value, int | float):
        return (f"{value:g}",)
    text = str(value).strip()
    return (text,) if text.lstrip("-").isdigit() else Seen(text).words or (text,)


def _meaning(words: tuple[str, ...], responses: tuple[Seen, Seen], named: Sequence[tuple[str, ...]]) -> Meaning | None:
    if _TIES & set(words):
        return "tie"
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
