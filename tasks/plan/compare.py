"""Planned against actual figures, stage by stage, for the report."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

from data.store.artifacts import Artifact
from tasks.generation.local import gpu_seconds
from tasks.plan.plan import PLAN, Plan
from tasks.plan.show import amount, gpu_time, size
from tasks.plan.stages import PlannedStage
from tasks.run.stage import Run

FIGURES = (
    ("rows out", amount),
    ("prompt tokens", amount),
    ("tokens generated or trained", amount),
    ("GPU time", gpu_time),
    ("disk", size),
)
"""What is compared, in order, and how it is formatted."""

Compared = tuple[float, float | None]
"""(planned, actual); the actual figure is None if the run has not recorded it."""


def read_plan(run: Run) -> Plan | None:
    """The run's plan, or None if it has none that can be read."""
    path = run.store.path / PLAN
    try:
        run.store.bring(path)
        return Plan.from_json(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None
    except (ValueError, TypeError, KeyError, OSError) as error:  # a broken plan must not cost the report
        logging.getLogger("gram_r2").warning("%s cannot be read: %s", path, error)
        return None


def compared(run: Run) -> list[tuple[str, list[Compared]]]:
    """Each planned stage that the run has finished, with its figures in the order of `FIGURES`."""
    plan = read_plan(run)
    passed = {artifact.manifest.name: artifact for artifact in run.finished_stages()}
    if plan is None:
        return []
    return [
        (stage.place.name, _figures(stage, [passed[name] for name in stage.place.parts]))
        for stage in plan.stages
        if all(name in passed for name in stage.place.parts)
    ]


def planned_table(run: Run) -> list[dict[str, Any]]:
    """The same as texts: ``name``, and a list of (planned, actual, ratio); empty if the run has no plan."""
    return [
        {
            "name": name,
            "figures": [
                (show(planned), "–" if actual is None else show(actual), _ratio(planned, actual))
                for (planned, actual), (_, show) in zip(figures, FIGURES, strict=True)
            ],
        }
        for name, figures in compared(run)
    ]


def _ratio(planned: float, actual: float | None) -> str:
    return f"{actual / planned:.2f}" if planned and actual is not None else "–"


def _figures(stage: PlannedStage, parts: Sequence[Artifact]) -> list[Compared]:
    metrics = [artifact.manifest.metrics for artifact in parts]
    trained = [m for m in metrics if "train_seconds" in m]
    generated = [m for m in metrics if "tokens_generated" in m]
    tokens = sum(m["tokens"] * m["epochs"] for m in trained) + sum(m["tokens_generated"] for m in generated)
    seconds = sum(m["train_seconds"] * m.get("processes", 1) for m in trained) + sum(gpu_seconds(m) for m in generated)
    prompts = [m["prompt_tokens"] for m in generated if "prompt_tokens" in m]
    return [
        (stage.rows_out, parts[-1].manifest.counts.kept),
        (stage.prompt_tokens, sum(prompts) if len(prompts) == len(generated) else None),
        (stage.generated_tokens + stage.trained_tokens, tokens),
        (stage.gpu_seconds, seconds or (None if stage.gpu_seconds else 0)),
        (stage.disk_bytes, sum(int(facts["bytes"]) for a in parts for facts in a.manifest.files.values())),
    ]
