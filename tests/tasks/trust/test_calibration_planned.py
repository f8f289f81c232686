"""A plan counts the votes on calibration pairs, and what is split off for them is not trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tasks.plan.lengths import Lengths
from tests.support.plan_by_hand import FACTS, stages
from tests.support.planning import demo, planned

CALIBRATED = replace(FACTS, rows={**FACTS.rows, "calibration": 30}, calibration=Lengths(0.8, 50))
TARGET = {"labels": {"max_tokens": 100, "votes": 4, "target_precision": 0.95}, "data": {"calibration_share": 0.4}}


def test_all_votes_on_calibration_pairs_are_counted_each_round() -> None:
    found = stages(CALIBRATED, rounds={"count": 2, "pairs": 50}, **TARGET)
    before, votes = (list(found).index(f"round-2/{name}") for name in ("calibration-votes", "votes"))
    assert before == votes - 1
    one = found["round-1/calibration-votes"]
    assert one.place.parts == ("round-1/calibration-votes", "round-1/threshold")
    assert one.prompt_tokens == 30 * 0.8 * 2 * 50
    assert one.generated_tokens == 30 * 0.8 * 4 * 20  # four votes of 100 tokens × 0.2
    assert found["round-1/votes"].rows_in == 50


def test_without_a_target_or_with_true_labels_nothing_is_voted_on() -> None:
    assert "round-1/calibration-votes" not in stages(CALIBRATED, data={"calibration_share": 0.4})
    truth = {**TARGET["labels"], "source": "truth"}
    true = stages(CALIBRATED, labels=truth, data={**TARGET["data"], "unlabeled_truth": True})
    assert "round-1/calibration-votes" not in true


def test_a_label_only_judge_is_asked_once_in_each_order() -> None:
    asked = stages(CALIBRATED, models={"max_tokens": 1000, "judge_prompt": "compact-label"}, **TARGET)
    assert asked["round-1/calibration-votes"].generated_tokens == 30 * 0.8 * 2


def test_a_share_of_the_labeled_pairs_is_voted_on_instead_of_learned(world: Path) -> None:
    target = {"data.calibration_share": 0.4, "labels.target_precision": 0.95}
    plain, found = ({one.place.name: one for one in planned(demo(world, **more)).stages} for more in ({}, target))
    assert found["round-1/calibration-votes"].rows_in == pytest.approx(0.4 * 20)
    assert found["round-0/proofs"].rows_in == pytest.approx(0.6 * plain["round-0/proofs"].rows_in)
    assert found["data"].rows_out == pytest.approx(plain["data"].rows_out)


def test_calibration_sources_are_read_as_their_own_part(world: Path) -> None:
    sources = {"data.calibration": [{"path": f"{world}/heldout.jsonl"}], "labels.target_precision": 0.95}
    plan = planned(demo(world, **sources))
    [first, *_] = [one for one in plan.stages if one.place.kind == "calibration-vote"]
    assert first.rows_in == next(one.rows_in for one in plan.stages if one.place.name == "round-0/benchmark")
