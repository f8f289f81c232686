"""A small run whose plan is worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.plan.assumptions import PlanAssumptions
from tasks.plan.facts import Facts, PlayedSet
from tasks.plan.lengths import Lengths
from tasks.plan.self_training import self_training_stages
from tasks.plan.sizes import ModelSize
from tasks.plan.stages import PlannedModel, PlannedStage
from tasks.settings import Role
from tests.conftest import settings_with

FACTS = Facts(
    read=500,
    rows={"rationale": 10, "labeled": 40, "unlabeled": 200, "heldout": 20},
    row_bytes={"rationale": 100, "labeled": 100, "unlabeled": 100, "heldout": 100},
    shaped=0.5,
    human={"judge": Lengths(1.0, 60, 20), "prover": Lengths(0.8, 50, 10)},
    labeled={"judge": Lengths(0.75, 50), "prover": Lengths(0.75, 40)},
    unlabeled={"judge": Lengths(0.8, 55), "prover": Lengths(0.4, 45)},
    bare_reply=5,
    sets=(PlayedSet("held-out", 20, 1, Lengths(0.5, 30)),),
)


ASSUMED = PlanAssumptions(kept_labels=0.5, kept_proofs=0.5, reply_share=0.2, proof_share=0.2)


SECTIONS: dict[str, dict[str, Any]] = {
    "models": {"max_tokens": 1000},
    "labels": {"max_tokens": 100, "votes": 4},
    "proofs": {"max_tokens": 50, "k": 3},
    "rounds": {"count": 1, "pairs": 100},
    "training": {
        "prover": {"epochs": 2},
        "first_judge": {"max_steps": 10, "batch_size": 32},
        "judge": {"epochs": 1, "lora": {"r": 2}},
    },
}


MODEL = PlannedModel(ModelSize(1000, 7), 2, 6000.0, 2000.0, 200.0)


def stages(
    facts: Facts = FACTS, model: PlannedModel = MODEL, assumed: PlanAssumptions = ASSUMED, **changes: Mapping[str, Any]
) -> dict[str, PlannedStage]:
    sections = {name: {**SECTIONS.get(name, {}), **changes.get(name, {})} for name in SECTIONS.keys() | changes.keys()}
    models: dict[Role, PlannedModel] = {"judge": model, "prover": model}
    planned = self_training_stages(settings_with(**sections), facts, assumed, models)
    return {stage.place.name: stage for stage in planned}
