"""Whether a judge has learned, and the held-out pairs that it gets wrong, on games written by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from data.files import read_jsonl, write_jsonl
from data.records import Label, flip
from data.store.artifacts import Artifact, Counts, Outcome
from data.store.store import RunStore
from tasks.benchmark.play import query_of, read_games
from tasks.benchmark.sets import ITEMS, prepare_heldout, read_set
from tasks.report.cards import Pairs
from tasks.report.heldout import wrong_pairs
from tasks.report.learned import Gain, answer, controls, gains
from tasks.report.self_training import page_content, page_of
from tasks.run.rounds import round_table
from tasks.run.stage import Context, Run
from tests.support.written_run import fake_settings, generated, pair_row, put, reply

LABELS: list[Label] = ["A", "B", "B", "A", "A", "B", "A", "B"]
RIGHT, ONE_ORDER, WRONG, NONE = (True, True), (True, False), (False, False), (None, None)
Result = tuple[bool | None, bool | None]


def run_with(folder: Path, *rounds: Sequence[Result], **sections: Any) -> Run:
    """A run whose judges got these results on each held-out pair, shown with the chosen response first, then second."""
    run = Run(RunStore(folder, "judged"), fake_settings(**sections), 5)
    rows = [pair_row(f"h{i}", label) for i, label in enumerate(LABELS)]
    data = put(run, "data", "data", None, {"heldout.jsonl": rows})
    heldout = prepare_heldout(run, data)
    for round, results in enumerate(rounds):
        play(run, round, heldout, results)
    return run


def play(run: Run, round: int, heldout: Artifact, results: Sequence[Result]) -> None:
    lines = [line_of(i, result) for i, result in enumerate(results)]
    files, metrics, counts = generated(lines)
    rows = zip(read_jsonl(heldout.file(ITEMS)), lines, strict=True)
    files["games.jsonl"] = list(read_games(query_of(run), read_set(heldout), rows))
    right = [one for result in results for one in result]
    accuracy = sum(one is True for one in right) / len(right)
    metrics |= {"accuracy": accuracy, "interval": [accuracy - 0.125, accuracy + 0.125], "games": len(right)}
    put(run, f"round-{round}/benchmark", "benchmark", round, files, metrics, counts)


def line_of(i: int, result: Result) -> dict[str, Any]:
    verdicts = [
        None if right is None else shown if right else flip(shown)
        for right, shown in zip(result, ("A", "B"), strict=True)
    ]
    requests = [
        {"name": f"/{order}", "seed": 1, "completions": [reply(verdict)]} for order, verdict in enumerate(verdicts)
    ]
    return {"row": i, "id": f"h{i}", "requests": requests}


# ---- against the first judge -----------------------------------------------------------------------------------------------


def test_the_gain_is_over_the_same_judgments(tmp_path: Path) -> None:
    """Half of 16 judgments, then all of them: +50 points; of 8 pairs, only the second judge has 6 right in both orders."""
    first = [RIGHT, RIGHT, ONE_ORDER, ONE_ORDER, ONE_ORDER, ONE_ORDER, WRONG, WRONG]
    found = gains(run_with(tmp_path, first, [RIGHT] * 8))
    assert list(found) == [1]
    assert found[1].difference == pytest.approx(0.5)
    assert 0 < found[1].interval[0] < 0.5 < found[1].interval[1] < 1
    assert found[1].p_value < 0.05


def test_equal_judges_have_no_gain_as_far_as_so_few_pairs_can_tell(tmp_path: Path) -> None:
    """0.025 = 0.6306⁸."""
    same = [RIGHT, WRONG] * 4
    assert gains(run_with(tmp_path, same, same))[1] == Gain(0.0, pytest.approx((-0.3694, 0.3694), abs=1e-4), 1.0)


def test_without_stored_games_nothing_is_said_of_a_gain(tmp_path: Path, reported: Run) -> None:
    assert gains(reported) == {}
    assert gains(run_with(tmp_path)) == {}


# ---- in words --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rounds", "begins"),
    [
        ([], "Not known yet: no judge"),
        ([[RIGHT] * 6 + [WRONG] * 2], "The judge of round 0 is right in 75.0% of held-out judgments"),
        ([[WRONG] * 8, [RIGHT] * 8], "Yes. The judge of round 1 is right in 100.0%"),
        (
            [[RIGHT] * 7 + [WRONG], [RIGHT] * 8],
            "Not certain: the difference to the first judge may be chance. The judge of",
        ),
        ([[RIGHT] * 8, [WRONG] * 8], "The held-out pairs cannot tell: the first judge is right in all of them."),
        ([[RIGHT] * 7 + [WRONG], [WRONG] * 8], "Not by self-training: no round is better than the first judge."),
    ],
)
def test_the_answer(tmp_path: Path, rounds: list[list[Result]], begins: str) -> None:
    run = run_with(tmp_path, *rounds)
    assert answer(round_table(run), gains(run)).startswith(begins)


def test_it_is_not_sure_where_only_the_interval_excludes_chance(tmp_path: Path) -> None:
    """Four pairs changed for the better and none for the worse: all draws of a bootstrap have some of them; p = 2 ÷ 2⁴."""
    run = run_with(tmp_path, [RIGHT] * 4 + [WRONG] * 4, [RIGHT] * 8)
    found = gains(run)
    assert found[1].interval[0] > 0
    assert found[1].p_value == pytest.approx(0.125)
    assert answer(round_table(run), found).startswith("Not certain: the difference to the first judge may be chance.")


def test_the_answer_names_guessing_and_the_first_judge(tmp_path: Path) -> None:
    table = round_table(run_with(tmp_path, [RIGHT, WRONG] * 4, [RIGHT] * 6 + [WRONG] * 2))
    said = answer(table, {1: Gain(0.25, (0.1, 0.4), 0.01)})
    assert said.endswith(
        "(95% interval 62.5% to 87.5%), 25.0 points more than guessing and 25.0 points more than the first judge "
        "(95% interval +10.0 to +40.0)."
    )
    assert answer(table, {}).endswith("the first judge; whether that is more than chance was not measured.")


def test_labels_alone_are_measured_by_judges_of_no_round_or_a_first_judge_without_rationales(tmp_path: Path) -> None:
    run = run_with(tmp_path / "1", [RIGHT] * 8)
    assert controls(run) == []
    metrics = {"accuracy": 0.625, "interval": None, "games": 16}
    put(run, "label-only/benchmark", "benchmark", None, {"games.jsonl": []}, metrics)
    assert [(one.name, one.accuracy) for one in controls(run)] == [("label-only", 0.625)]
    labels = run_with(tmp_path / "2", [RIGHT] * 8, proofs={"write_for": "nothing"})
    assert [(one.name, one.accuracy) for one in controls(labels)] == [("round 0", 1.0)]


# ---- wrong held-out pairs --------------------------------------------------------------------------------------------------


def test_wrong_pairs_are_shown_with_verdicts_on_the_pair_as_listed(tmp_path: Path) -> None:
    run = run_with(tmp_path, [RIGHT, ONE_ORDER, WRONG, RIGHT, RIGHT, NONE, RIGHT, RIGHT])
    pairs, n_wrong = wrong_pairs(run, 0)
    assert n_wrong == 3
    shown = {pair["id"]: [(g["order"], g["verdict"], g["right"]) for g in pair["games"]] for pair in pairs}
    assert shown == {  # of these, B is right: the chosen response is shown first in the swapped order
        "h1": [("ba", "B", True), ("ab", "A", False)],
        "h2": [("ba", "A", False), ("ab", "A", False)],
        "h5": [("ba", None, False), ("ab", None, False)],
    }
    assert {pair["truth"] for pair in pairs} == {"B"}
    assert pairs[0]["games"][0]["reply"] == reply("A")["text"]


def test_wrong_pairs_are_drawn_with_a_seed_and_kept_whole(tmp_path: Path) -> None:
    run = run_with(tmp_path, [WRONG] * 8)
    pairs, n_wrong = wrong_pairs(run, 0, n=3)
    assert (len(pairs), n_wrong) == (3, 8)
    assert wrong_pairs(run_with(tmp_path / "again", [WRONG] * 8), 0, n=3) == (pairs, 8)
    kept = run.store.path / "samples" / "held-out-0.json"
    assert json.loads(kept.read_text())["pairs"] == pairs
    assert wrong_pairs(run, 0, n=8)[0] != pairs


def test_of_several_votes_the_majority_is_wrong_or_right(tmp_path: Path) -> None:
    """In each order, of three votes: all right but one, all wrong but one, and one of each with one without a verdict."""
    run = Run(RunStore(tmp_path, "voted"), fake_settings(benchmarks={"votes": 3, "temperature": 1.0}), 5)
    rows = [pair_row(f"h{i}", "A") for i in range(3)]
    heldout = prepare_heldout(run, put(run, "data", "data", None, {"heldout.jsonl": rows}))
    results: list[list[bool | None]] = [[True, True, False], [False, True, False], [True, False, None]]
    lines = [voted(i, result) for i, result in enumerate(results)]
    files, metrics, counts = generated(lines)
    items = zip(read_jsonl(heldout.file(ITEMS)), lines, strict=True)
    files["games.jsonl"] = list(read_games(query_of(run), read_set(heldout), items))
    put(run, "round-0/benchmark", "benchmark", 0, files, metrics, counts)
    pairs, n_wrong = wrong_pairs(run, 0)
    assert (sorted(pair["id"] for pair in pairs), n_wrong) == (["h1", "h2"], 2)
    assert [len(pair["games"]) for pair in pairs] == [6, 6]


def voted(i: int, result: Sequence[bool | None]) -> dict[str, Any]:
    """The line of a pair with the same results of votes in both orders."""
    parts = [line_of(i, (right, right))["requests"] for right in result]
    requests = [
        {"name": f"/{order}", "seed": 1, "completions": [one[order]["completions"][0] for one in parts]}
        for order in (0, 1)
    ]
    return {"row": i, "id": f"h{i}", "requests": requests}


def test_pairs_that_were_wrong_only_before_a_retry_are_gone(tmp_path: Path) -> None:
    def judged(line: dict[str, Any], failed: dict[str, int]) -> Run:
        run = Run(RunStore(tmp_path, "retried"), fake_settings(), 5)
        heldout = prepare_heldout(run, put(run, "data", "data", None, {"heldout.jsonl": [pair_row("h0", "A")]}))

        def body(context: Context) -> Outcome:
            items = read_jsonl(heldout.file(ITEMS))
            games = read_games(query_of(run), read_set(heldout), zip(items, [line], strict=True))
            write_jsonl(context.work / "games.jsonl", games)
            write_jsonl(context.work / "shards-100/000000.jsonl", [line])
            return Outcome(Counts(1, 1 - len(failed), failed=failed), {"shard_rows": 100, "attempts": 1})

        run.find_or_make("round-0/benchmark", "benchmark", {}, {}, body, 0)
        return run

    before = judged({"row": 0, "id": "h0", "failed": "engine_abort"}, {"engine_abort": 1})
    assert [pair["lost"] for pair in wrong_pairs(before, 0)[0]] == ["engine_abort"]
    assert wrong_pairs(judged(line_of(0, RIGHT), {}), 0) == ([], 0)


def test_a_pair_that_the_judge_was_not_asked_about_says_why(tmp_path: Path) -> None:
    run = Run(RunStore(tmp_path, "judged"), fake_settings(), 5)
    heldout = prepare_heldout(run, put(run, "data", "data", None, {"heldout.jsonl": [pair_row("h0", "A")]}))
    lines = [{"row": 0, "id": "h0", "dropped": "prompt_too_long"}]
    files, metrics, _ = generated(lines)
    files["games.jsonl"] = list(
        read_games(query_of(run), read_set(heldout), zip(read_jsonl(heldout.file(ITEMS)), lines, strict=True))
    )
    put(run, "round-0/benchmark", "benchmark", 0, files, metrics, Counts(1, 0, {"prompt_too_long": 1}))
    [pair], _ = wrong_pairs(run, 0)
    assert (pair["games"], pair["lost"]) == ([], "prompt_too_long")


def test_the_page_says_how_a_wrong_pair_is_followed_to_what_it_was_learned_from(tmp_path: Path, reported: Run) -> None:
    pairs, n_wrong = wrong_pairs(run_with(tmp_path, [WRONG] + [RIGHT] * 7), 0)
    page = page_of(page_content(reported, {}), Pairs([], "0", [{**pairs[0], "id": "h 0"}], n_wrong), "there")
    assert "<code>gram-r2 trace hand &#39;h 0&#39; --nearest 3</code>" in page


def test_without_stored_replies_there_are_no_wrong_pairs(reported: Run) -> None:
    assert wrong_pairs(reported, 1) == ([], 0)
