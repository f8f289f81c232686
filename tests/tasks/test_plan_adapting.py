"""What the plan of an adaptation counts: every number of a small run by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tasks.model.scalar import SCALAR
from tasks.plan.adapting import Adapting, adaptation
from tasks.plan.assumptions import PlanAssumptions, assume
from tasks.plan.facts import HELD_OUT, Facts, PlayedSet
from tasks.plan.first_rows import Part
from tasks.plan.lengths import Lengths
from tasks.plan.plan import PlanInputs
from tasks.plan.sample import DataSample
from tasks.plan.sizes import ModelSize
from tasks.plan.stages import PlannedModel, PlannedStage
from tasks.settings import Optimization, Role, TaskSettings
from tests.conftest import settings_with
from tests.support.plan_flows import JUDGE, SCORER, facts, figures

TASK_ROWS: dict[Part, float] = {"labeled": 80, "heldout": 20}


TASK_SETS = (PlayedSet(HELD_OUT, 20, 1, Lengths(0.5, 30)), PlayedSet("rm", 7, 9, Lengths(1.0, 100)))


def adapted(
    given: Facts,
    prompt: str = "compact-label",
    optimization: Mapping[str, Any] = {"epochs": 2},
    task: Mapping[str, Any] = {},
    prover: PlannedModel | None = None,
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
    found = PlanInputs(settings, DataSample({}), {}, {}, given, replace(assume(), values=values), models)
    stages, notes, stops = adaptation(found, Adapting(told, Optimization.model_validate(optimization), prompt))
    return {stage.place.name: stage for stage in stages}, [*stops, *notes]


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
    rows: dict[Part, float] = {"labeled": 80, "heldout": 20, "rationale": 80}
    known = facts(rows, human={"judge": Lengths(0.5, 60, 20)}, labeled={"judge": Lengths(1.0, 50)}, sets=TASK_SETS)
    planned, _ = adapted(known, "compact")
    assert planned["data"].rows_out == 80 + 20 + 80
    assert planned["task"].place.parts == ("human-examples", "task")
    # Half of 80 have the shape; a quarter of those is for validation, and 30 are left, all of which are copied first.
    assert figures(planned["task"])[:2] == (80, 40)
    assert planned["task"].disk_bytes == (40 + 10) * 400
    assert figures(planned["size-10/judge"])[:5] == (10, 5, 0, 0, 5 * 80 * 2)
    # A reply is 0.2 · 100 tokens.
    assert planned["before/benchmark"].generated_tokens == 20 * 20


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
    assert any("early stopping may end a training before its last step" in note for note in notes)
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
        "task.sizes: 1,000 pairs are requested, but only about 60 will be available for training",
    ]
