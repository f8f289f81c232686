"""GRAM's loss, worked out by hand."""

from __future__ import annotations

import math


def by_hand(z_a: float, z_b: float, label: int, smoothing: float) -> float:
    """−(1 − ε)·log σ(Δ) − ε·log σ(−Δ) with ε = ε′/2."""
    delta = (z_a - z_b) if label == 0 else (z_b - z_a)
    epsilon = smoothing / 2
    return (1 - epsilon) * math.log1p(math.exp(-delta)) + epsilon * math.log1p(math.exp(delta))
