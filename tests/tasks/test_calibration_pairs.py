"""Calibration pairs are in no other file: neither their prompts nor they themselves are trained on or held out."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.records import parse_pair, prompt_key
from data.sources.rows import DataError
from data.store.artifacts import Artifact
from tests.conftest import settings_with
from tests.support.preparing import Prepare, ids_in, row, rows_in, some

OTHERS = ("rationale", "labeled", "heldout", "batch-1", "batch-2")


def prompts_in(data: Artifact, *names: str) -> set[str]:
    return {prompt_key(parse_pair(r).prompt) for name in names for r in rows_in(data, name)}


def test_without_calibration_nothing_of_it_is_in_the_stage(prepared: Prepare) -> None:
    """The keys of runs that began before it stay as they are."""
    data = prepared()
    assert "calibration.jsonl" not in data.manifest.files
    assert not [key for key in data.manifest.config["data"] if "calibration" in key]
    assert not [role for role in data.manifest.inputs if "calibration" in role]


def test_a_share_of_the_labeled_prompts_is_split_off(prepared: Prepare) -> None:
    labeled = [row(1000 + i, f"Prompt {i // 4}?") for i in range(400)]
    given = {
        "labeled": labeled,
        "unlabeled": [*some(200, 20), *labeled],
        "rationale": [*some(0, 3), labeled[0] | {"id": "r"}],
    }
    data = prepared(given, calibration_share=0.2)
    apart = rows_in(data, "calibration")
    assert len(apart) + len(rows_in(data, "labeled")) == 400
    assert 8 <= len(prompts_in(data, "calibration")) <= 36  # of 100 prompts
    assert len(apart) == 4 * len(prompts_in(data, "calibration"))  # all pairs of a prompt
    assert all(r["label"] == "A" for r in apart)
    assert not prompts_in(data, "calibration") & prompts_in(data, *OTHERS)
    again = sum(r["id"] in {one["id"] for one in apart} for r in given["unlabeled"])
    again += prompt_key(parse_pair(labeled[0]).prompt) in prompts_in(data, "calibration")
    counts = data.manifest.counts
    assert counts.dropped["prompt_is_for_calibration"] == again
    assert counts.rows_in == counts.kept + sum(counts.dropped.values())
    assert set(ids_in(prepared(given, calibration_share=0.2, seed=1), "calibration")) != {r["id"] for r in apart}


def test_both_shares_are_split_off_and_the_held_out_pairs_stay_as_they_were(prepared: Prepare) -> None:
    given = {"labeled": [row(1000 + i) for i in range(200)], "heldout": []}
    before, data = (prepared(given, heldout_share=0.2, calibration_share=share) for share in (0.0, 0.3))
    assert ids_in(data, "heldout") == ids_in(before, "heldout")
    assert len(ids_in(data, "calibration")) > 20
    assert set(ids_in(data, "calibration")) | set(ids_in(data, "labeled")) == set(ids_in(before, "labeled"))
    assert not prompts_in(data, "calibration") & prompts_in(data, *OTHERS)


def test_calibration_sources_are_kept_out_of_training_and_held_out_pairs_out_of_them(prepared: Prepare) -> None:
    data = prepared({"calibration": [*some(500, 5), row(9, "Question 300?"), row(8, "Question 101?")]})
    assert ids_in(data, "calibration") == [*(f"row-{n}" for n in range(500, 505)), "row-8"]
    assert data.manifest.counts.dropped == {
        "not_needed": 8,
        "prompt_is_held_out": 1,
        "prompt_is_for_calibration": 1,
    }
    assert "row-101" not in ids_in(data, "labeled")
    assert "calibration-0" in data.manifest.inputs


def test_calibration_sources_are_no_held_out_pairs_that_are_split_off_later(prepared: Prepare) -> None:
    labeled = [row(1000 + i) for i in range(200)]
    calibration = [row(2000 + i, f"Question {1000 + i}?") for i in range(100)]
    data = prepared({"labeled": labeled, "heldout": [], "calibration": calibration}, heldout_share=0.2)
    held_out = data.manifest.counts.dropped["prompt_is_held_out"]
    assert 5 < held_out < len(rows_in(data, "heldout"))
    assert len(rows_in(data, "calibration")) == 100 - held_out
    assert not prompts_in(data, "calibration") & prompts_in(data, *OTHERS)


def test_a_split_off_pair_with_a_held_out_prompt_is_dropped(prepared: Prepare) -> None:
    labeled = [row(1000 + i, f"Question {300 + i % 20}?") for i in range(200)]  # half of the prompts are held out
    data = prepared({"labeled": labeled}, calibration_share=0.5)
    assert data.manifest.counts.dropped["prompt_is_held_out"] == 100
    assert rows_in(data, "calibration")
    assert not prompts_in(data, "calibration") & prompts_in(data, *OTHERS)


def test_by_pair_only_the_pairs_themselves_are_kept_out(prepared: Prepare) -> None:
    one = [{**r, "prompt": "Taste?"} for r in some(0, 60)]
    swapped = {**one[50], "id": "again", "response_a": "bad 50", "response_b": "good 50", "label": "B"}
    given = {"rationale": one[:3], "labeled": [*one[3:20], swapped], "unlabeled": one[20:40], "heldout": one[40:50]}
    data = prepared({**given, "calibration": one[50:]}, overlap="pair")
    assert data.manifest.counts.dropped == {"not_needed": 8, "pair_is_for_calibration": 1}
    assert len(rows_in(data, "labeled")) == 17


def test_pairs_that_share_a_prompt_are_split_off_one_by_one(prepared: Prepare) -> None:
    one = [{**r, "prompt": "Taste?"} for r in some(0, 260)]
    swapped = {**one[100], "id": "again", "response_a": "bad 100", "response_b": "good 100", "label": "B"}
    given = {"rationale": one[:3], "labeled": [*one[50:], swapped], "unlabeled": one[20:40], "heldout": one[40:50]}
    data = prepared(given, overlap="pair", calibration_share=0.3)
    assert 40 <= len(rows_in(data, "calibration")) <= 86  # of 210
    assert len(rows_in(data, "calibration")) + len(rows_in(data, "labeled")) == 210


def test_labels_that_contradict_those_of_calibration_pairs_are_dropped(prepared: Prepare) -> None:
    given = {"calibration": [row(500), row(101, label="B")]}
    assert prepared(given).manifest.counts.dropped["conflicting_labels"] == 1
    both = prepared(given, conflicts="drop")
    assert both.manifest.counts.dropped["conflicting_labels"] == 2
    assert ids_in(both, "calibration") == ["row-500"]


def test_no_calibration_pairs_are_an_error(prepared: Prepare) -> None:
    with pytest.raises(DataError, match=r"no rows are left for calibration: .*prompt_is_held_out"):
        prepared({"calibration": [row(1, "Question 300?")]})


def test_settings_give_calibration_pairs_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="calibration and calibration_share are both given: give one of the two"):
        settings_with(data={"calibration": [{"path": "c.jsonl"}], "calibration_share": 0.1})
    with pytest.raises(ValueError, match=r"calibration: a\.jsonl has no weight, but other sources do"):
        settings_with(data={"calibration": [{"path": "a.jsonl"}, {"path": "b.jsonl", "weight": 1}]})
