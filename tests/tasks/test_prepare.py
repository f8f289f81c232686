"""The first stage: what is held out stays out, batches are fresh and stable, and every row is accounted for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from data.files import write_jsonl
from data.records import content_id, pair_key, parse_pair, parse_preference, prompt_key
from data.sources.rows import DataError
from data.store.artifacts import Artifact
from data.world import taste
from tasks.model.chat import ChatEncoder
from tasks.prepare import batch_of, prepare, truth_of
from tests.conftest import rows_of, run_with

KINDS = ("rationale", "labeled", "unlabeled", "heldout")
Given = Mapping[str, Iterable[Mapping[str, Any]]]


def row(n: int, prompt: str | None = None, **changes: Any) -> dict[str, Any]:
    """A labeled row with a rationale; every number has a prompt and responses of its own."""
    made = {"prompt": prompt or f"Question {n}?", "response_a": f"good {n}", "response_b": f"bad {n}", "label": "A"}
    return {**made, "id": f"row-{n}", "rationale": "So A is better.", **changes}


def some(start: int, n: int) -> list[dict[str, Any]]:
    return [row(i) for i in range(start, start + n)]


WORLD = {"rationale": some(0, 3), "labeled": some(100, 20), "unlabeled": some(200, 20), "heldout": some(300, 10)}


class Prepare:
    """Runs the stage on these rows; an empty list is a kind that no source is given for."""

    def __init__(self, folder: Path, encoder: ChatEncoder) -> None:
        self.folder, self.encoder, self.n = folder, encoder, 0

    def __call__(
        self, given: Given = WORLD, rounds: Mapping[str, Any] | None = None, seed: int = 0, **data: Any
    ) -> Artifact:
        self.n += 1
        folder = self.folder / f"{self.n}"
        sources: dict[str, Any] = {}
        for kind in KINDS:
            rows = list({**WORLD, **given}[kind])
            write_jsonl(folder / f"{kind}.jsonl", rows)
            sources[kind] = [{"path": str(folder / f"{kind}.jsonl")}] if rows else []
        rounds = rounds or {"count": 2, "pairs": 6}
        run = run_with(folder / "runs", self.encoder, lambda r, j: "", data={**sources, **data}, rounds=rounds)
        run.seed = seed
        return prepare(run)


@pytest.fixture
def prepared(tmp_path: Path, encoder: ChatEncoder) -> Prepare:
    return Prepare(tmp_path, encoder)


def rows_in(data: Artifact, name: str) -> list[dict[str, Any]]:
    return rows_of(data.file(f"{name}.jsonl"))


def ids_in(data: Artifact, name: str) -> list[str]:
    return [r["id"] for r in rows_in(data, name)]


def prompts_in(data: Artifact, *names: str) -> set[str]:
    return {prompt_key(parse_pair(r).prompt) for name in names for r in rows_in(data, name)}


# ---- every row is somewhere -------------------------------------------------------------------------------------------------


def test_every_row_is_kept_in_one_file_or_dropped(prepared: Prepare) -> None:
    data = prepared()
    counts = data.manifest.counts
    assert counts.rows_in == 3 + 20 + 20 + 10 == counts.kept + sum(counts.dropped.values())
    assert counts.dropped == {"not_needed": 8}
    assert sorted(data.manifest.files) == [
        "batch-1.jsonl",
        "batch-2.jsonl",
        "dropped.jsonl",
        "heldout.jsonl",
        "labeled.jsonl",
        "rationale.jsonl",
    ]
    sizes = {name: len(rows_in(data, name)) for name in ("rationale", "labeled", "heldout", "batch-1", "batch-2")}
    assert sizes == {"rationale": 3, "labeled": 20, "heldout": 10, "batch-1": 6, "batch-2": 6}
    assert rows_in(data, "dropped") == [{"id": None, "reason": "not_needed", "rows": 8}]


def test_labels_and_rationales_go_where_they_belong(prepared: Prepare) -> None:
    data = prepared()
    assert all(r["rationale"] and r["label"] for r in rows_in(data, "rationale"))
    for name in ("labeled", "heldout"):
        assert all(r["label"] == "A" and "rationale" not in r for r in rows_in(data, name))
    assert all(set(r) == {"id", "prompt", "response_a", "response_b", "source"} for r in rows_in(data, "batch-1"))


def test_duplicates_are_dropped_in_whichever_order_and_under_whichever_id(prepared: Prepare) -> None:
    again = [row(100), row(101, id="another"), row(102, id="x", response_a="bad 102", response_b="good 102", label="B")]
    data = prepared({"labeled": [*some(100, 20), *again]})
    assert len(rows_in(data, "labeled")) == 20
    assert data.manifest.counts.dropped["duplicate"] == 3
    dropped = [r for r in rows_in(data, "dropped") if r["reason"] == "duplicate"]
    assert [r["id"] for r in dropped] == ["row-100", "another", "x"]


def test_two_different_pairs_with_one_id_are_an_error(prepared: Prepare) -> None:
    with pytest.raises(
        DataError, match=r"labeled\.jsonl: two different pairs have the id 'row-100'\. Ids must be unique"
    ):
        prepared({"labeled": [*some(100, 20), row(500, id="row-100")]})


def test_rows_that_cannot_be_used_are_dropped_with_their_reason(prepared: Prepare) -> None:
    useless = [row(400, response_b=" "), row(401, response_b="good 401"), row(402, prompt=" ")]
    data = prepared({"labeled": [*some(100, 20), *useless]})
    dropped = {r["id"]: r["reason"] for r in rows_in(data, "dropped") if r["id"]}
    assert dropped == {"row-400": "empty_response", "row-401": "equal_responses", "row-402": "empty_prompt"}
    assert data.manifest.counts.rows_in == 56


# ---- what is held out --------------------------------------------------------------------------------------------------------


def test_no_prompt_is_on_both_sides(prepared: Prepare) -> None:
    """One row of each kind shares its prompt, not its responses, with a held-out row."""
    shared = "Question 300?"
    data = prepared(
        {
            "rationale": [*some(0, 3), row(3, shared)],
            "labeled": [*some(100, 20), row(120, shared)],
            "unlabeled": [*some(200, 20), row(220, shared)],
        }
    )
    assert data.manifest.counts.dropped["prompt_is_held_out"] == 3
    dropped = {r["id"] for r in rows_in(data, "dropped") if r["reason"] == "prompt_is_held_out"}
    assert dropped == {"row-3", "row-120", "row-220"}
    assert len(rows_in(data, "heldout")) == 10
    assert not prompts_in(data, "heldout") & prompts_in(data, "rationale", "labeled", "batch-1", "batch-2")


def test_by_pair_a_shared_prompt_is_no_overlap_but_a_shared_pair_is(prepared: Prepare) -> None:
    one = [{**r, "prompt": "Taste?"} for r in some(0, 60)]
    swapped = {**one[50], "id": "again", "response_a": "bad 50", "response_b": "good 50", "label": "B"}
    given = {"rationale": one[:3], "labeled": [*one[3:20], swapped], "unlabeled": one[20:50], "heldout": one[50:]}
    data = prepared(given, overlap="pair")
    assert data.manifest.counts.dropped == {"not_needed": 18, "pair_is_held_out": 1}
    assert len(rows_in(data, "labeled")) == 17
    held = {pair_key(parse_pair(r)) for r in rows_in(data, "heldout")}
    assert len(held) == 10
    for name in ("rationale", "labeled", "batch-1", "batch-2"):
        assert not held & {pair_key(parse_pair(r)) for r in rows_in(data, name)}


def test_without_a_held_out_source_a_share_of_the_labeled_prompts_is_split_off(prepared: Prepare) -> None:
    labeled = [row(1000 + i, f"Prompt {i // 4}?") for i in range(400)]
    data = prepared({"labeled": labeled, "heldout": [], "unlabeled": [*some(200, 20), *labeled]}, heldout_share=0.2)
    held, kept = rows_in(data, "heldout"), rows_in(data, "labeled")
    assert len(held) + len(kept) == 400
    assert 8 <= len(prompts_in(data, "heldout")) <= 36  # of 100 prompts
    assert len(held) == 4 * len(prompts_in(data, "heldout"))  # all pairs of a prompt
    assert not prompts_in(data, "heldout") & prompts_in(data, "labeled", "rationale", "batch-1", "batch-2")
    assert data.manifest.counts.dropped["prompt_is_held_out"] == len(held)  # those among the unlabeled
    # The draw is by prompt and seed, not by place in the file.
    backwards = prepared({"labeled": labeled[::-1], "heldout": []}, heldout_share=0.2)
    assert set(ids_in(backwards, "heldout")) == {r["id"] for r in held}
    assert set(ids_in(prepared({"labeled": labeled, "heldout": []}, heldout_share=0.2, seed=1), "heldout")) != {
        r["id"] for r in held
    }


@pytest.mark.parametrize("kind", ["labeled", "rationale"])
def test_nothing_left_of_a_kind_is_an_error_with_the_numbers(prepared: Prepare, kind: str) -> None:
    with pytest.raises(
        DataError, match=rf"no rows are left for {kind}: .* rows were read in all, dropped .*prompt_is_held_out"
    ):
        prepared({kind: [row(1, "Question 300?")]})


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
        DataError, match=r"4 rounds of 10 fresh unlabeled pairs need at least 31 of them, 20 were found: add sources to"
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


# ---- pairs that come with both labels ---------------------------------------------------------------------------------

TWICE = [row(100), row(101), row(101, id="other", label="B"), row(102), row(102, id="again")]


def test_a_pair_with_both_labels_is_no_plain_duplicate(prepared: Prepare) -> None:
    data = prepared({"labeled": [*some(110, 10), *TWICE]})
    counts = data.manifest.counts
    assert (counts.dropped["conflicting_labels"], counts.dropped["duplicate"]) == (1, 1)
    assert {"row-101", "row-102"} <= set(ids_in(data, "labeled"))  # what is read first stays


def test_shown_the_other_way_round_a_pair_still_conflicts_only_with_the_other_response(prepared: Prepare) -> None:
    swapped = row(101, id="swapped", response_a="bad 101", response_b="good 101")
    same, other = {**swapped, "label": "B"}, {**swapped, "label": "A"}
    assert prepared({"labeled": [*some(100, 10), same]}).manifest.counts.dropped["duplicate"] == 1
    assert prepared({"labeled": [*some(100, 10), other]}).manifest.counts.dropped["conflicting_labels"] == 1


def test_all_of_a_conflict_can_be_dropped(prepared: Prepare) -> None:
    data = prepared({"labeled": [*some(110, 10), *TWICE]}, conflicts="drop")
    assert data.manifest.counts.dropped["conflicting_labels"] == 2
    assert "row-101" not in ids_in(data, "labeled")
    assert "row-102" in ids_in(data, "labeled")


def test_labels_conflict_across_the_kinds_of_labeled_pairs(prepared: Prepare) -> None:
    data = prepared({"rationale": [*some(0, 3), row(104, id="human", label="B")]})
    assert data.manifest.counts.dropped["conflicting_labels"] == 1
    assert "human" not in ids_in(data, "rationale")
    both = prepared({"rationale": [*some(0, 3), row(104, id="human", label="B")]}, conflicts="drop")
    assert both.manifest.counts.dropped["conflicting_labels"] == 2
    assert "row-104" not in ids_in(both, "labeled")
