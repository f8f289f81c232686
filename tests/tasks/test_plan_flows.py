"""What plans of the flows baselines and adapt count: every number of a small run by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.model.scalar import SCALAR
from tasks.plan.adapting import Adapting, adaptation
from tasks.plan.assumptions import PlanAssumptions, assume
from tasks.plan.baselines import Baselines, baseline_stages, settings_of_label_judges
from tasks.plan.facts import HELD_OUT, Facts, PlayedSet
from tasks.plan.lengths import Lengths
from tasks.plan.plan import Grounds
from tasks.plan.sample import DataSample, Part, Sample
from tasks.plan.sizes import ModelSize, model_size
from tasks.plan.stages import PlannedModel, PlannedStage
from tasks.settings import BaselineSettings, Optimization, Role, TaskSettings
from tests.conftest import ROOT, settings_with
from tests.support.plan_fixtures import write_model

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


# ---- baselines, by hand -----------------------------------------------------------------------------------------------------

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


# ---- adapting, by hand ------------------------------------------------------------------------------------------------------

TASK_ROWS: dict[Part, float] = {"labeled": 80, "heldout": 20}
TASK_SETS = (PlayedSet(HELD_OUT, 20, 1, Lengths(0.5, 30)), PlayedSet("rm", 7, 9, Lengths(1.0, 100)))


def adapted(
    given: Facts,
    prompt: str = "compact-label",
    optimization: Mapping[str, Any] = {"epochs": 2},
    task: Mapping[str, Any] = {},
    prover: PlannedModel | None = None,
    parts: Sequence[Part] = ("labeled", "heldout"),
    **sections: Mapping[str, Any],
) -> tuple[dict[str, PlannedStage], list[str]]:
    judge = "compact-label" if prompt == SCALAR else prompt
    changes = {
        "models": {"max_tokens": 1000, "judge_prompt": judge},
        "labels": {"max_tokens": 100},
        "proofs": {"max_tokens": 50, "k": 3, "write_for": "nothing"},
        "rounds": {"count": 0},
    }
    settings = settings_with(
        **{name: {**changes.get(name, {}), **sections.get(name, {})} for name in {*changes, *sections}}
    )
    told = TaskSettings.model_validate({"pairs": [{"path": "x"}], "sizes": [10, 30], "validation_share": 0.25, **task})
    models: dict[Role, PlannedModel] = {"scalar": SCORER} if prompt == SCALAR else {"judge": JUDGE}
    if prover is not None:
        models["prover"] = prover
    values = PlanAssumptions(kept_proofs=0.5, reply_share=0.2, proof_share=0.2)
    sample = DataSample({part: [Sample([], 0, 0)] for part in parts})
    found = Grounds(settings, sample, {}, {}, given, replace(assume(), values=values), models)
    stages, notes = adaptation(found, Adapting(told, Optimization.model_validate(optimization), prompt))
    return {stage.place.name: stage for stage in stages}, notes


def test_a_label_judge_is_adapted_in_both_orders() -> None:
    planned, notes = adapted(
        facts(TASK_ROWS, labeled={"judge": Lengths(0.75, 50)}, sets=TASK_SETS), training={"label_loss": "labels"}
    )
    assert list(planned) == [
        "data",
        "task",
        "before/benchmark",
        "before/benchmark-rm",
        "size-10/judge",
        "size-10/benchmark",
        "size-30/judge",
        "size-30/benchmark",
        "size-30/benchmark-rm",
        "final",
    ]
    assert figures(planned["data"]) == (500, 100, 0, 0, 0, 0, 0, 100 * 100)
    # 20 of 80 pairs are for validation, in both orders; of the other 60 the largest size takes 30.
    assert figures(planned["task"]) == (80, 50, 0, 0, 0, 0, 0, 40 * 400)
    # 20 examples, of which 15 fit, of 50 + 1 tokens, twice.
    by_hand = (20, 15, 0, 0, 1530, 6000 * 1530, 1530, 2000 + 20 * 400)
    assert figures(planned["size-10/judge"]) == pytest.approx(by_hand)
    assert planned["size-30/judge"].rows_in == 60
    assert figures(planned["before/benchmark"])[:4] == (20, 10, 20 * 30, 20)
    assert planned["before/benchmark-rm"].prompt_tokens == 7 * 18 * 100
    assert figures(planned["before/benchmark"]) == figures(planned["size-30/benchmark"])
    assert figures(planned["final"]) == (2, 1, 0, 0, 0, 0, 0, 2000)
    assert notes == []


def test_over_the_whole_vocabulary_a_label_is_learned_with_the_end_of_its_turn() -> None:
    planned, _ = adapted(facts(TASK_ROWS, labeled={"judge": Lengths(0.75, 50)}))
    assert planned["size-10/judge"].trained_tokens == pytest.approx(2 * 15 * 52)


def test_human_rationales_serve_in_one_order() -> None:
    """Read again from the pairs that are labeled too, so that a fifth of them is held out of both."""
    rows: dict[Part, float] = {"labeled": 80, "heldout": 20, "rationale": 100}
    known = facts(rows, human={"judge": Lengths(0.5, 60, 20)}, labeled={"judge": Lengths(1.0, 50)}, sets=TASK_SETS)
    planned, _ = adapted(known, "compact", parts=("labeled", "rationale"), data={"heldout_share": 0.2})
    assert planned["data"].rows_out == 80 + 20 + 80
    assert planned["task"].place.parts == ("human-examples", "task")
    # Half of 80 have the shape; a quarter of those is for validation, and 30 are left, all of which are copied first.
    assert figures(planned["task"])[:2] == (80, 40)
    assert planned["task"].disk_bytes == (40 + 10) * 400
    assert figures(planned["size-10/judge"])[:5] == (10, 5, 0, 0, 5 * 80 * 2)
    # A reply is 0.2 · 100 tokens.
    assert planned["before/benchmark"].generated_tokens == 20 * 20
    given, _ = adapted(known, "compact", parts=("labeled", "rationale", "heldout"))
    assert given["task"].rows_in == 100


def test_a_named_prover_writes_what_is_learned() -> None:
    known = facts(TASK_ROWS, labeled={"judge": Lengths(0.4, 50), "prover": Lengths(0.75, 40)}, sets=TASK_SETS)
    planned, _ = adapted(known, "compact", prover=replace(JUDGE, size=ModelSize(3000, 7)))
    proofs = planned["round-0/proofs"]
    assert list(planned)[1:3] == ["round-0/proofs", "task"]
    assert proofs.place.parts == ("round-0/proofs", "round-0/selected")
    # 60 of 80 pairs fit, 2 orders, 3 proofs each of 0.2 · 50 tokens; half of the pairs keep one for each order.
    by_hand = (80, 30, 120 * 40, 360 * 10, 0, 6000 * (4800 + 2 * 3600), 6000 * 8400 / 2000 + 6000 * 3600 / 200)
    assert figures(proofs)[:-1] == pytest.approx(by_hand)
    assert figures(planned["task"])[:2] == (30, 30)
    # 20 examples of 50 + 10 tokens; of what fitted the prover 0.4 ÷ 0.75 fits the judge.
    assert figures(planned["size-10/judge"])[:5] == pytest.approx((20, 20 * 0.4 / 0.75, 0, 0, 2 * 20 * 0.4 / 0.75 * 60))


def test_a_discriminative_judge_learns_each_pair_once_and_is_not_exported() -> None:
    sets = (PlayedSet(HELD_OUT, 20, 1, Lengths(0.5, 30), scored=2),)
    known = facts(TASK_ROWS, labeled={"judge": Lengths(0.5, 100)}, sets=sets)
    planned, _ = adapted(known, SCALAR, training={"packing": True}, optimization={"max_steps": 10, "batch_size": 2})
    assert "final" not in planned
    # 10 pairs, of which 5 fit: three steps a pass.
    assert figures(planned["size-10/judge"])[:6] == pytest.approx((10, 5, 0, 0, 10 / 3 * 500, 5400 * 10 / 3 * 500))
    assert figures(planned["before/benchmark"])[2:6] == (20 * 30, 0, 0, 1800 * 600)


def test_early_stopping_makes_bounds_of_steps_and_reads_the_validation_part() -> None:
    """Of 30 pairs, 45 examples of 51 tokens: 23 steps a pass, 46 in all, a look at every fifth and at the last."""
    known = facts(TASK_ROWS, labeled={"judge": Lengths(0.75, 50)}, sets=TASK_SETS)
    early = {"epochs": 2, "batch_size": 2, "early_stopping": {"every": 5}}
    planned, notes = adapted(known, optimization=early, training={"label_loss": "labels"})
    judge, validation = planned["size-30/judge"], 40 * 0.75 * 51
    assert judge.trained_tokens == pytest.approx(2 * 45 * 51)
    assert judge.flops == pytest.approx(6000 * 4590 + 2000 * 10 * validation)
    assert judge.gpu_seconds == pytest.approx(judge.flops / 6000)
    assert any("early stopping ends a training before its last step" in note for note in notes)
    without, silent = adapted(
        known, optimization=early, task={"validation_share": 0}, training={"label_loss": "labels"}
    )
    assert without["size-30/judge"].flops == pytest.approx(6000 * 4590)
    assert silent == []


def test_more_pairs_than_there_are_cannot_be_learned_from() -> None:
    known = facts(TASK_ROWS, labeled={"judge": Lengths(1.0, 50)}, sets=TASK_SETS)
    planned, notes = adapted(known, task={"sizes": [10, 1000]})
    assert planned["size-1000/judge"].rows_in == 2 * 60
    assert notes == [
        "task.sizes: 1,000 pairs are asked for, and about 60 will be there for training; a run with fewer than it asks for "
        "stops with an error"
    ]
