"""Trainings of a tiny model for tests: a job over rows of the small world, carried out by the real child process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data.files import write_json, write_jsonl
from data.world import taste
from tasks import child
from tasks.settings import ModelSettings, Optimization, Role, TrainingSettings
from tasks.training.job import RESULT, TrainingJob

BASE = Path("data/world/base-judge")


def models_for(prompt: str = "compact") -> ModelSettings:
    return ModelSettings.model_validate({
        "judge_base": str(BASE), "prover_base": str(BASE), "judge_prompt": prompt, "max_tokens": 128, "dtype": "float32",
    })  # fmt: skip


MODELS = models_for()


def example_rows(n: int, seed: int = 5) -> list[dict[str, Any]]:
    """Labeled pairs with rationales."""
    pairs = taste.draw_pairs(n, seed=seed)
    return [{**pair.to_json(), "id": f"{pair.pair.id}:ab", "rationale": taste.rationale(pair.pair)} for pair in pairs]


def job(
    folder: Path,
    rows: list[dict[str, Any]],
    training: TrainingSettings,
    optimization: Optimization,
    role: Role = "judge",
    models: ModelSettings = MODELS,
) -> TrainingJob:
    """A training that starts from the shipped judge base."""
    folder.mkdir(exist_ok=True)
    write_jsonl(folder / "examples.jsonl", rows)
    (folder / "out").mkdir(exist_ok=True)
    return TrainingJob(
        "test",
        role,
        str(folder / "examples.jsonl"),
        str(BASE),
        str(folder / "out"),
        models.model_dump(mode="json"),
        training.mechanics(),
        optimization.model_dump(mode="json"),
        reply_tokens=64,
        seed=3,
        label_smoothing=training.label_smoothing,
    )


def train_in_child(folder: Path, told: TrainingJob, until_step: int | None = None) -> dict[str, Any]:
    """Carries the job out; returns what it reports. Where it is to be stopped at a step, raises KeyboardInterrupt there."""

    def progressed(label: str, facts: Mapping[str, Any]) -> None:
        if until_step is not None and facts["done"] >= until_step:
            raise KeyboardInterrupt

    write_json(folder / "job.json", asdict(told))
    command = child.Command("tasks.training", [str(folder / "job.json")], {"OMP_NUM_THREADS": "1"}, "train")
    child.run_children([command], folder / "log", lambda line: None, progressed)
    result: dict[str, Any] = json.loads((Path(told.out) / RESULT).read_text())
    return result


def losses(told: TrainingJob) -> list[float]:
    """The loss of each step, where every step is logged."""
    return [json.loads(line)["loss"] for line in (Path(told.out) / "steps.jsonl").read_text().splitlines()]
