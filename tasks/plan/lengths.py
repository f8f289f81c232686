"""Lengths of prompts and replies, in tokens of the base models' own tokenizers, and how many fit the context."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Lengths:
    """`fits` is the share of rows that fit; `tokens` is their mean prompt length, `reply` that of the completion learned."""

    fits: float
    tokens: float
    reply: float = 0.0


def mean_lengths(measured: Iterable[tuple[float, tuple[int, int] | None]]) -> Lengths:
    """From (weight, (prompt tokens, reply tokens), or None if they do not fit)."""
    total = fitting = tokens = reply = 0.0
    for weight, found in measured:
        total += weight
        if found is not None:
            fitting += weight
            tokens += weight * found[0]
            reply += weight * found[1]
    if not fitting:
        return Lengths(0.0, 0.0)
    return Lengths(fitting / total, tokens / fitting, reply / fitting)


def then(first: Lengths, second: Lengths) -> float:
    """Of the rows that fit the first prompt, the share that fits the second: the longer of a pair's two prompts decides."""
    return min(1.0, second.fits / first.fits) if first.fits else 0.0
