"""Annotators' texts in the shape of the judge's rationales: Feedback, Comparision, Conclusion."""

from __future__ import annotations

import re

from data.records import Label

# What would break the shape of a rationale, or of the reply that contains it.
_BREAKS_SHAPE = re.compile(r"^\s*(?:Feedback|Comparision|Conclusion):\s*$|</?(?:think|answer)>", re.MULTILINE)


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
