"""Reviewed pairs in the data of a run: what they join, what they leave, and that nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data.files import write_jsonl
from data.store.artifacts import Artifact, StageError
from data.store.store import RunStore
from tasks.model.chat import ChatEncoder
from tasks.prepare import prepare
from tasks.prove import prove
from tasks.report.samples import sample_pairs
from tasks.run.changes import announce
from tasks.run.finished import mark_finished
from tasks.run.stage import Run
from tasks.training_set import human_examples
from tasks.trust.join_reviews import join_reviews
from tasks.trust.review_files import ReviewError, gold_file
from tests.conftest import run_with
from tests.support.preparing import WORLD, ids_in, rows_in
from tests.support.recording import RecordedRun
from tests.support.written_run import BATCH, batch_rows, fake_settings, put, put_prepared, put_round

KINDS = ("rationale", "labeled", "unlabeled", "heldout")


@pytest.fixture
def run(tmp_path: Path, encoder: ChatEncoder) -> Run:
    return run_on(tmp_path, encoder)


def run_on(folder: Path, encoder: ChatEncoder, **data: Any) -> Run:
    """A run whose bodies are watched for what they open."""
    sources = {}
    for kind in KINDS:
        write_jsonl(folder / f"{kind}.jsonl", WORLD[kind])
        sources[kind] = [{"path": str(folder / f"{kind}.jsonl")}]
    settings = {"data": {**sources, **data}, "rounds": {"count": 2, "pairs": 6}}
    made = run_with(folder / "runs", encoder, lambda r, j: "", **settings)
    return RecordedRun(made.store, made.settings, made.seed, made.generator, folder=folder)


def review(run: Run, data: Artifact, into: Any, *ids: str, **changes: Any) -> list[dict[str, Any]]:
    """Labels pairs of the batches as people would: B is better."""
    given = [row for i in (1, 2) for row in rows_in(data, f"batch-{i}") if row["id"] in ids]
    gold = [{**row, "label": "B", "review": {"annotators": ["anna"]}, **changes} for row in given]
    write_jsonl(gold_file(run.store.path, into), gold)
    return gold


def in_batch(data: Artifact, i: int, n: int) -> list[str]:
    return ids_in(data, f"batch-{i}")[:n]


def test_a_run_without_reviews_has_no_such_stage(run: Run) -> None:
    data = prepare(run)
    assert join_reviews(run, data) is data
    assert "reviews" not in data.manifest.config["data"], "or the keys of every run would change"
    assert [stage.manifest.name for stage in run.finished] == ["data"]


def test_labeled_pairs_are_learned_from_instead_of_voted_on(run: Run) -> None:
    data = prepare(run)
    ids = in_batch(data, 1, 2)
    review(run, data, "labeled", *ids)
    joined = join_reviews(run, data)
    assert ids_in(joined, "labeled") == [*ids_in(data, "labeled"), *ids]
    assert [row["label"] for row in rows_in(joined, "labeled")[-2:]] == ["B", "B"]
    assert rows_in(joined, "labeled")[-1].keys() == rows_in(data, "labeled")[0].keys()
    assert ids_in(joined, "batch-1") == ids_in(data, "batch-1")[2:]
    for name in ("batch-2", "heldout", "rationale"):
        assert joined.ref(f"{name}.jsonl").sha256 == data.ref(f"{name}.jsonl").sha256
    assert joined.manifest.counts.dropped == {"reviewed": 2}
    assert [(row["id"], row["reason"]) for row in rows_in(joined, "dropped")] == [
        (identity, "reviewed") for identity in ids
    ]
    sizes = joined.manifest.metrics["sizes"]
    assert (sizes["labeled.jsonl"], sizes["batch-1.jsonl"], sizes["batch-2.jsonl"]) == (22, 4, 6)
    assert joined.manifest.metrics["reviewed"] == {"labeled": 2}


def test_a_reviewed_pair_with_the_id_of_another_labeled_pair_gets_one_of_its_own(run: Run) -> None:
    data = prepare(run)
    (gold,) = review(run, data, "labeled", *in_batch(data, 1, 1))
    taken = ids_in(data, "labeled")[0]
    write_jsonl(gold_file(run.store.path, "labeled"), [{**gold, "id": taken}])
    found = rows_in(join_reviews(run, data), "labeled")
    assert len({row["id"] for row in found}) == len(found) == 21
    assert (found[0]["id"], found[-1]["response_a"]) == (taken, gold["response_a"])


def test_every_row_is_accounted_for_and_only_inputs_are_opened(run: Run) -> None:
    data = prepare(run)
    review(run, data, "labeled", *in_batch(data, 1, 2))
    joined = join_reviews(run, data)
    counts = joined.manifest.counts
    assert counts.rows_in == 2 + 20 + 6 + 6
    assert counts.kept == counts.rows_in - 2
    assert isinstance(run, RecordedRun)
    assert run.opened["reviewed-data"]
    assert not any(run.forgotten.values()), run.forgotten


def test_calibration_pairs_and_all_pairs_with_their_prompts_are_not_learned_from(run: Run) -> None:
    data = prepare(run)
    (identity,) = in_batch(data, 2, 1)
    (gold,) = review(run, data, "calibration", identity)
    other = {**gold, "id": "same-prompt", "response_a": "another"}
    write_jsonl(gold_file(run.store.path, "labeled"), [{**other, "label": "A"}])
    joined = join_reviews(run, data)
    assert ids_in(joined, "calibration") == [identity]
    assert joined.manifest.metrics["sizes"]["calibration.jsonl"] == 1
    assert identity not in ids_in(joined, "batch-2")
    assert ids_in(joined, "labeled") == ids_in(data, "labeled")
    assert joined.manifest.counts.dropped == {"pair_is_for_calibration": 1, "prompt_is_for_calibration": 1}


def test_labeled_pairs_with_the_prompt_of_another_reviewed_pair_are_not_learned_from(run: Run) -> None:
    data = prepare(run)
    first, *_ = rows_in(data, "labeled")
    write_jsonl(gold_file(run.store.path, "calibration"), [{**first, "id": "x", "response_a": "new"}])
    joined = join_reviews(run, data)
    assert ids_in(joined, "calibration") == ["x"]
    assert first["id"] not in ids_in(joined, "labeled")
    assert joined.manifest.counts.dropped["prompt_is_for_calibration"] >= 1


def test_reviewed_pairs_join_a_runs_own_calibration_pairs_and_leave_the_data_as_it_was(
    tmp_path: Path, encoder: ChatEncoder
) -> None:
    run = run_on(tmp_path, encoder, calibration_share=0.2)
    data = prepare(run)
    review(run, data, "calibration", *in_batch(data, 1, 1))
    joined = join_reviews(run, data)
    assert len(ids_in(joined, "calibration")) == len(ids_in(data, "calibration")) + 1
    assert not data.damage()


def test_with_overlap_by_pair_only_the_pairs_themselves_are_kept_apart(tmp_path: Path, encoder: ChatEncoder) -> None:
    run = run_on(tmp_path, encoder, overlap="pair")
    data = prepare(run)
    (gold,) = review(run, data, "calibration", *in_batch(data, 2, 1))
    write_jsonl(gold_file(run.store.path, "labeled"), [{**gold, "id": "same-prompt", "response_a": "another"}])
    assert ids_in(join_reviews(run, data), "labeled")[-1] == "same-prompt"


def test_calibration_pairs_share_no_prompt_with_the_rationales_that_were_learned_from(run: Run) -> None:
    data = prepare(run)
    learned, *_ = rows_in(data, "rationale")
    write_jsonl(gold_file(run.store.path, "calibration"), [{**learned, "id": "x", "response_a": "new"}])
    joined = join_reviews(run, data)
    assert ids_in(joined, "calibration") == []
    assert joined.manifest.counts.dropped == {"prompt_is_learned_with_rationale": 1}
    assert joined.ref("rationale.jsonl").sha256 == data.ref("rationale.jsonl").sha256


def test_what_is_held_out_is_not_learned_from_although_it_was_reviewed(run: Run) -> None:
    data = prepare(run)
    held, *_ = rows_in(data, "heldout")
    write_jsonl(
        gold_file(run.store.path, "labeled"), [{**held, "id": "again"}, {**held, "id": "x", "response_a": "new"}]
    )
    joined = join_reviews(run, data)
    assert ids_in(joined, "labeled") == ids_in(data, "labeled")
    assert joined.manifest.counts.dropped == {"pair_is_held_out": 1, "prompt_is_held_out": 1}


def test_the_same_reviews_are_the_same_stage_and_others_another_one(run: Run) -> None:
    data = prepare(run)
    ids = in_batch(data, 1, 2)
    review(run, data, "labeled", *ids)
    joined = join_reviews(run, data)
    assert join_reviews(run, data).reused
    review(run, data, "labeled", ids[0])
    less = join_reviews(run, data)
    assert less.manifest.key != joined.manifest.key
    assert ids_in(less, "batch-1")[0] == ids[1]
    gold_file(run.store.path, "labeled").unlink()
    assert join_reviews(run, data) is data


def test_the_next_start_redoes_exactly_what_reads_the_reviews_and_says_so_before(run: Run) -> None:
    def algorithm(run: Run) -> Artifact:
        data = prepare(run)
        human_examples(run, data)
        data = join_reviews(run, data)
        prove(run, 0, None, data.ref("labeled.jsonl"))
        return data

    data = algorithm(run)
    mark_finished(run)
    review(run, data, "labeled", *in_batch(data, 1, 2))
    again = Run(run.store, run.settings, run.seed)
    with pytest.raises(StageError, match=r"is finished(.|\n)*round-0/selected(.|\n)*will make: reviewed-data"):
        announce(again, algorithm, "auto", print)
    said: list[str] = []
    announce(again, algorithm, "redo", said.append)
    assert said == ["round-0/selected: input labeled has changed, will redo: round-0/selected"]
    algorithm(again)
    assert {stage.manifest.name: stage.reused for stage in again.finished_stages()} == {
        "data": True,
        "human-examples": True,
        "reviewed-data": False,
        "round-0/selected": False,
    }


def test_the_setting_turns_it_off(tmp_path: Path, encoder: ChatEncoder) -> None:
    run = run_on(tmp_path, encoder, reviews=False)
    data = prepare(run)
    review(run, data, "labeled", *in_batch(data, 1, 2))
    assert join_reviews(run, data) is data


def test_a_body_that_was_interrupted_begins_again(run: Run) -> None:
    data = prepare(run)
    ids = in_batch(data, 1, 2)
    review(run, data, "calibration", *ids)
    gold = gold_file(run.store.path, "calibration")
    # The stage fails after its files are written: there is nothing left to learn from.
    write_jsonl(gold, [{**row, "label": "A"} for row in rows_in(data, "labeled")])
    with pytest.raises(StageError, match="no labeled pairs are left"):
        join_reviews(run, data)
    with pytest.raises(StageError, match="no labeled pairs are left"):
        join_reviews(run, data)
    (work,) = (run.store.path / ".work").iterdir()
    assert len((work / "calibration.jsonl").read_text().splitlines()) == 20


def test_a_row_that_is_no_usable_pair_is_refused(run: Run) -> None:
    data = prepare(run)
    review(run, data, "labeled", *in_batch(data, 1, 1), response_a="same", response_b="same")
    with pytest.raises(ReviewError, match=r"labeled\.jsonl:1: equal_responses .* import the answers again"):
        join_reviews(run, data)


def test_the_report_shows_pairs_of_the_batch_that_was_voted_on(tmp_path: Path) -> None:
    run = Run(RunStore(tmp_path, "hand"), fake_settings(rounds={"count": 1, "pairs": BATCH}), 5)
    put_prepared(run)
    left = batch_rows(1)[5:]
    truth = [{"id": row["id"], "label": "A"} for row in left]
    joined = put(run, "reviewed-data", "reviewed-data", None, {"batch-1.jsonl": left, "truth.jsonl": truth})
    put_round(run, 1, joined, [])
    assert {pair["id"] for pair in sample_pairs(run, 1, n=BATCH)} == {row["id"] for row in left}
