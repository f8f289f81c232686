"""What a training is told, and how its folder shows how far it has come."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.store.artifacts import DONE
from tasks.settings import Mechanics, ModelSettings, Optimization, Role

COMPLETE = f"all{DONE}"
"""Written last into a checkpoint of a training under way: the sizes of its files, and the seconds spent so far."""
RESULT = f".result{DONE}"
"""Written last of all: the names of the files that were made, the counts and the metrics."""


@dataclass(frozen=True)
class TrainingJob:
    """What a training child is told. `label` names the training in W&B and alike; `validation` is empty where there is none."""

    label: str
    role: Role
    examples: str
    base: str
    out: str
    models: Mapping[str, Any]
    training: Mapping[str, Any]
    optimization: Mapping[str, Any]
    reply_tokens: int
    seed: int
    label_smoothing: float = 0.0
    validation: str = ""

    @classmethod
    def read(cls, path: Path) -> TrainingJob:
        """The job that `tasks.train` wrote."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def settings(self) -> tuple[ModelSettings, Mechanics, Optimization]:
        """The sections that it was made of."""
        return (
            ModelSettings.model_validate(self.models),
            Mechanics.model_validate(self.training),
            Optimization.model_validate(self.optimization),
        )


Trainer = Callable[[TrainingJob, Path, float, Callable[[str], None], Callable[[int, int], None]], None]
"""Carries out a job: with its log file, the GiB to leave free, and where lines and progress go."""
