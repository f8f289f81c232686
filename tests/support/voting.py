"""Labels of a batch by a judge whose replies a test writes."""

from __future__ import annotations

from hypothesis import strategies as st

from data.records import Label
from tasks.model.votes import Vote


def votes(ab: str, ba: str) -> list[Vote]:
    """Votes from their letters, `-` for one that could not be read."""
    verdicts: dict[str, Label | None] = {"A": "A", "B": "B", "-": None}
    return [Vote(order, 0, verdicts[x], None, 1) for order, text in (("ab", ab), ("ba", ba)) for x in text]


LETTERS = st.integers(1, 8).flatmap(
    lambda n: st.tuples(*[st.text(alphabet="AB-", min_size=n, max_size=n) for _ in "ab"])
)
