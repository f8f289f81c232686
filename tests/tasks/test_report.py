"""The report on a run whose rows are written by hand: three rounds' worth of files, no model and no server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data.store.artifacts import Counts
from data.store.store import RunStore
from tasks.export import card_facts
from tasks.page import charts
from tasks.report.dropped import losses
from tasks.report.self_training import metrics_lines, write_metrics, write_report
from tasks.report.ui import rounds_as_columns
from tasks.run.checked import learned
from tasks.run.rounds import best_round, round_table
from tasks.run.stage import Run
from tests.support.written_run import BATCH, fake_run, fake_settings, put

# ---- numbers ----------------------------------------------------------------------------------------------------------


def test_round_table_has_a_row_for_each_round_and_the_final_fine_tuning(reported: Run) -> None:
    assert [(row["round"], row["name"]) for row in round_table(reported)] == [
        (0, "0"),
        (1, "1"),
        (2, "2"),
        (3, "final"),
    ]


def test_round_table_numbers(reported: Run) -> None:
    row = round_table(reported)[1]
    assert row["accuracy"] == 0.7
    assert row["interval"] == pytest.approx([0.575, 0.825])
    assert (row["labels_kept"], row["labels_of"]) == (20, 24)
    assert row["labels_dropped"] == {"prompt_too_long": 1, "engine_abort": 1, "tie": 1, "low_confidence": 1}
    assert row["label_balance"] == {"A": 11, "B": 9}
    assert row["malformed_share"] == pytest.approx(2 / 88)
    assert row["kept_right"] == pytest.approx(19 / 20)
    assert row["all_right"] == pytest.approx(20 / 21)
    assert (row["proofs_valid"], row["proof_candidates"]) == (78, 80)
    assert row["proofs_rejected"] == {"concludes_for_other": 2}
    assert row["pairs_dropped"] == {"no_valid_proof_in_one_order": 1}
    assert (row["labeled"], row["pseudo_labeled"], row["repeated"]) == (12, 38, 0)
    assert (row["human"], row["pseudo_by_round"]) == (None, {"1": 38})
    assert (row["examples"], row["first_loss"], row["last_loss"]) == (50, 2.5, 1.5)
    assert row["tokens_per_s"] == 500.0


def test_the_final_fine_tuning_counts_the_human_examples(reported: Run) -> None:
    row = round_table(reported)[3]
    assert (row["examples"], row["labels_of"], row["proofs_valid"], row["last_loss"]) == (1, None, None, 3.5)


def test_examples_that_a_training_dropped_are_not_learned_from(tmp_path: Path) -> None:
    run = Run(RunStore(tmp_path, "short"), fake_settings(), 0)
    sizes = {"labeled": 20, "pseudo_labeled": 0, "repeated": 0}
    made = put(
        run, "round-0/training-set", "training-set", 0, {"examples.jsonl": [{"id": i} for i in range(20)]}, sizes
    )
    counts = Counts(20, 7, {"too_long": 12, "refused_by_template": 1})
    inputs = {"examples": made.ref("examples.jsonl")}
    judge = put(run, "round-0/judge", "train-judge", 0, {}, {"first_loss": 2.5, "last_loss": 0.5}, counts, inputs)
    put(run, "prover", "train-prover", None, {}, counts=Counts(9, 8, {"too_long": 1}))
    put(run, "pretrained", "pretrain", None, {}, counts=Counts(5, 4, {"too_long": 1}))
    games = put(run, "round-0/benchmark", "benchmark", 0, {}, {"accuracy": 0.6}, Counts(50, 50))

    [row] = round_table(run)
    assert (row["examples"], row["examples_of"], row["labeled"]) == (7, 20, 20)
    assert learned([row], 0) == "20 of labeled pairs, 0 of pseudo-labeled pairs; the training kept 7 of these"
    page = write_report(run).read_text(encoding="utf-8")
    assert "Nothing was dropped." not in page
    assert page.count('>7<br><span class="soft">of 20</span><') == 2
    assert [(loss.title, loss.of, dict(loss.reasons)) for loss in losses(run)] == [
        ("Pre-training: examples", 5, {"too_long": 1}),
        ("Training the prover: examples", 9, {"too_long": 1}),
        ("Training judges: examples", 20, {"too_long": 12, "refused_by_template": 1}),
    ]
    rows = {row["figure"]: row["round 0"] for row in rounds_as_columns([row])[0]}
    assert (rows["training examples"], rows["examples dropped"]) == ("7", "13")
    assert card_facts(run, [(0, judge, games)], (0, judge, games), {})["rounds"][0]["examples_of"] == 20


def test_the_best_round_is_the_earliest_of_equals(reported: Run) -> None:
    best = best_round(round_table(reported))
    assert best is not None
    assert best["round"] == 1


def test_what_became_of_a_rounds_pairs_adds_up_to_the_batch(reported: Run) -> None:
    for row in round_table(reported)[1:3]:
        assert sum(charts.pair_fates(row).values()) == BATCH


# ---- metrics.jsonl ----------------------------------------------------------------------------------------------------


def test_metrics_have_one_line_a_stage_after_resuming(tmp_path: Path) -> None:
    first, _ = fake_run(tmp_path)
    before = [json.loads(line) for line in write_metrics(first).read_text().splitlines()]
    again, _ = fake_run(tmp_path)
    after = [json.loads(line) for line in write_metrics(again).read_text().splitlines()]
    assert len({line["name"] for line in after}) == len(after) == len(first.finished)
    assert not any(line["reused"] for line in before)
    assert all(line["reused"] for line in after)
    assert [{**line, "reused": True} for line in before] == after


def test_a_metrics_line_holds_counts_and_metrics_side_by_side(reported: Run) -> None:
    lines = {line["name"]: line for line in metrics_lines(reported)}
    assert lines["round-1/benchmark"]["accuracy"] == 0.7
    label = lines["round-1/labels"]
    assert (label["run"], label["stage"], label["round"]) == ("hand", "label", 1)
    assert (label["rows_in"], label["kept"], label["failed"]) == (24, 20, {"engine_abort": 1})
    assert label["votes"] == 88


def test_the_votes_cast_are_in_the_table_of_rounds(reported: Run) -> None:
    row = next(row for row in round_table(reported) if row["round"] == 1)
    assert (row["votes_cast"], row["pairs_by_votes"]) == (1.0, {"4": 22})


def test_a_stage_passed_twice_has_one_line(reported: Run) -> None:
    twice = Run(reported.store, reported.settings, reported.seed, finished=[*reported.finished, reported.finished[0]])
    assert len(metrics_lines(twice)) == len(reported.finished)
