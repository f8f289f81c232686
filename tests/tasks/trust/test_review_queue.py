"""Which pairs are worth a person's minute, why, and in which order they are drawn."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.records import parse_pair
from data.store.store import RunStore
from tasks.run.finished import mark_finished
from tasks.run.stage import Run
from tasks.trust.review_files import ReviewError, pair_of
from tasks.trust.review_queue import (
    VotedPair,
    draw,
    draw_at_random,
    queue_of,
    reasons_of,
    voted_pairs,
)
from tasks.trust.stages import open_stages
from tests.support.written_run import batch_rows, fake_run, fake_settings, pair_row, put


def voted(identity: str, **changes: Any) -> VotedPair:
    """A pair without any reason to review it, except for what is changed."""
    given: dict[str, Any] = {
        "round": 1, "source": "s", "label": "A", "confidence": 1.0, "threshold": 0.75, "votes": 8, "kept": True,
        "orders_agree": True, "proved": True, "score": None, **changes,
    }  # fmt: skip
    return VotedPair(identity, **given)


def near(ids: list[str]) -> dict[str, list[str]]:
    return {identity: ["near_threshold"] for identity in ids}


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({}, []),
        ({"orders_agree": False}, ["orders_disagree"]),
        ({"proved": False}, ["no_valid_proof"]),
        ({"proved": None}, []),
        ({"confidence": 0.75}, ["near_threshold"]),  # 6 of 8; with 5, it would be dropped
        ({"confidence": 0.625, "kept": False}, ["near_threshold"]),  # 5 of 8; with 6, it would be kept
        ({"confidence": 0.875}, []),
        ({"confidence": 0.5, "kept": False}, []),
        ({"votes": 0, "confidence": 0.79}, ["near_threshold"]),  # a mean probability
        ({"votes": 0, "confidence": 0.81}, []),
        ({"threshold": None, "kept": False}, ["precision_not_shown"]),
        ({"threshold": None, "kept": False, "label": None, "confidence": None, "votes": 0}, ["precision_not_shown"]),
        ({"label": None, "confidence": 0.0, "orders_agree": False, "kept": False}, ["orders_disagree"]),
    ],
)
def test_each_reason_holds_where_it_is_said_to(changes: dict[str, Any], reasons: list[str]) -> None:
    assert reasons_of([voted("p", **changes)]).get("p", []) == reasons


def test_a_label_that_differs_between_rounds_is_a_flip_and_the_last_round_counts() -> None:
    pairs = [voted("p", orders_agree=False), voted("q"), voted("p", round=2, label="B"), voted("q", round=2)]
    assert reasons_of(pairs) == {"p": ["label_flipped"]}
    no_label = voted("p", round=2, label=None, confidence=0.0)
    assert reasons_of([voted("p"), no_label]) == {}, "no label is no other label"


def test_the_lowest_tenth_of_the_scores_is_weak() -> None:
    pairs = [voted(f"p{i}", score=-i / 10) for i in range(20)]
    assert reasons_of(pairs) == {"p19": ["weak_proof"], "p18": ["weak_proof"]}


def test_a_source_of_which_few_labels_are_kept_is_a_reason_only_if_it_has_enough_pairs() -> None:
    many = [voted(f"m{i}", source="many") for i in range(60)]
    few_kept = [voted(f"f{i}", source="few", kept=i % 2 == 0) for i in range(20)]
    assert reasons_of(many + few_kept) == {pair.id: ["low_kept_share"] for pair in few_kept}
    assert reasons_of(many + few_kept[1:]) == {}


def test_the_reasons_have_their_turn_one_after_the_other_and_no_pair_comes_twice() -> None:
    reasons = {f"o{i}": ["orders_disagree"] for i in range(100)}
    reasons |= {f"w{i}": ["weak_proof", "near_threshold"] for i in range(100)} | {"n": ["no_valid_proof"]}
    drawn = draw(reasons, 10, seed=0)
    assert len(set(drawn)) == len(drawn) == 10
    # Of four reasons that hold, one holds for a single pair.
    assert Counter(identity[0] for identity in drawn) == {"o": 3, "w": 6, "n": 1}
    assert len(draw(reasons, 1000, seed=0)) == 201


def test_a_seed_gives_the_same_pairs_however_they_are_found_and_another_seed_others() -> None:
    reasons = {f"p{i}": ["orders_disagree"] for i in range(50)}
    backwards = dict(reversed(reasons.items()))
    assert draw(reasons, 10, seed=3) == draw(backwards, 10, seed=3) != draw(reasons, 10, seed=4)
    assert draw_at_random(list(reasons), 10, seed=3) == draw_at_random(list(backwards), 10, seed=3)
    assert draw_at_random(list(reasons), 10, seed=3) != draw_at_random(list(reasons), 10, seed=4)


# ---- a run folder ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made, _ = fake_run(tmp_path_factory.mktemp("runs"))
    return made.store.path


def test_a_pair_is_read_with_all_that_became_of_it(run: Path) -> None:
    pairs = voted_pairs(run)
    # Of 24 pairs in each of two rounds, one was too long and one failed: there is nothing to review in them.
    assert Counter(pair.round for pair in pairs) == {1: 22, 2: 22}
    found = {pair.id: pair for pair in pairs}
    assert found["r1p02"] == voted("r1p02", source="hand", label=None, confidence=0.0, votes=4, kept=False,
                                   orders_agree=False, proved=None)  # fmt: skip
    assert found["r1p03"].confidence == 0.5
    assert not found["r1p03"].kept
    # The first pair with a label has no valid proof in one of its orders; of the others, the better proof scores −0.25.
    assert (found["r1p04"].proved, found["r1p05"].proved, found["r1p05"].score) == (False, True, -0.25)
    assert {identity for identity, held in reasons_of(pairs).items() if "no_valid_proof" in held} == {"r1p04", "r2p04"}


def test_the_threshold_is_that_of_the_round_and_of_the_source(tmp_path: Path) -> None:
    """Where a target precision is tested, see tasks/trust/threshold.py: by domain, and none where it cannot be shown."""

    def row(identity: str, source: str, **facts: Any) -> dict[str, Any]:
        return {**pair_row(identity), "source": source, **facts}

    run = Run(RunStore(tmp_path, "hand"), fake_settings(), 5)
    strict = put(run, "round-1/threshold", "threshold", 1, {"strictness.json": []})
    (strict.path / "strictness.json").write_text('{"others": 0.75, "domains": {"law": null, "code": 0.875}}')
    voted_on = {"label": "A", "confidence": 0.875, "votes": {"A": 7, "B": 1, "null": 0}, "orders_agree": True}
    files = {
        "labels.jsonl": [row("a", "code", **voted_on)],
        "dropped.jsonl": [
            row("b", "law", reason="precision_not_shown"),  # no votes were cast on it
            row("c", "web", reason="prompt_too_long"),
            row("d", "web", **{**voted_on, "confidence": 0.5}, reason="low_confidence"),
        ],
    }
    put(run, "round-1/labels", "label", 1, files, inputs={"strictness": strict})
    found = {pair.id: pair for pair in voted_pairs(run.store.path)}
    assert {identity: pair.threshold for identity, pair in found.items()} == {"a": 0.875, "b": None, "d": 0.75}
    reasons = reasons_of(list(found.values()))
    assert reasons == {"a": ["near_threshold"], "b": ["precision_not_shown"]}
    (line,) = queue_of(run.store.path, ["b"], reasons, seed=0)
    assert (line["judge_label"], line["confidence"]) == (None, None)


def test_a_queue_has_the_responses_in_a_drawn_order_that_can_be_undone(run: Path) -> None:
    ids = [f"r1p{i:02d}" for i in range(2, 24)]
    lines = queue_of(run, ids, near(ids), seed=0)
    assert lines == queue_of(run, ids, near(ids), seed=0)
    assert {line["order"] for line in lines} == {"ab", "ba"}
    given = {row["id"]: parse_pair(row) for row in batch_rows(1)}
    for line in lines:
        assert pair_of(line) == given[line["pair"]]
        first = given[line["pair"]].response_a if line["order"] == "ab" else given[line["pair"]].response_b
        assert line["response_1"] == first
    labels = {line["pair"]: (line["order"], line["judge_label"]) for line in lines}
    assert labels["r1p02"][1] is None
    order, label = labels["r1p05"]  # the judge's label is A
    assert label == ("A" if order == "ab" else "B")
    assert lines[0]["id"].startswith("hand-")
    assert len({line["id"] for line in lines}) == len(lines)
    assert queue_of(run, ids, near(ids), seed=1)[0]["id"] != lines[0]["id"]


def test_a_run_without_votes_has_nothing_to_review(tmp_path: Path) -> None:
    with pytest.raises(ReviewError, match="nothing to review"):
        voted_pairs(tmp_path)


def test_of_a_finished_run_only_its_own_rounds_count(tmp_path: Path) -> None:
    """A run that is made again with fewer rounds leaves the folders of the others where they are."""
    made, _ = fake_run(tmp_path)
    mark_finished(replace(made, finished=[one for one in made.finished if one.manifest.round != 2]))
    assert {pair.round for pair in voted_pairs(made.store.path)} == {1}
    assert {one.manifest.round for one in open_stages(made.store, print).all} == {None, 0, 1, 3}
