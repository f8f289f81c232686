"""Annotators' texts as rationales: in the judge's shape (Feedback, Comparision, Conclusion), and named by position."""

from __future__ import annotations

import re

from data.records import Label, flip

# What would break the shape of a rationale, or of the reply that contains it. Spaces are those of one line: with those of
# several, the time would grow with the square of the number of blank lines.
_BREAKS_SHAPE = re.compile(r"^[^\S\n]*(?:Feedback|Comparision|Conclusion):\s*$|</?(?:think|answer)>", re.MULTILINE)

_NOUN = r"(?:response|answer|reply|completion|output)"
_BY_LABEL = re.compile(rf"\b(?:the\s+)?(chosen|rejected)\s+(?:{_NOUN}|one)\b", re.IGNORECASE)
_BY_POSITION = re.compile(
    rf"\b(?i:{_NOUN}|assistant|model|candidate)\s*#?(?:[AB]|[12])\b(?!\.\d)|\b(?i:first|second|former|latter)\s+(?i:{_NOUN})\b"
)


def names_positions(text: str) -> bool:
    """Whether a text names the responses by a position, such as Response A, Answer 2 or the second response."""
    return _BY_POSITION.search(text) is not None


def name_by_label(text: str, label: Label) -> str:
    """The text with "the chosen response" and "rejected answer" rewritten to the names used in the judge's prompt."""
    names = {"chosen": f"Response {label}", "rejected": f"Response {flip(label)}"}
    return _BY_LABEL.sub(lambda match: names[match[1].lower()], text)


def rationale_of(feedback_a: str, feedback_b: str, comparison: str, better: Label) -> str | None:
    """A rationale in the shape that the released judge prompt asks for, including its spelling of the second heading.

    None if a text is empty or contains something that would break the shape.
    """
    texts = [text.strip() for text in (feedback_a, feedback_b, comparison)]
    if not all(texts) or any(_BREAKS_SHAPE.search(text) for text in texts):
        return None
    return (
        f"Feedback:\nResponse A: {texts[0]}\nResponse B: {texts[1]}\n\n"
        f"Comparision:\n{texts[2]}\n\nConclusion:\nResponse {better} is better."
    )
