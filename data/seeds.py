"""Seeds for everything random, derived from the run's single seed."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *parts: object) -> int:
    """A seed in [0, 2³¹) for one purpose: the same parts give the same seed, other parts an unrelated one."""
    text = "\x1f".join([str(seed), *map(str, parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
