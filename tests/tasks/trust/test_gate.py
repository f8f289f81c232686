"""The gate after a round, on games written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from data.records import flip
from data.store.artifacts import Artifact, Counts, StageError
from data.store.store import RunStore
from tasks.benchmark.sets import prepare_heldout
from tasks.export import Candidate, export
from tasks.run.rounds import best_round, last_by_gate, round_table
from tasks.run.stage import Run
from tasks.trust.gate import Standing, gate
from tests.support.recording import RecordedRun
from tests.support.written_run import fake_settings, pair_row, put

N = 40
"""Held-out pairs: enough for a drop of ten pairs to show."""
RIGHT, WRONG, ONE_ORDER = "11", "00", "10"
"""Right or wrong with the chosen response first, then second; `?`: a game without a verdict; `!`: an engine failed on it."""


def started(
    folder: Path, gate: str = "rollback", prompt: str = "", count: int = 3, **rounds: Any
) -> tuple[Run, Artifact]:
    """A run with a held-out set; if `prompt` is given, all its pairs share it."""
    run = Run(RunStore(folder, "gated"), fake_settings(rounds={"count": count, "pairs": 4, "gate": gate, **rounds}), 5)
    rows = [pair_row(f"h{i}", "AB"[i % 2]) for i in range(N)]  # type: ignore[arg-type]
    if prompt:
        rows = [{**row, "prompt": prompt, "response_a": f"{row['response_a']} {row['id']}"} for row in rows]
    return run, prepare_heldout(run, put(run, "data", "data", None, {"heldout.jsonl": rows}))


def played(run: Run, round: int, results: Sequence[str]) -> Candidate:
    """A round's judge with these results on the held-out pairs."""
    games = [_game(i, order, result[order]) for i, result in enumerate(results) for order in (0, 1)]
    accuracy = sum(result.count("1") for result in results) / (2 * len(results))
    failed = sum("!" in result for result in results)
    counts = Counts(len(results), len(results) - failed, {}, {"engine_abort": failed} if failed else {})
    judge = put(run, f"round-{round}/judge", "train-judge", round, {"checkpoint/weights": [{"round": round}]})
    metrics = {"accuracy": accuracy, "games": len(games)}
    return (
        round,
        judge,
        put(run, f"round-{round}/benchmark", "benchmark", round, {"games.jsonl": games}, metrics, counts),
    )


def _game(i: int, order: int, result: str) -> dict[str, Any]:
    right = "AB"[order]
    verdict = {"1": right, "0": flip(right)}.get(result)  # type: ignore[arg-type]
    malformed = {"?": "no_answer", "!": "engine_abort"}.get(result)
    named = {"benchmark": "preferences", "id": f"h{i}", "cell": "", "order": ("chosen_first", "rejected_first")[order]}
    return {
        **named,
        "vote": 0,
        "verdict": verdict,
        "p_first": None,
        "malformed": malformed,
        "truncated": False,
        "n_tokens": 1,
    }


def results(n_right: int, other: str = WRONG, n: int = N) -> list[str]:
    return [RIGHT] * n_right + [other] * (n - n_right)


def go(run: Run, heldout: Artifact, *judges: Sequence[str]) -> tuple[list[Candidate], list[Standing]]:
    """Round by round, what the gates make of judges with these results, the first judge's first."""
    candidates = [played(run, 0, judges[0])]
    found = [Standing(candidates[0][1], ["selected-0"], candidates[0])]  # type: ignore[list-item]
    for round, one in enumerate(judges[1:], start=1):
        candidates.append(played(run, round, one))
        selected = [*found[-1].selected, f"selected-{round}"]
        found.append(gate(run, heldout, candidates[-1], selected, found[-1]))  # type: ignore[arg-type]
    return candidates, found


def decisions(run: Run) -> list[str | None]:
    return [row["gate"] for row in round_table(run)]


