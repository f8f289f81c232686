"""What Prefect's UI shows of a run whose rows are written by hand: the summary, and two tables that fit."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.store.store import RunStore
from tasks.report import ui
from tasks.report.benchmarks import benchmark_charts
from tasks.report.publish import place_of, slug
from tasks.run.rounds import round_table
from tasks.run.stage import Run
from tests.support.written_run import fake_run, put

Row = dict[str, Any]


def shown(reported: Run, n_stages: int | None = None) -> str:
    part = replace(reported, finished=reported.finished[:n_stages])
    return ui.progress_summary(part, round_table(part))


def section(markdown: str, title: str) -> str:
    return markdown.partition(f"## {title}\n\n")[2].partition("\n## ")[0].strip()


# ---- the summary ---------------------------------------------------------------------------------------------------------


def test_the_summary_of_a_run_under_way_says_how_far_it_is_and_how_to_stop_it(reported: Run) -> None:
    before = next(i for i, a in enumerate(reported.finished) if a.manifest.name == "round-2/votes")
    text = shown(reported, before)
    assert section(text, "Result so far") == (
        "The judge of round 1 is right in 70.0% of held-out judgments (95% interval 57.5% – 82.5%); the first judge in 60.0%."
    )
    following = section(text, "What to do next")
    assert following.startswith("Round 2 of 2 is next.\n\nThe run can be cancelled at any time")
    assert "run name `hand`" in following
    assert section(shown(reported), "What to do next").startswith("The export of the judge is next.")


def test_the_best_round_is_said_where_it_is_not_the_last(reported: Run) -> None:
    rows = round_table(reported)
    assert ui.result(rows[:3]) == (
        "The judge of round 2 is right in 65.0% of held-out judgments (95% interval 52.5% – 77.5%); the best one, the judge of "
        "round 1, in 70.0%; the first judge in 60.0%."
    )
    assert ui.result(rows[:1]) == (
        "The first judge is right in 60.0% of held-out judgments (95% interval 47.5% – 72.5%)."
    )
    assert ui.result([]) == ""


@pytest.mark.parametrize("n_stages", [0, 1, 4])
def test_a_run_that_has_hardly_begun_has_a_summary_too(reported: Run, n_stages: int) -> None:
    text = shown(reported, n_stages)
    assert "No judge has been measured yet." in text
    assert ("## Cost" in text) == bool(n_stages)


def test_the_cost_is_told_by_the_kind_of_work(reported: Run) -> None:
    lines = section(shown(reported), "Cost").splitlines()
    assert lines[0] == "| work | stages | time | tokens generated |"
    figures = {line.split(" | ")[0].strip("| "): line.split(" | ")[1::2] for line in lines[2:]}
    assert figures["Training the judge"] == ["4", "– |"]
    assert figures["Voting on unlabeled pairs (judge)"] == ["2", "2,000 |"]
    assert figures["Writing proofs (prover)"] == ["2", "2,000 |"]
    assert figures["All"] == [str(len(reported.finished)), "4,000 |"]


def test_the_charts_are_inside_and_there_are_no_links_to_files(reported: Run) -> None:
    text = shown(reported)
    images = re.findall(r"\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)", text)
    assert len(images) == 3
    assert all(b"<svg" in base64.b64decode(image) for image in images)
    assert "file://" not in text
    assert f"- Run folder: `{reported.store.path}`" in text


def ended(folder: Path, accuracy: float, chosen: int) -> Run:
    """A run that has exported the judge of a round."""
    run, _ = fake_run(folder)
    put(run, "final", "export", None, {"model.jsonl": []}, {"accuracy": accuracy, "chosen_round": chosen})
    return run


def test_a_run_that_has_ended_says_what_can_be_done_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = ended(tmp_path / "runs", 0.7, 1)
    (run.store.path / "report.html").write_text("")
    text = ui.progress_summary(run, round_table(run), ended=True)
    assert "--judge runs/hand/final`" in section(text, "What to do next")
    assert "`gram-r2 open runs/hand`" in text
    assert "`gram-r2 push runs/hand hub:OWNER/NAME`" in text
    assert "- Judge: `runs/hand/final`" in section(text, "Where it is")
    assert ui.outcome(run) == "70.0% after round 1 of 2; judge in runs/hand/final"
    spaced = ended(tmp_path / "my runs", 0.7, 1)
    text = section(ui.progress_summary(spaced, round_table(spaced), ended=True), "What to do next")
    assert "--judge 'my runs/hand/final'`" in text
    assert "`gram-r2 push 'my runs/hand' hub:OWNER/NAME`" in text


@pytest.mark.parametrize(
    ("chosen", "said"),
    [(0, "by the first judge"), (2, "after 2 rounds"), (3, "after the final fine-tuning")],
)
def test_a_flow_runs_state_says_the_result(tmp_path: Path, chosen: int, said: str) -> None:
    assert ui.outcome(ended(tmp_path, 0.65, chosen)) == f"65.0% {said}; judge in {tmp_path}/hand/final"


def test_a_method_without_rounds_has_no_first_judge(tmp_path: Path) -> None:
    run, _ = fake_run(tmp_path)
    run.finished = [a for a in run.finished if not a.manifest.round]
    put(run, "final", "export", None, {"model.jsonl": []}, {"accuracy": 0.6, "chosen_round": 0})
    assert ui.outcome(run) == f"60.0% of held-out judgments are right; judge in {tmp_path}/hand/final"


def test_the_best_method_is_the_best_over_all_seeds() -> None:
    rows = [
        [{"method": "gram", "accuracy": a}, {"method": "self-trained", "accuracy": b}]
        for a, b in ((1, 0.8), (0.5, 0.9))
    ]
    assert ui.best_method(dict(enumerate(rows))) == "best is self-trained with 85.0%"


# ---- the tables -----------------------------------------------------------------------------------------------------------


def test_rounds_are_columns_and_what_none_has_is_left_out(reported: Run) -> None:
    rows, left_out = ui.rounds_as_columns(round_table(reported))
    assert (list(rows[0]), left_out) == (["figure", "round 0", "round 1", "round 2", "final"], "")
    by_name = {row["figure"]: list(row.values())[1:] for row in rows}
    assert by_name["held-out accuracy"] == ["60.0%", "70.0% (best)", "65.0%", "70.0%"]
    assert by_name["95% interval (%)"][0] == "47.5 – 72.5"
    assert (by_name["labels kept"], by_name["pairs to label"]) == (["–", "20", "20", "–"], ["–", "24", "24", "–"])
    assert by_name["kept labels that are A"] == ["–", "55.0%", "55.0%", "–"]
    assert by_name["dropped: low confidence"] == ["–", "1", "1", "–"]
    assert by_name["votes cast"] == ["–", "100.0%", "100.0%", "–"]
    assert by_name["valid proofs"] == ["–", "97.5%", "97.5%", "–"]
    assert all(any(value != "–" for value in values) for values in by_name.values())
    assert json.dumps(rows)


def test_a_large_run_has_no_cell_that_is_too_wide(reported: Run) -> None:
    """With the numbers of the paper: five columns fit the UI, see `ui.COLUMNS`."""
    one = round_table(reported)[1]
    large = {
        "labels_of": 500_000, "labels_kept": 412_345, "label_balance": {"A": 206_000, "B": 206_345}, "examples": 3_112_345,
        "examples_of": 3_312_345,
        "proof_candidates": 4_000_000, "proofs_valid": 3_900_000, "labels_dropped": {"low_confidence": 87_655},
        "seconds": 360_000.0, "tokens_per_s": 123_456.7,
    }  # fmt: skip
    rows, _ = ui.rounds_as_columns([{**one, **large}])
    assert max(len(value) for row in rows for name, value in row.items() if name != "figure") <= 12
    assert max(len(row["figure"]) for row in rows) <= 24


def test_of_many_rounds_the_first_the_best_and_the_last_are_shown(reported: Run) -> None:
    one = round_table(reported)[1]
    many = [{**one, "round": i, "name": str(i), "accuracy": 0.9 if i == 4 else 0.6} for i in range(20)]
    rows, left_out = ui.rounds_as_columns(many)
    shown = ["figure", "round 0", "round 4", "round 17", "round 18", "round 19"]
    assert (list(rows[0]), left_out) == (shown, "; 15 of 20 are only in the report")


def test_benchmarks_are_rows_of_sets_and_columns_of_judges(reported: Run) -> None:
    rows, left_out = ui.benchmarks_as_rows(reported)
    assert rows == [{"set": "held-out", "round 0": "60.0%", "round 1": "70.0%", "round 2": "65.0%", "final": "70.0%"}]
    assert left_out == ""


def test_the_final_fine_tuning_has_its_name_in_the_curves_too(tmp_path: Path) -> None:
    run, _ = fake_run(tmp_path, (0.6, 0.7))
    for round in (0, 1):
        games = {"accuracy": 0.5, "games": 8, "parts": {}, "malformed": {}, "interval": None}
        put(run, f"round-{round}/benchmark-own", "benchmark-own", round, {}, games)
    [(_, svg)] = benchmark_charts(run)
    assert ">final<" in svg


def test_judges_of_their_own_folders_are_columns_and_parts_are_rows(tmp_path: Path) -> None:
    run, _ = fake_run(tmp_path)
    run.finished.clear()
    for judge, score in (("before", None), ("size-8", 0.75)):
        games = {"accuracy": score, "games": 8, "parts": {"chat": 0.5}, "malformed": {}, "interval": None}
        put(run, f"{judge}/benchmark-own", "benchmark-own", None, {}, games)
    put(run, "benchmark-other", "benchmark-other", None, {}, {"accuracy": 0.25, "games": 8, "parts": {}})
    assert ui.benchmarks_as_rows(run)[0] == [
        {"set": "own", "before": "–", "size-8": "75.0%", "score": "–"},
        {"set": "own: chat", "before": "50.0%", "size-8": "50.0%", "score": "–"},
        {"set": "other", "before": "–", "size-8": "–", "score": "25.0%"},
    ]


# ---- where it is shown ----------------------------------------------------------------------------------------------------


def test_nothing_is_published_outside_a_flow(reported: Run) -> None:
    ui.publish_round(reported, 1)
    ui.publish_end(reported, "# text")


def test_a_runs_name_becomes_a_key_and_its_paths_what_a_command_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert slug("My.run_2") == "my-run-2"
    store = RunStore(tmp_path / "runs", "demo")
    assert place_of(store, store.path) == str(tmp_path / "runs/demo")
    monkeypatch.chdir(tmp_path)
    assert place_of(store, store.path / "final") == "runs/demo/final"


def test_of_equal_judges_the_first_one_is_named() -> None:
    table = [{"round": i, "name": str(i), "accuracy": 1.0, "interval": None} for i in range(3)]
    assert (
        ui.result(table)
        == "The judge of round 2 is right in 100.0% of held-out judgments; the first judge in as many already."
    )
