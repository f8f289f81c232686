"""What plans of the flows baselines and adapt count: every number of a small run by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tasks.plan.baselines import Baselines, baseline_stages, settings_of_label_judges
from tasks.plan.facts import HELD_OUT, PlayedSet
from tasks.plan.first_rows import Part
from tasks.plan.lengths import Lengths
from tasks.plan.sizes import model_size
from tasks.plan.stages import PlannedModel, PlannedStage
from tasks.settings import BaselineSettings, Role
from tests.conftest import ROOT, settings_with
from tests.support.plan_fixtures import write_model
from tests.support.plan_flows import JUDGE, SCORER, facts, figures

ROWS: dict[Part, float] = {"rationale": 10, "labeled": 40, "unlabeled": 200, "heldout": 20}


SCORES = facts(
    ROWS,
    labeled={"judge": Lengths(0.5, 100)},
    human={"judge": Lengths(1.0, 80)},
    sets=(
        PlayedSet(HELD_OUT, 20, 1, Lengths(0.5, 30), scored=2),
        PlayedSet("rm", 7, 9, Lengths(1.0, 10), scored=6),
        PlayedSet("ppe", 3, 31, Lengths(1.0, 10), 32, 62),
    ),
)


LABELS = facts(
    ROWS,
    labeled={"judge": Lengths(0.75, 50)},
    human={"judge": Lengths(1.0, 60, 2)},
    pretraining=Lengths(0.5, 20, 70),
    sets=(PlayedSet(HELD_OUT, 20, 1, Lengths(0.8, 40)), PlayedSet("rm", 7, 9, Lengths(1.0, 100))),
)


def baseline_plan(baselines: Mapping[str, Any] = {}, **sections: Mapping[str, Any]) -> dict[str, PlannedStage]:
    trained = {
        "discriminative": {"epochs": 2},
        "label_only": {"epochs": 1},
        "gram": {"epochs": 2},
        "gram_pretraining": {"epochs": 1},
        "label_prompt": "compact-label",
    }
    chosen = BaselineSettings.model_validate({**trained, **baselines})
    given = {"models": {"max_tokens": 1000}, "rounds": {"count": 2, "pairs": 30}, **sections}
    by_label = settings_of_label_judges(settings_with(**given), chosen)
    models: dict[Role, PlannedModel] = {"judge": JUDGE, "scalar": SCORER}
    stages = baseline_stages(Baselines(by_label, chosen, SCORES, LABELS, models))
    return {stage.place.name: stage for stage in stages}


def test_the_judges_without_rationales_come_in_the_order_of_the_flow() -> None:
    assert list(baseline_plan()) == [
        "discriminative/judge",
        "discriminative/benchmark",
        "discriminative/benchmark-rm",
        "discriminative/benchmark-ppe",
        "label-only/judge",
        "label-only/benchmark",
        "label-only/benchmark-rm",
        "gram/pretrained",
        "gram/judge",
        "gram/benchmark",
        "gram/benchmark-rm",
    ]


@pytest.mark.parametrize(
    ("name", "by_hand"),
    [
        # 40 + 10 pairs, of which 20 and 10 fit: 20 · 100 + 10 · 80 tokens, twice; the model has no vocabulary to write in.
        ("discriminative/judge", (50, 30, 0, 0, 5600, 6 * 900 * 5600, 900 * 5600 / 1000, 1800 + 50 * 400)),
        # Each response of the half that fits is read once; both orders are games all the same.
        ("discriminative/benchmark", (20, 10, 20 * 30, 0, 0, 2 * 900 * 600, 540, 20 * 60 + 20 * 500)),
        # Six responses make nine comparisons, and eighteen games.
        ("discriminative/benchmark-rm", (7, 7, 42 * 10, 0, 0, 1800 * 420, 378, 42 * 60 + 126 * 250)),
        # 32 responses, then 16, 8, 4 and 2.
        ("discriminative/benchmark-ppe", (3, 3, 3 * 62 * 10, 0, 0, 1800 * 1860, 1674, 3 * 62 * (60 + 250))),
        # In both orders: 80 · 0.75 of 50 + 2 tokens, and 20 of 60 + 2.
        ("label-only/judge", (100, 80, 0, 0, 4360, 6000 * 4360, 4360, 2000 + 100 * 400)),
        ("label-only/benchmark", (20, 16, 32 * 40, 32, 0, 2000 * 1312, 1280 + 320, 32 * 64 + 40 * 250)),
        ("label-only/benchmark-rm", (7, 7, 126 * 100, 126, 0, 2000 * 12726, 12600 + 1260, 126 * (64 + 250))),
        # Both rounds' 30 pairs, of which half fit, of 20 + 70 tokens.
        ("gram/pretrained", (60, 30, 0, 0, 2700, 6000 * 2700, 2700, 2000 + 60 * 400)),
        # The one token of the label, twice over.
        ("gram/judge", (100, 80, 0, 0, 2 * (60 * 51 + 20 * 61), 6000 * 8560, 8560, 2000 + 100 * 400)),
        ("gram/benchmark", (20, 16, 1280, 32, 0, 2000 * 1312, 1600, 32 * 64 + 40 * 250)),
    ],
)
def test_a_baseline_costs_what_it_does_by_hand(name: str, by_hand: tuple[float, ...]) -> None:
    assert figures(baseline_plan()[name]) == pytest.approx(by_hand)


def test_the_stages_of_a_baseline_are_those_of_its_folder() -> None:
    planned = baseline_plan()
    assert planned["discriminative/judge"].place.parts == ("discriminative/examples", "discriminative/judge")
    assert planned["gram/pretrained"].place.parts == ("gram/responses", "gram/pretrained")
    assert planned["gram/judge"].place.parts == ("gram/examples", "gram/judge")
    assert {stage.place.round for stage in planned.values()} == {None}


def test_gram_is_pretrained_on_what_there_is_or_not_at_all() -> None:
    assert baseline_plan(rounds={"count": 5, "pairs": 60})["gram/pretrained"].rows_in == 200
    assert "gram/pretrained" not in baseline_plan({"gram_pretraining": None})
    assert "gram/pretrained" not in baseline_plan(rounds={"count": 0})


def test_votes_are_not_asked_of_who_does_not_write() -> None:
    votes = {"votes": 4, "temperature": 1.0, "max_tokens": 50}
    assert baseline_plan(benchmarks=votes)["gram/benchmark"] == baseline_plan()["gram/benchmark"]


def test_only_the_trainer_of_scores_does_not_pack() -> None:
    """4,360 tokens are 5 sequences of 1,000, and 100 steps of 1 are 20 passes; 30 pairs of conversations stay 30."""
    steps = {"max_steps": 100, "batch_size": 1}
    planned = baseline_plan({"label_only": steps, "discriminative": steps}, training={"packing": True})
    assert planned["label-only/judge"].trained_tokens == pytest.approx(100 / 5 * 4360)
    assert planned["discriminative/judge"].trained_tokens == pytest.approx(100 / 30 * 2800)


def test_gradient_checkpointing_is_that_of_all_trainings() -> None:
    planned = baseline_plan(training={"gradient_checkpointing": True})
    for name in ("label-only/judge", "gram/pretrained", "gram/judge"):
        assert planned[name].flops == pytest.approx(8 * 1000 * planned[name].trained_tokens)
    assert planned["discriminative/judge"].flops == pytest.approx(8 * 900 * 5600)


def test_a_model_that_scores_has_one_output_for_a_vocabulary(tmp_path: Path) -> None:
    """Llama 3.1 has weights of their own for its vocabulary; Llama 3.2 3B shares them with its embeddings."""
    large, small = (write_model(tmp_path, f"meta-llama/Llama-3.{size}-Instruct") for size in ("1-8B", "2-3B"))
    assert model_size(large, scalar=True).parameters == 8_030_261_248 - 128_256 * 4096 + 4096
    assert model_size(small, scalar=True).parameters == 3_212_749_824 + 3072
    assert model_size(large, scalar=True).linear == model_size(large).linear


def test_the_weights_of_a_model_that_writes_do_not_hide_what_scores() -> None:
    folder = ROOT / "data/world/base-judge"
    config = json.loads((folder / "config.json").read_text())
    head = 0 if config["tie_word_embeddings"] else config["vocab_size"] * config["hidden_size"]
    whole, scoring = model_size(folder), model_size(folder, scalar=True)
    assert scoring.parameters == whole.parameters - head + config["hidden_size"]