def metrics(run: Run, round: int = 1) -> dict[str, Any]:
    made = run.finished_stage("gate", round)
    assert made is not None
    return dict(made.manifest.metrics)


# ---- decisions --------------------------------------------------------------------------------------------------------------


def test_a_round_that_does_not_harm_is_built_on(tmp_path: Path) -> None:
    run, heldout = started(tmp_path)
    judges, found = go(run, heldout, results(30), results(36), results(35))
    assert decisions(run) == [None, "passed", "passed"]
    assert [one.judge for one in found] == [judge for _, judge, _ in judges]
    assert found[-1].selected == ["selected-0", "selected-1", "selected-2"]
    assert found[-1].best[0] == 1, "a judge that is not better does not become the best"
    assert not run.warnings()


def test_a_harmful_round_is_rolled_back_and_tried_once_more(tmp_path: Path) -> None:
    """The best judge goes on without the round's pairs, more strictly; a round that passes clears it."""
    run, heldout = started(tmp_path, count=4)
    judges, found = go(run, heldout, results(30), results(36), results(10), results(35), results(12))
    assert decisions(run) == [None, "passed", "rolled back", "passed", "rolled back"]
    after = found[2]
    assert (after.judge, after.best[0], after.stricter, after.stopped) == (judges[1][1], 1, 1, False)
    assert after.selected == ["selected-0", "selected-1"]
    assert (found[3].judge, found[3].selected) == (judges[3][1], ["selected-0", "selected-1", "selected-3"])
    assert (found[3].stricter, found[3].retried) == (1, False)
    assert metrics(run, 2)["reason"].endswith(
        "It was rolled back: round 1's judge labels the next batch, labels.min_confidence 0.75 → 0.8"
    )
    assert metrics(run, 4)["reason"].endswith("round 1's judge is the best, and there is no further round")


def test_a_second_harmful_round_in_a_row_is_the_last(tmp_path: Path) -> None:
    run, heldout = started(tmp_path)
    judges, found = go(run, heldout, results(30), results(10), results(9))
    assert decisions(run) == [None, "rolled back", "stopped"]
    assert (found[-1].stopped, found[-1].judge) == (True, judges[0][1])
    last = last_by_gate(round_table(run))
    assert last is not None
    said = last["gate_reason"]
    assert said.startswith(
        "Round 2 harms the judge: 22.5% of held-out judgments are right, 75.0% with round 0's judge (-52.5"
    )
    assert "p = 4.8e-07, level 0.0083; a drop of 37.1 points or more would show)" in said
    assert run.warnings()[-1] == f"round-2/gate: {said}"


def test_a_warning_changes_nothing(tmp_path: Path) -> None:
    run, heldout = started(tmp_path, gate="warn")
    judges, found = go(run, heldout, results(30), results(10), results(9))
    assert decisions(run) == [None, "harmful", "harmful"]
    assert (found[-1].judge, found[-1].selected) == (judges[2][1], ["selected-0", "selected-1", "selected-2"])
    assert (found[-1].best[0], found[-1].stricter, found[-1].stopped) == (0, 0, False)
    assert len(run.warnings()) == 2


def test_without_a_gate_there_is_no_stage(tmp_path: Path) -> None:
    run, heldout = started(tmp_path, gate="off")
    judges, found = go(run, heldout, results(30), results(10))
    assert found[-1].judge == judges[1][1]
    assert decisions(run) == [None, None]


def test_a_judge_that_was_rolled_back_is_not_exported(tmp_path: Path) -> None:
    """With a margin, one that is better by a little is rolled back too if so few pairs cannot show it."""
    run, heldout = started(tmp_path, gate_margin=0.01)
    judges, _ = go(run, heldout, results(30), results(31))
    assert decisions(run) == [None, "rolled back"]
    best = best_round(round_table(run))
    assert best is not None
    assert best["round"] == 0
    assert export(run, judges[:2]).manifest.metrics["chosen_round"] == 0


