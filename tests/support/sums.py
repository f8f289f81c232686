"""Pairs in plain English whose truth is known, for a real language model: which of two answers to a sum is right."""

from __future__ import annotations

import random

from data.records import Label, Message, PreferencePair, RationalePair, ResponsePair


def sum_pairs(n: int, seed: int = 0) -> list[PreferencePair]:
    """N pairs that ask for different sums; which side is right is drawn."""
    rng = random.Random(seed)
    sums = rng.sample([(a, b) for a in range(11, 60) for b in range(11, 60)], n)
    return [_pair(a, b, rng.choice([-10, -2, 2, 10]), rng.choice(["A", "B"])) for a, b in sums]


def proved_sums(n: int, seed: int = 0) -> list[RationalePair]:
    """The same pairs with true rationales in the compact form."""
    return [RationalePair(one.pair, one.label, _rationale(one)) for one in sum_pairs(n, seed)]


def _pair(a: int, b: int, off: int, label: Label) -> PreferencePair:
    right, wrong = f"{a} + {b} = {a + b}.", f"{a} + {b} = {a + b + off}."
    question = (Message("user", f"What is {a} + {b}?"),)
    return PreferencePair(
        ResponsePair(f"{a}+{b}", question, *((right, wrong) if label == "A" else (wrong, right))), label
    )


def _rationale(one: PreferencePair) -> str:
    right = one.pair.response_a if one.label == "A" else one.pair.response_b
    return f"The sum is {right.split()[-1]} So {one.label} is better."
