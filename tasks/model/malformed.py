"""Replies that are of no use: counted by reason, and said loudly if more than half of them fall to the same one.

Such a stage looks like any other that has finished, but says more about its prompt or its parser than about its pairs.
"""

from __future__ import annotations

from collections import Counter

_HEAD, _TAIL = 120, 80


class UselessReplies:
    """Replies by the reason why they are of no use, with the first of each; the texts of the others are not held."""

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, reason: str, reply: str) -> None:
        """Counts one reply, such as ``add("no_answer", "<think> …")``."""
        self.reasons[reason] += 1
        self._first.setdefault(reason, reply)

    def include(self, others: UselessReplies) -> None:
        """Counts the replies that came after these."""
        self.reasons.update(others.reasons)
        for reason, reply in others._first.items():
            self._first.setdefault(reason, reply)

    def warnings(self, of: int, what: str) -> list[str]:
        """One line if more than half of all `of` replies fell to one reason, otherwise none. `what` names them: "votes"."""
        return [
            f"over half of the {what} are lost to one reason: {reason}, {n:,} of {of:,}. "
            f"The first: {shortened(self._first[reason])!r}"
            for reason, n in self.reasons.most_common(1)
            if n > of / 2
        ]


def shortened(reply: str) -> str:
    """A reply on one line, without its middle if it is long: what is wrong is mostly at one of its ends."""
    text = " ".join(reply.split())
    return text if len(text) <= _HEAD + _TAIL else f"{text[:_HEAD]} … {text[-_TAIL:]}"
