"""The input of a training, and the files in its folder that mark its progress."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.store.artifacts import DONE
from tasks.settings import Mechanics, ModelSettings, Optimization, Role

COMPLETE = f"all{DONE}"
"""Written last into a checkpoint of a training in progress: the sizes of its files, and the seconds spent so far."""
CACHE = ".encoded"
"""The folder of a run's encoded examples, for the trainings of later rounds; removed when the run has ended."""
DROPPED = "dropped.jsonl"
"""Which examples were dropped, and why, in a training's folder."""
RESULT = f".result{DONE}"
"""Written last of all: the names of the files written, the counts and the metrics."""


@dataclass(frozen=True)
class TrainingJob:
    """The input of a training child process. `label` names the training in W&B and the like; `validation` is empty if unused.

    `cache` is the folder of encoded examples that several trainings share; empty: this one keeps its own while it lasts.
    """

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
    cache: str = ""
    node: int = 0
    """Which of the training's machines this is, from 0 on; they share the other files, and may have `base` elsewhere."""

    def packed_to(self) -> int | None:
        """The length of packed sequences in tokens; None if examples are not packed, as for discriminative models."""
        models, mechanics, _ = self.settings()
        return None if self.role == "scalar" else mechanics.packed_to(models.max_tokens)

    @classmethod
    def read(cls, path: Path) -> TrainingJob:
        """The job that `tasks.train` wrote."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def settings(self) -> tuple[ModelSettings, Mechanics, Optimization]:
        """The settings sections that it was made from."""
        return (
            ModelSettings.model_validate(self.models),
            Mechanics.model_validate(self.training),
            Optimization.model_validate(self.optimization),
        )


Trainer = Callable[[TrainingJob, Path, float, Callable[[str], None], Callable[[int, int], None]], None]
"""Runs a job, given its log file, the GiB to leave free, and callbacks for lines and progress."""
