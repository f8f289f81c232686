"""Unlabeled pairs: batches that are fresh and stable, the order in which they are shown, and their truth."""

from __future__ import annotations

from itertools import chain

import pytest

from data.records import content_id, parse_pair, parse_preference
from data.sources.rows import DataError
from data.world import taste
from tasks.prepare import batch_of, truth_of
from tests.support.preparing import Prepare, ids_in, row, rows_in, some

# ---- batches -----------------------------------------------------------------------------------------------------------------


def test_batches_are_fresh(prepared: Prepare) -> None:
    data = prepared(rounds={"count": 3, "pairs": 6})
    batches = [ids_in(data, f"batch-{i}") for i in (1, 2, 3)]
    assert [len(batch) for batch in batches] == [6, 6, 6]
    assert len(set(chain(*batches))) == 18
    assert batch_of(data, 2).path == data.path / "batch-2.jsonl"


def test_more_rounds_leave_the_earlier_batches_as_they_are(prepared: Prepare) -> None:
    two, three = prepared(), prepared(rounds={"count": 3, "pairs": 6})
    for i in (1, 2):
        assert batch_of(two, i).sha256 == batch_of(three, i).sha256


def test_batches_are_drawn_from_the_whole_pool_by_the_seed(prepared: Prepare) -> None:
    first, same, other = (ids_in(prepared(seed=seed), "batch-1") for seed in (0, 0, 1))
    assert first == same
    assert set(first) != set(other)
    assert first != sorted(first)


def test_the_last_batch_may_be_smaller(prepared: Prepare) -> None:
    data = prepared(rounds={"count": 4, "pairs": 6})
    assert [len(rows_in(data, f"batch-{i}")) for i in (1, 2, 3, 4)] == [6, 6, 6, 2]
    assert data.manifest.counts.dropped == {}


def test_too_few_unlabeled_pairs_are_an_error_with_the_numbers(prepared: Prepare) -> None:
    with pytest.raises(
        DataError,
        match=r"4 rounds of 10 fresh unlabeled pairs need at least 31 pairs, but 20 were found: add sources to",
    ):
        prepared(rounds={"count": 4, "pairs": 10})


def test_no_rounds_need_no_unlabeled_pairs(prepared: Prepare) -> None:
    data = prepared({"unlabeled": []}, rounds={"count": 0, "pairs": 6})
    assert data.manifest.counts.kept == 33
    assert not any(name.startswith("batch") for name in data.manifest.files)


# ---- the order in which unlabeled pairs are shown, and their truth ------------------------------------------------------------


def test_unlabeled_pairs_are_shown_in_a_balanced_order_and_the_truth_follows(prepared: Prepare) -> None:
    """All rows have the better response first: files that pair two models' answers are like that."""
    data = prepared(rounds={"count": 1, "pairs": 20}, unlabeled_truth=True)
    truth = {r["id"]: r["label"] for r in rows_in(data, "truth")}
    batch = rows_in(data, "batch-1")
    assert set(truth) == {r["id"] for r in batch}
    for shown in batch:
        assert ("A" if shown["response_a"].startswith("good") else "B") == truth[shown["id"]]
        assert "label" not in shown
    assert sorted(truth.values()) == ["A"] * 10 + ["B"] * 10
    assert truth_of(data) is not None


def test_without_truth_no_label_is_written_anywhere_near_the_batches(prepared: Prepare) -> None:
    data = prepared()
    assert truth_of(data) is None
    assert "truth.jsonl" not in data.manifest.files


def test_the_same_batch_with_and_without_truth(prepared: Prepare) -> None:
    assert batch_of(prepared(), 1).sha256 == batch_of(prepared(unlabeled_truth=True), 1).sha256


def test_labels_of_unlabeled_rows_are_not_looked_at(prepared: Prepare) -> None:
    data = prepared({"unlabeled": [row(200 + i, label="tie") for i in range(20)]})
    assert len(rows_in(data, "batch-1")) == 6


def test_the_world_keeps_its_labels_apart_from_its_pairs(prepared: Prepare) -> None:
    splits = taste.draw_splits({"rationale": 2, "labeled": 2, "heldout": 2, "unlabeled": 8}, 0)
    given = {kind: [record.to_json() for record in rows] for kind, rows in splits.items()}
    data = prepared(given, rounds={"count": 2, "pairs": 4}, overlap="pair", unlabeled_truth=True)
    truth = {r["id"]: r["label"] for r in rows_in(data, "truth")}
    for shown in [*rows_in(data, "batch-1"), *rows_in(data, "batch-2")]:
        assert taste.verdict(parse_pair(shown)) == truth[shown["id"]]
    assert [parse_preference(r) for r in rows_in(data, "heldout")] == splits["heldout"]


def test_an_id_does_not_depend_on_the_order_in_which_the_pair_is_shown(prepared: Prepare) -> None:
    unnamed = [{key: value for key, value in r.items() if key != "id"} for r in some(200, 20)]
    data = prepared({"unlabeled": unnamed}, rounds={"count": 1, "pairs": 20}, unlabeled_truth=True)
    by_prompt = {r["prompt"]: r for r in unnamed}
    for shown in rows_in(data, "batch-1"):
        given = by_prompt[shown["prompt"][0]["content"]]
        assert shown["id"] == content_id(shown["prompt"], given["response_a"], given["response_b"])
