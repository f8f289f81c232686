"""What judges said of a pair: right or wrong of what is known to be better, also in a knockout, and with each reply."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.benchmark.play import benchmark
from tasks.benchmark.sets import prepare_set
from tasks.model.chat import ChatEncoder
from tasks.settings import BenchmarkSet
from tasks.trust.judgments import is_wrong, judgments_on
from tasks.trust.stages import open_stages
from tests.conftest import run_with
from tests.support.playing import ALWAYS_A, judge_of
from tests.support.scoring_rows import ppe_human_row, ppe_row, write_rows

LONG = {"models": {"judge_base": "none", "prover_base": "none", "judge_prompt": "compact", "max_tokens": 900}}


def test_a_knockout_has_the_matches_of_all_its_levels_with_their_replies(tmp_path: Path, encoder: ChatEncoder) -> None:
    run = run_with(tmp_path, encoder, lambda request, j: ALWAYS_A, **LONG)
    rows = [ppe_row("1", [False, True, False, False]), ppe_row("2", [True, False, False, False])]
    played = prepare_set(run, BenchmarkSet(benchmark="ppe", data=write_rows(tmp_path / "set.jsonl", rows)))
    benchmark(run, 0, judge_of(run), played)
    identity = played.file("items.jsonl").read_text().split('"id": "')[1].split('"')[0]
    [found] = judgments_on(open_stages(run.store), identity)
    assert (found["stage"], found["benchmark"], found["judge"]) == ("round-0/benchmark-ppe", "ppe", "judge")
    assert len(found["games"]) >= 2 * 3, "two matches and the final, in both orders"
    assert all(game["reply"] == ALWAYS_A for game in found["games"])
    right = {(game["cell"], game["order"]): game["right"] for game in found["games"]}
    for (cell, order), is_right in right.items():
        shown = [int(place) for place in cell.split("-")]
        first = shown[0 if order == "AB" else 1]
        assert is_right == (None if 1 not in shown else first == 1)
    assert is_wrong(found)


@pytest.mark.parametrize("reply", ["Hm.", ALWAYS_A])
def test_what_has_no_verdict_or_no_better_response_is_neither_right_nor_wrong(
    tmp_path: Path, encoder: ChatEncoder, reply: str
) -> None:
    run = run_with(tmp_path, encoder, lambda request, j: reply, **LONG)
    played = prepare_set(
        run,
        BenchmarkSet(benchmark="ppe-human-preference", data=write_rows(tmp_path / "set.jsonl", [ppe_human_row("1")])),
    )
    benchmark(run, 0, judge_of(run), played)
    identity = played.file("items.jsonl").read_text().split('"id": "')[1].split('"')[0]
    [found] = judgments_on(open_stages(run.store), identity)
    assert {game["right"] for game in found["games"]} == ({None} if reply == "Hm." else {True, False})
    assert all(bool(game["malformed"]) == (reply == "Hm.") for game in found["games"])
    assert is_wrong(found) == (reply != "Hm.")
