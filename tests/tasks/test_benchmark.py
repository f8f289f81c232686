"""A judge plays a benchmark: what it is asked, which games are stored, and what a stage of it says."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from data.benchmarks.items import Item
from data.files import read_jsonl
from data.records import flip
from data.store.artifacts import Artifact
from data.world import taste
from flows.self_train import measure
from tasks.benchmark.play import benchmark, game_requests
from tasks.benchmark.sets import prepare_heldout, prepare_set, read_set
from tasks.model.chat import ChatEncoder
from tasks.model.engine import FakeEngine, Request
from tasks.model.judging import Asking, answer, softmax_first
from tasks.report.benchmarks import benchmark_charts, benchmark_table, summary_markdown
from tasks.run.stage import Run
from tasks.settings import BenchmarkSet, BenchmarkSettings
from tests.conftest import FlakyEngine, Reply, artifact, run_with, shown_pair, true_judge
from tests.support.recording import RecordedRun
from tests.support.scoring_rows import Row, ppe_row, rm_bench_row, write_rows

PAIRS = taste.draw_pairs(6, 3)
ALWAYS_A = "<think> So A is better. </think><answer>A</answer>"


def judge_of(run: Run) -> Artifact:
    return artifact(run, "judge", {"checkpoint/weights.jsonl": []})


def heldout_of(run: Run) -> Artifact:
    return prepare_heldout(run, artifact(run, "data", {"heldout.jsonl": [pair.to_json() for pair in PAIRS]}))


def play(tmp_path: Path, encoder: ChatEncoder, reply: Reply, **sections: object) -> tuple[Any, list[Row]]:
    run = run_with(tmp_path, encoder, reply, **sections)
    made = benchmark(run, 0, judge_of(run), heldout_of(run))
    return made.manifest.metrics, list(read_jsonl(made.file("games.jsonl")))


def test_a_judge_that_is_right_in_both_orders_has_accuracy_one(tmp_path: Path, encoder: ChatEncoder) -> None:
    metrics, games = play(tmp_path, encoder, true_judge(encoder))
    assert (metrics["accuracy"], metrics["games"], metrics["position_consistency"]) == (1.0, 12, 1.0)
    assert metrics["interval"] == [1.0, 1.0]
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
    said = answer(Asking("compact", 64, 256), cut)
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


def requests_of(item: Item, encoder: ChatEncoder, **asking: Any) -> Sequence[Request]:
    made = game_requests(
        item.to_json(), Asking(**{"prompt": "compact", "max_tokens": 64, "context": 256, **asking}).to_json(), encoder
    )
    assert isinstance(made, list)
    return made


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
    said = answer(Asking("gram", 1, 99), {"text": "A", "finished": True, "n_tokens": 1, "id_logprobs": logprobs})
    assert (said.verdict, said.malformed) == (verdict, malformed)


# ---- sets ----------------------------------------------------------------------------------------------------------------


def test_a_set_is_read_once_and_kept_in_the_run(tmp_path: Path, encoder: ChatEncoder) -> None:
    path = write_rows(tmp_path / "chat_filtered.json", [rm_bench_row(8), rm_bench_row(9)])
    run = run_with(tmp_path, encoder, lambda request, j: ALWAYS_A)
    chosen = BenchmarkSet(benchmark="rm-bench", data=path)
    made = prepare_set(run, chosen)
    assert made.manifest.name == "benchmarks/rm-bench"
    assert (made.manifest.counts.rows_in, made.manifest.counts.kept) == (2, 2)
    assert prepare_set(run, chosen).reused
    [first, _] = read_set(made).items
    assert (first.id, len(first.cells), read_set(made).orders) == ("chat/8", 9, ("chosen_first", "rejected_first"))
    write_rows(tmp_path / "chat_filtered.json", [rm_bench_row(8)])
    assert not prepare_set(run, chosen).reused  # the file has changed


def test_every_cell_is_played_in_both_orders_and_scored(tmp_path: Path, encoder: ChatEncoder) -> None:
    path = write_rows(tmp_path / "chat_filtered.json", [rm_bench_row(8), rm_bench_row(9)])
    run = run_with(
        tmp_path,
        encoder,
        lambda request, j: ALWAYS_A,
        models={"judge_base": "none", "prover_base": "none", "judge_prompt": "compact", "max_tokens": 900},
    )
    made = benchmark(run, 2, judge_of(run), prepare_set(run, BenchmarkSet(benchmark="rm-bench", data=path)))
    assert (made.manifest.name, made.manifest.kind) == ("round-2/benchmark-rm-bench", "benchmark-rm-bench")
    games = list(read_jsonl(made.file("games.jsonl")))
    assert len(games) == len({(g["id"], g["cell"], g["order"]) for g in games}) == 2 * 9 * 2
    scores = json.loads(made.file("scores.json").read_text())
    assert scores["domains"]["chat"]["score"] == 0.0
    assert made.manifest.metrics["accuracy"] is None  # three domains are missing
    assert made.manifest.metrics["missing"] == ["math", "code", "safety"]


def test_requests_that_share_a_first_response_follow_one_another(tmp_path: Path, encoder: ChatEncoder) -> None:
    path = write_rows(tmp_path / "chat_filtered.json", [rm_bench_row(8)])
    run = run_with(tmp_path, encoder, lambda request, j: ALWAYS_A)
    [item] = read_set(prepare_set(run, BenchmarkSet(benchmark="rm-bench", data=path))).items
    shown_first = [
        item.pair(cell, int(request.name[-1])).response_a
        for request in requests_of(item, encoder, context=900)
        for cell in item.cells
        if request.name.startswith(f"{cell.name}/")
    ]
    assert len(shown_first) == 18
    assert sum(a != b for a, b in itertools.pairwise(shown_first)) == 5  # six responses, each in one go


def test_a_knockout_is_played_level_by_level(tmp_path: Path, encoder: ChatEncoder) -> None:
    """Four candidates of which the judge likes the last: three matches in two levels, found again on the next start."""
    path = write_rows(tmp_path / "set.jsonl", [ppe_row("1", [False, False, True, False]), ppe_row("2", [True] * 4)])

    def reply(request: Request, j: int) -> str:
        a, b = (encoder.tokenizer.decode(list(request.prompt_ids)).split(f"\n{n}: ")[1].split("\n")[0] for n in "AB")
        return f"<think> x </think><answer>{'A' if a > b else 'B'}</answer>"

    run = RecordedRun.of(run_with(tmp_path, encoder, reply), tmp_path)
    played = prepare_set(run, BenchmarkSet(benchmark="ppe", data=path))
    made = benchmark(run, 0, judge_of(run), played)
    cells = [(g["id"], g["cell"]) for g in read_jsonl(made.file("games.jsonl")) if g["order"] == "AB"]
    assert sorted(cells) == [(f"set/{i}", cell) for i in "12" for cell in ("0-1", "1-3", "2-3")]
    assert made.manifest.metrics["accuracy"] == 0.5
    assert json.loads(made.file("scores.json").read_text())["sets"]["set"]["curve"] == {"1": 0.5, "2": 0.5, "4": 0.5}
    names = [a.manifest.name for a in run.passed_stages() if a.manifest.round == 0]
    assert names == [
        f"round-0/benchmark-ppe{part}" for part in ("-matches-1", "-games-1", "-matches-2", "-games-2", "")
    ]
    assert run.forgotten == {}, "a stage reads what is not in its key"
    assert benchmark(run, 0, judge_of(run), played).reused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"votes": 4}, "4 votes at temperature 0 are the same vote 4 times"),
        ({"sets": [{"benchmark": "llmbar", "data": "x"}] * 2}, "two sets are called llmbar"),
        ({"sets": [{"benchmark": "preferences", "data": "x", "name": "held-out"}]}, "two sets are called held-out"),
        ({"sets": [{"benchmark": "preferences", "data": "x", "name": "../up"}]}, "should match pattern"),
    ],
)
def test_settings_that_cannot_be_played_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        BenchmarkSettings.model_validate(settings)


def test_the_two_splits_of_judgebench_have_names_of_their_own() -> None:
    sets = [{"benchmark": "judgebench", "data": "x", "split": split} for split in ("gpt", "claude")]
    labels = [one.label for one in BenchmarkSettings.model_validate({"sets": sets}).sets]
    assert labels == ["judgebench", "judgebench-claude"]


# ---- what is shown -------------------------------------------------------------------------------------------------------


def test_after_each_round_every_set_is_played_and_shown(tmp_path: Path, encoder: ChatEncoder) -> None:
    """Two rounds: the judge of the first always says A, that of the second is right."""
    right, replies = true_judge(encoder), {0: lambda request, j: ALWAYS_A}
    run = run_with(tmp_path, encoder, lambda request, j: replies.get(len(judged), right)(request, j))
    heldout = heldout_of(run)
    path = write_rows(tmp_path / "own.jsonl", [pair.to_json() for pair in PAIRS[:4]])
    sets = [prepare_set(run, BenchmarkSet(benchmark="preferences", data=path, name="own"))]
    judged: list[Artifact] = []
    for round in (0, 1):
        judge = artifact(run, f"judge-{round}", {"checkpoint/weights.jsonl": [{"round": round}]})
        measured = measure(run, round, judge, heldout, sets)
        assert measured.manifest.name == f"round-{round}/benchmark"
        judged.append(judge)
    table = benchmark_table(run)
    assert [(row["set"], row["round"], row["score"], row["games"]) for row in table] == [
        ("held-out", "0", "50.0%", "12"), ("own", "0", "50.0%", "8"),
        ("held-out", "1", "100.0%", "12"), ("own", "1", "100.0%", "8"),
    ]  # fmt: skip
    assert table[1]["first shown, where not"] == "100.0%"
    assert table[3]["games file"].endswith("round-1/benchmark-own/games.jsonl")
    [(title, svg)] = benchmark_charts(run)
    assert title == "Benchmarks after each round"
    assert ">100.0<" in svg
    markdown = summary_markdown(run, "run")
    assert "| total | 100.0% | 100.0% – 100.0% |" in markdown
    assert "What costs nothing: always a 50.0%" in markdown


def test_parts_are_shown_where_there_is_no_total(tmp_path: Path, encoder: ChatEncoder) -> None:
    path = write_rows(tmp_path / "chat_filtered.json", [rm_bench_row(8)])
    models = {"judge_base": "none", "prover_base": "none", "judge_prompt": "compact", "max_tokens": 900}
    run = run_with(tmp_path, encoder, lambda request, j: ALWAYS_A, models=models)
    benchmark(run, 0, judge_of(run), prepare_set(run, BenchmarkSet(benchmark="rm-bench", data=path)))
    [row] = benchmark_table(run)
    assert (row["score"], row["parts"], row["missing"]) == ("–", "chat 0.0%", "math, code, safety")
    [(_, svg)] = benchmark_charts(run)
    assert "rm-bench chat" in svg
