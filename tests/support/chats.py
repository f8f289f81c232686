"""Pairs and messages for tests of what becomes tokens."""

from __future__ import annotations

from data.records import Message, ResponsePair


def long_pair(n: int = 80) -> ResponsePair:
    question, a, b = (" ".join(f"{name}{i}" for i in range(n)) for name in ("q", "left", "right"))
    return ResponsePair("long", (Message("system", "Be brief."), Message("user", question)), a, b)
