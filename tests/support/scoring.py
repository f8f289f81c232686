"""Judges whose scores are known."""

from __future__ import annotations

DRAWS = 50