# ---- the test ---------------------------------------------------------------------------------------------------------------


def test_both_orders_of_a_pair_and_all_pairs_of_a_prompt_are_one_unit(tmp_path: Path) -> None:
    """Five pairs worse in both orders are five changes, p = 1/32, not ten; of one prompt they are one."""
    run, heldout = started(tmp_path / "pairs")
    go(run, heldout, results(30), results(25))
    assert (metrics(run)["units"], metrics(run)["units_worse"]) == (N, 5)
    assert metrics(run)["p_value"] == pytest.approx(1 / 32)
    run, heldout = started(tmp_path / "prompts")
    rows = [{**pair_row(f"h{i}", "A"), "prompt": f"Question {i // 5}", "response_a": f"{i}"} for i in range(N)]
    heldout = prepare_heldout(run, put(run, "data-2", "data", None, {"heldout.jsonl": rows}))
    go(run, heldout, results(30), results(25))
    assert (metrics(run)["units"], metrics(run)["units_worse"], metrics(run)["p_value"]) == (8, 1, 0.5)
    run, heldout = started(tmp_path / "one", prompt="Taste?")
    go(run, heldout, results(30), results(25))
    assert metrics(run)["units"] == N, "where all pairs share one prompt, as for the intervals"


def test_the_level_is_smaller_in_later_rounds(tmp_path: Path) -> None:
    run, heldout = started(tmp_path, gate_level=0.06)
    go(run, heldout, results(30), results(30), results(30))
    assert [metrics(run, round)["level"] for round in (1, 2)] == pytest.approx([0.02, 0.01])


def test_what_an_engine_failed_on_is_not_counted_against_a_judge(tmp_path: Path) -> None:
    """Ten failed pairs would be ten changes for the worse."""
    run, heldout = started(tmp_path)
    go(run, heldout, results(30), ["!!"] * 10 + results(20, n=30))
    assert decisions(run)[1] == "passed"
    assert metrics(run)["p_value"] == 1.0
    made = run.finished_stage("gate", 1)
    assert made is not None
    assert made.manifest.counts == Counts(N, 30, {"engine_failed": 10})
    with pytest.raises(StageError, match="no held-out pair was judged by both judges"):
        go(*started(tmp_path / "all"), results(30), ["!!"] * N)


def test_a_malformed_reply_does_count(tmp_path: Path) -> None:
    run, heldout = started(tmp_path)
    go(run, heldout, results(30), ["??"] * 10 + results(20, n=30))
    assert decisions(run)[1] == "rolled back"
    assert any("games without a verdict: 25.0%, 0.0% with the best judge so far" in line for line in run.warnings())


def test_a_margin_asks_for_proof_that_a_round_is_not_worse(tmp_path: Path) -> None:
    """Of 40 pairs the same verdicts show that a judge is not 20 points worse, but not that it is not 2 points worse."""
    run, heldout = started(tmp_path / "wide", gate_margin=0.2)
    go(run, heldout, results(30), results(30))
    assert decisions(run) == [None, "passed"]
    run, heldout = started(tmp_path / "narrow", gate_margin=0.02)
    go(run, heldout, results(30), results(30))
    assert metrics(run)["reason"].startswith("Round 1 is not shown to be less than 2 points worse: 75.0%")
    assert any("not even the same verdicts pass; it takes about 222" in line for line in run.warnings())


def test_too_few_pairs_to_show_any_harm_are_said(tmp_path: Path) -> None:
    run, _ = started(tmp_path)
    rows = [pair_row(f"h{i}", "A") for i in range(5)]
    heldout = prepare_heldout(run, put(run, "data-2", "data", None, {"heldout.jsonl": rows}))
    go(run, heldout, results(5, n=5), results(0, n=5))
    assert decisions(run) == [None, "passed"]
    assert metrics(run)["smallest_harm"] is None
    assert "no harm, however large, can be shown at level 0.017" in run.warnings()[0]


