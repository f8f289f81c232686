"""How strict the labels of a round are: the confidence from which a label is kept, the same for all pairs or by domain."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

NO_THRESHOLD = "precision_not_shown"
"""Why a pair gets no label: there is no threshold at which those of its domain are right often enough."""


@dataclass(frozen=True)
class Strictness:
    """The least confidence of a label that is kept: in each of some `domains`, and in all `others`; None keeps none.

    The domain of a pair is its `source`.
    """

    others: float | None
    domains: Mapping[str, float | None] = field(default_factory=dict)

    def of(self, row: Mapping[str, Any]) -> float | None:
        """The least confidence in the domain of this row."""
        return self.domains.get(row.get("source", ""), self.others)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def load(cls, path: Path) -> Strictness:
        """From a file with its JSON."""
        return cls.read(json.loads(path.read_text(encoding="utf-8")))

    @classmethod
    def read(cls, value: object) -> Strictness:
        """From its JSON, or from one number for all pairs."""
        return cls(**value) if isinstance(value, Mapping) else cls(float(str(value)))


def stricter_than(threshold: float, thresholds: Sequence[float], steps: int, votes: int | None) -> float:
    """The threshold that many steps stricter, or the strictest. With `votes`, those that ask for as many are one step."""

    def asks_for(one: float) -> float:
        return one if votes is None else math.ceil(one * votes - 1e-9)

    stricter = {asks_for(one): one for one in thresholds if asks_for(one) > asks_for(threshold)}
    return [threshold, *sorted(stricter.values())][: steps + 1][-1]
