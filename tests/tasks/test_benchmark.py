"""A judge plays a benchmark: what it is asked, which games are stored, and what a stage of it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data.benchmarks.items import Item
from data.files import read_jsonl
from data.records import flip
from tasks.benchmark.play import benchmark
from tasks.model.chat import ChatEncoder
from tasks.model.engine import FakeEngine, Request
from tasks.model.judging import JudgeQuery, read_answer, softmax_first
from tests.conftest import FlakyEngine, Reply, run_with, shown_pair, true_judge
from tests.support.playing import ALWAYS_A, PAIRS, heldout_of, judge_of, requests_of
from tests.support.scoring_rows import Row


def play(tmp_path: Path, encoder: ChatEncoder, reply: Reply, **sections: object) -> tuple[Any, list[Row]]:
    run = run_with(tmp_path, encoder, reply, **sections)
    made = benchmark(run, 0, judge_of(run), heldout_of(run))
    return made.manifest.metrics, list(read_jsonl(made.file("games.jsonl")))


def test_a_judge_that_is_right_in_both_orders_has_accuracy_one(tmp_path: Path, encoder: ChatEncoder) -> None:
    metrics, games = play(tmp_path, encoder, true_judge(encoder))
    assert (metrics["accuracy"], metrics["games"], metrics["position_consistency"]) == (1.0, 12, 1.0)
    assert metrics["interval"] == [pytest.approx(0.541, abs=0.001), 1.0], "six pairs: 0.025 = 0.541⁶"
    assert [(game["id"], game["order"], game["verdict"]) for game in games[:2]] == [
        (PAIRS[0].pair.id, "chosen_first", "A"),
        (PAIRS[0].pair.id, "rejected_first", "B"),
    ]


def test_a_judge_that_always_says_a_is_right_half_the_time_and_never_consistent(
    tmp_path: Path, encoder: ChatEncoder
) -> None:
    metrics, _ = play(tmp_path, encoder, lambda request, j: ALWAYS_A)
    assert (metrics["accuracy"], metrics["position_consistency"], metrics["first_shown"]) == (0.5, 0.0, 1.0)
    assert metrics["verdicts"] == {"A": 12, "B": 0}


def test_a_malformed_reply_is_wrong_and_stays_in_the_denominator(tmp_path: Path, encoder: ChatEncoder) -> None:
    right = true_judge(encoder)

    def reply(request: Request, j: int) -> str:
        first = shown_pair(encoder, request).response_a in (PAIRS[0].pair.response_a, PAIRS[0].pair.response_b)
        return "<think> A </think><answer>A" if first else right(request, j)

    metrics, games = play(tmp_path, encoder, reply)
    assert metrics["accuracy"] == pytest.approx(10 / 12)
    assert metrics["malformed"] == {"no_answer": 2}
    assert [game["verdict"] for game in games[:2]] == [None, None]


def test_a_pair_that_does_not_fit_counts_as_two_wrong_games(tmp_path: Path, encoder: ChatEncoder) -> None:
    """24 tokens of prompt fit beside 64 of reply, 23 do not: all prompts of the world have 23."""
    models = {"judge_base": "none", "prover_base": "none", "judge_prompt": "compact", "max_tokens": 64 + 22}
    metrics, games = play(tmp_path, encoder, true_judge(encoder), models=models)
    assert (metrics["accuracy"], metrics["malformed"]) == (0.0, {"prompt_too_long": 12})
    assert len(games) == 12


def test_a_reply_that_was_cut_off_is_no_verdict_and_says_so(tmp_path: Path, encoder: ChatEncoder) -> None:
    cut = {"text": ALWAYS_A, "finished": False, "n_tokens": 64}
    said = read_answer(JudgeQuery("compact", 64, 256), cut)
    assert (said.verdict, said.malformed, said.truncated, said.n_tokens) == (None, "truncated", True, 64)


def test_a_game_that_the_engine_fails_on_has_no_verdict(tmp_path: Path, encoder: ChatEncoder) -> None:
    engine = FlakyEngine(FakeEngine(true_judge(encoder)), fails=lambda request: request.prompt_ids == failing)
    [failing] = [
        r.prompt_ids for r in requests_of(Item.from_json(items_of(tmp_path, encoder)[0]), encoder) if r.name == "/0"
    ]
    run = run_with(tmp_path, encoder, engine, name="flaky", generation={"max_failed_share": 1.0})
    made = benchmark(run, 0, judge_of(run), heldout_of(run))
    assert made.manifest.metrics["malformed"] == {"engine_abort": 1}  # the other order of the pair was answered
    assert made.manifest.counts.failed == {"engine_abort": 1}  # and the row is asked for again


def items_of(tmp_path: Path, encoder: ChatEncoder) -> list[Row]:
    return list(
        read_jsonl(heldout_of(run_with(tmp_path, encoder, true_judge(encoder), name="items")).file("items.jsonl"))
    )


# ---- votes and labels --------------------------------------------------------------------------------------------------


def test_votes_are_samples_with_seeds_of_their_own(tmp_path: Path, encoder: ChatEncoder) -> None:
    """Each vote says what its number says; three of four are for the truth."""
    right = true_judge(encoder)

    def reply(request: Request, j: int) -> str:
        text = right(request, j)
        return text if j else text.replace(f"<answer>{text[-10]}", f"<answer>{flip('A' if text[-10] == 'A' else 'B')}")

    metrics, games = play(tmp_path, encoder, reply, benchmarks={"votes": 4, "temperature": 1.0})
    assert [game["vote"] for game in games[:8]] == [0, 1, 2, 3] * 2
    assert metrics["accuracy"] == 1.0
    assert metrics["position_consistency"] == 1.0
    item = Item.from_json(items_of(tmp_path, encoder)[0])
    seeds = [r.sampling.seed for r in requests_of(item, encoder, votes=4, temperature=1.0, seed=3)]
    assert len(set(seeds)) == 2
    assert {r.sampling.n for r in requests_of(item, encoder, votes=4, temperature=1.0)} == {4}


def test_a_label_judge_is_read_from_the_probabilities_of_its_two_tokens(tmp_path: Path, encoder: ChatEncoder) -> None:
    """It is sure of A by 0.8 in one order and of B by 0.6 in the other, whatever is right; its text is never read."""

    def logprobs(request: Request) -> list[float]:
        assert request.sampling.logprob_ids == encoder.label_ids
        return [-0.2231435513, -1.6094379124]  # ln 0.8 and ln 0.2

    engine = FakeEngine(lambda request, j: "B", id_logprobs=logprobs)
    models = {"judge_base": "none", "prover_base": "none", "judge_prompt": "compact-label", "max_tokens": 256}
    run = run_with(tmp_path, encoder, engine, models=models, benchmarks={"votes": 4, "temperature": 1.0})
    made = benchmark(run, 0, judge_of(run), heldout_of(run))
    games = list(read_jsonl(made.file("games.jsonl")))
    assert len(games) == 12  # nothing is sampled: one vote
    assert {game["verdict"] for game in games} == {"A"}
    assert games[0]["p_first"] == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("a", "b", "p"), [(0.0, 0.0, 0.5), (1000.0, 0.0, 1.0), (-1000.0, 0.0, 0.0), (0.0, -1.0986123, 0.75)]
)
def test_the_softmax_over_two_labels(a: float, b: float, p: float) -> None:
    assert softmax_first(a, b) == pytest.approx(p)


@pytest.mark.parametrize(("logprobs", "verdict", "malformed"), [
    ([-1.0, -1.0], None, None), ([-1.0, -2.0], "A", None), (None, None, "no_label_probability"),
    ([float("-inf"), float("-inf")], None, "no_label_probability"), ([float("nan"), -1.0], None, "no_label_probability"),
])  # fmt: skip
def test_a_label_without_a_probability_is_no_verdict(logprobs: Any, verdict: str | None, malformed: str | None) -> None:
    said = read_answer(
        JudgeQuery("gram", 1, 99), {"text": "A", "finished": True, "n_tokens": 1, "id_logprobs": logprobs}
    )
    assert (said.verdict, said.malformed) == (verdict, malformed)