# ---- what is watched -----------------------------------------------------------------------------------------------------------


def test_what_is_watched_is_said_where_it_has_got_worse(tmp_path: Path) -> None:
    """A judge that says A in 12 pairs is as often right, but no longer consistent."""
    run, heldout = started(tmp_path)
    go(run, heldout, results(34), results(28, ONE_ORDER))
    assert decisions(run) == [None, "passed"]
    seen = metrics(run)["watched"]
    assert (seen["order consistency"]["new"], seen["order consistency"]["best"]) == (0.7, 1.0)
    assert (seen["verdicts for A"]["new"], seen["verdicts for A"]["best"]) == (0.65, 0.5)
    lines = [line.partition(":")[2].strip() for line in run.warnings()]
    assert [line.partition(":")[0] for line in lines] == ["order consistency", "verdicts for A"]


def test_the_pairs_of_a_prompt_are_one_change_of_what_is_watched(tmp_path: Path) -> None:
    """Twenty pairs of four prompts: p = 1/16, not 1/2²⁰."""
    run, _ = started(tmp_path)
    rows = [{**pair_row(f"h{i}", "A"), "prompt": f"Question {i // 5}", "response_a": f"{i}"} for i in range(N)]
    heldout = prepare_heldout(run, put(run, "data-2", "data", None, {"heldout.jsonl": rows}))
    go(run, heldout, results(N), results(20, ONE_ORDER))
    assert metrics(run)["watched"]["order consistency"]["p_value"] == pytest.approx(1 / 16)
    assert not [line for line in run.warnings() if "order consistency" in line]


def test_preference_for_length_is_held_against_the_labels_own(tmp_path: Path) -> None:
    """Half of the right responses are the shorter ones; a judge that prefers only those is as often right as another."""
    run, heldout = started(tmp_path)
    by_length = [
        RIGHT if i % 2 else WRONG for i in range(N)
    ]  # response B is the shorter one, and right in every other pair
    go(run, heldout, [RIGHT] * 10 + [WRONG] * 20 + [RIGHT] * 10, by_length)
    seen = metrics(run)["watched"]["verdicts for the longer response"]
    assert (seen["new"], seen["best"]) == (0.0, 0.5)
    assert [line for line in run.warnings() if "verdicts for the longer response: 0.0%, 50.0% with" in line]


def test_fewer_kept_labels_and_more_changed_ones_are_said(tmp_path: Path) -> None:
    run, heldout = started(tmp_path)
    for round, kept, flips in ((1, 80, 2), (2, 60, 20)):
        counts = Counts(100, kept, {"low_confidence": 100 - kept})
        again = {"voted_again": {"pairs": 50, "flips": flips}}
        put(run, f"round-{round}/labels", "label", round, {"labels.jsonl": [{"round": round}]}, again, counts)
    _, found = go(run, heldout, results(20), results(30), results(30))
    assert [one.labels for one in found] == [None, *(run.finished_stage("label", round) for round in (1, 2))]
    assert run.warnings() == [
        "round-2/gate: labels kept: 60.0%, 80.0% in the best judge's round",
        "round-2/gate: labels changed: 40.0%, 4.0% in the best judge's round",
    ]
    assert metrics(run, 1)["watched"]["labels kept"] == {"new": 0.8, "best": None, "p_value": None}


# ---- the stage ---------------------------------------------------------------------------------------------------------------


def test_the_stage_reads_its_inputs_only_and_is_found_again(tmp_path: Path) -> None:
    run, heldout = started(tmp_path)
    recorded = RecordedRun.of(run, tmp_path)
    go(recorded, heldout, results(30), results(10))
    assert recorded.opened["round-1/gate"]
    assert not recorded.forgotten
    again, heldout = started(tmp_path)
    _, found = go(again, heldout, results(30), results(10))
    made = again.finished_stage("gate", 1)
    assert made is not None
    assert made.reused
    assert found[-1].stricter == 1
