"""The first stage: what is held out stays out, batches are fresh and stable, and every row is accounted for."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.files import write_jsonl
from data.records import pair_key, parse_pair, prompt_key
from data.sources.rows import DataError
from data.store.artifacts import Artifact
from tests.support.preparing import Prepare, ids_in, row, rows_in, some


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
        "origins.jsonl",
        "rationale.jsonl",
    ]
    sizes = {name: len(rows_in(data, name)) for name in ("rationale", "labeled", "heldout", "batch-1", "batch-2")}
    assert sizes == {"rationale": 3, "labeled": 20, "heldout": 10, "batch-1": 6, "batch-2": 6}
    assert rows_in(data, "dropped") == [{"id": None, "reason": "not_needed", "rows": 8}]


def test_the_file_and_row_of_every_pair_are_kept_also_of_those_that_are_dropped(prepared: Prepare) -> None:
    data = prepared({"labeled": [*some(100, 20), row(7, prompt=" "), row(100)]})
    origins = {one["id"]: (Path(one["file"]).name, one["row"]) for one in rows_in(data, "origins")}
    assert origins["row-2"] == ("rationale.jsonl", 3)
    assert origins["row-119"] == ("labeled.jsonl", 20)
    assert {f"row-{i}" for i in range(200, 220)} <= origins.keys(), "also the eight that no batch needed"
    held = {
        one["id"] for name in ("rationale", "labeled", "heldout", "batch-1", "batch-2") for one in rows_in(data, name)
    }
    assert held < origins.keys()
    duplicate, empty = (
        next(r for r in rows_in(data, "dropped") if r["reason"] == why) for why in ("duplicate", "empty_prompt")
    )
    assert (Path(duplicate["where"]).name, Path(empty["where"]).name) == ("labeled.jsonl:22", "labeled.jsonl:21")


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


def test_ids_that_are_not_unique_can_be_made_from_the_content(prepared: Prepare, tmp_path: Path) -> None:
    for name, start in (("one", 500), ("two", 600)):
        write_jsonl(tmp_path / f"{name}.jsonl", [row(start + i, id=i) for i in range(5)])
    sources = [{"path": str(tmp_path / f"{name}.jsonl")} for name in ("one", "two")]
    with pytest.raises(DataError, match=r'two\.jsonl: two different pairs have the id \'0\'.*set id_from = "content"'):
        prepared(labeled=sources)
    data = prepared(labeled=[sources[0], {**sources[1], "id_from": "content"}])
    ids = ids_in(data, "labeled")
    assert len(set(ids)) == 10
    assert ids[:5] == list("01234")


def test_the_log_names_the_columns_that_are_not_read(prepared: Prepare, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        prepared({"labeled": [row(100 + i, context="c", note=None) for i in range(20)]})
    said = [record.getMessage() for record in caplog.records if "labeled.jsonl" in record.getMessage()]
    assert any(line.endswith("as preference; not read: the columns context") for line in said), said


def test_the_log_names_the_files_of_a_folder_that_are_not_read(
    prepared: Prepare, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_jsonl(tmp_path / "more/pairs.jsonl", some(100, 20))
    (tmp_path / "more/others.ndjson").write_text("")
    with caplog.at_level("INFO"):
        prepared(labeled=[{"path": str(tmp_path / "more")}])
    said = [record.getMessage() for record in caplog.records]
    assert any(line.endswith("more as preference; not read: the files others.ndjson") for line in said), said


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


def test_no_fresh_pair_is_one_that_is_learned_with_its_label(prepared: Prepare) -> None:
    """Whichever way round it is shown; another pair of a labeled prompt is fresh."""
    swapped = row(1, id="swapped", response_a="bad 1", response_b="good 1")
    again = [swapped, row(100), row(119, "Question 119?", response_b="worse")]
    data = prepared({"unlabeled": [*some(200, 9), *again]})
    assert data.manifest.counts.dropped == {"pair_is_labeled": 2}
    assert {r["id"] for r in rows_in(data, "dropped")} == {"swapped", "row-100"}
    assert len(rows_in(data, "batch-1") + rows_in(data, "batch-2")) == 10
    with pytest.raises(DataError, match=r"but 0 were found besides 20 that are labeled pairs too: add sources"):
        prepared({"unlabeled": some(100, 20)})


def test_two_draws_from_one_file_share_no_pair(prepared: Prepare, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "all.jsonl", some(1000, 60))
    for how in ("sample", "cap"):
        drawn = {
            kind: [{"path": str(tmp_path / "all.jsonl"), how: n}]
            for kind, n in {"labeled": 20, "unlabeled": 40}.items()
        }
        data = prepared(**drawn)
        assert data.manifest.counts.dropped["pair_is_labeled"] >= 5
        assert not set(ids_in(data, "labeled")) & {*ids_in(data, "batch-1"), *ids_in(data, "batch-2")}


@pytest.mark.parametrize("kind", ["labeled", "rationale"])
def test_nothing_left_of_a_kind_is_an_error_with_the_numbers(prepared: Prepare, kind: str) -> None:
    with pytest.raises(
        DataError, match=rf"no rows are left for {kind}: .* rows were read in all, dropped .*prompt_is_held_out"
    ):
        prepared({kind: [row(1, "Question 300?")]})


@pytest.mark.parametrize("overlap", ["prompt", "pair"])
def test_a_share_of_one_prompt_is_refused_with_what_to_give(prepared: Prepare, overlap: str) -> None:
    one = [{**r, "prompt": "Taste?"} for r in some(0, 20)]
    with pytest.raises(
        DataError,
        match=r"heldout_share is a share of prompts, and the labeled pairs have one prompt, .*: give data\.heldout$",
    ):
        prepared({"rationale": some(300, 5), "labeled": one, "heldout": []}, heldout_share=0.2, overlap=overlap)


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
