"""Small runs of baselines and adapt whose plans are worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tasks.plan.facts import Facts
from tasks.plan.sample import Part
from tasks.plan.sizes import ModelSize
from tasks.plan.stages import PlannedModel, PlannedStage

PARTS = ("rationale", "labeled", "unlabeled", "heldout")


JUDGE = PlannedModel(ModelSize(1000, 7), 2, 6000.0, 2000.0, 200.0)


SCORER = replace(JUDGE, size=ModelSize(900, 7))


def facts(rows: Mapping[Part, float], **changes: Any) -> Facts:
    known: dict[str, Any] = {
        "read": 500,
        "row_bytes": dict.fromkeys(PARTS, 100),
        "shaped": 0.5,
        "human": {},
        "labeled": {},
        "unlabeled": {},
        "bare_reply": 2,
        "sets": (),
    }
    return Facts(rows=dict(rows), **{**known, **changes})


def figures(stage: PlannedStage) -> tuple[float, ...]:
    tokens = (stage.prompt_tokens, stage.generated_tokens, stage.trained_tokens)
    return (stage.rows_in, stage.rows_out, *tokens, stage.flops, stage.gpu_seconds, stage.disk_bytes)
