"""Sets that a run plays: read once, played cell by cell, and shown after each round."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from data.files import read_jsonl
from data.store.artifacts import Artifact, Counts, Outcome
from flows.self_train import measure
from tasks.benchmark.play import benchmark
from tasks.benchmark.sets import prepare_set, read_set
from tasks.model.chat import ChatEncoder
from tasks.model.engine import Request
from tasks.report.benchmarks import benchmark_charts, played_sets, shown_score, summary_markdown
from tasks.run.stage import Context
from tasks.run.watch import describe
from tasks.settings import BenchmarkSet, BenchmarkSettings
from tests.conftest import artifact, run_with, true_judge
from tests.support.playing import ALWAYS_A, PAIRS, heldout_of, judge_of, requests_of
from tests.support.recording import RecordedRun
from tests.support.scoring_rows import ppe_row, reward_bench_2_row, rm_bench_row, write_rows

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
    names = [a.manifest.name for a in run.finished_stages() if a.manifest.round == 0]
    assert names == [
        f"round-0/benchmark-ppe{part}" for part in ("-matches-1", "-games-1", "-matches-2", "-games-2", "")
    ]
    assert run.forgotten == {}, "a stage reads what is not in its key"
    assert benchmark(run, 0, judge_of(run), played).reused


def one(benchmark: str = "preferences", **keys: Any) -> dict[str, Any]:
    return {"sets": [{"benchmark": benchmark, "data": "x", **keys}]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"votes": 4}, "4 votes at temperature 0 are the same vote 4 times"),
        ({"sets": [{"benchmark": "llmbar", "data": "x"}] * 2}, "two sets are called llmbar"),
        ({"sets": [{"benchmark": "preferences", "data": "x", "name": "held-out"}]}, "two sets are called held-out"),
        ({"sets": [{"benchmark": "preferences", "data": "x", "name": "../up"}]}, "should match pattern"),
        (one(format="columns"), "sets.0\n.*format 'columns' needs a column map"),
        (one(columns={"prompt": "p", "chosen": "c", "rejected": "r"}), "a column map is only for format 'columns'"),
        (one(subset="x"), "split and subset are only for data sets on the hub; name the local file itself in data"),
        (one(split="test"), "split and subset are only for data sets on the hub"),
        (one(format="gram-pre-training"), "format: 'gram-pre-training' has no labels"),
        (
            one(format="columns", columns={"prompt": "p", "response_a": "a", "response_b": "b"}),
            "columns: label, or chosen and rejected, is needed",
        ),
        (one("llmbar", format="helpsteer3"), "format, columns and subset are only for preferences, .* is llmbar"),
        (one("rm-bench", split="gpt"), "split is only for judgebench and preferences, but the benchmark is rm-bench"),
        (one("judgebench", split="test"), "split: judgebench has gpt and claude, got 'test'"),
        (one(limit=0), "sets.0.limit\n.*greater than or equal to 1"),
    ],
)
def test_settings_that_cannot_be_played_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        BenchmarkSettings.model_validate(settings)


def test_what_is_not_set_is_not_in_a_sets_key() -> None:
    """What is in the key of the stages benchmarks/NAME: those of older runs stay valid."""
    dumped = BenchmarkSet(benchmark="judgebench", data="x").model_dump(mode="json", exclude={"name"})
    assert dumped == {"benchmark": "judgebench", "data": "x", "split": None, "format": "records"}


def test_a_preference_set_may_have_a_column_map(tmp_path: Path, encoder: ChatEncoder) -> None:
    path = write_rows(tmp_path / "own.jsonl", [{"q": "Why?", "good": "because", "bad": "no"}])
    run = run_with(tmp_path, encoder, lambda request, j: ALWAYS_A)
    columns = {"prompt": "q", "chosen": "good", "rejected": "bad"}
    chosen = BenchmarkSet.model_validate(one(format="columns", columns=columns)["sets"][0] | {"data": path})
    [item] = read_set(prepare_set(run, chosen)).items
    assert item.pair(item.cells[0]).response_a == "because"


def test_a_preference_set_on_the_hub_may_have_split_and_subset() -> None:
    chosen = BenchmarkSet(benchmark="preferences", data="hub:o/n", split="test", subset="hard", format="helpsteer3")
    source = chosen.source
    assert (source.hub_name, source.split, source.subset, source.format) == ("o/n", "test", "hard", "helpsteer3")
    assert BenchmarkSet(benchmark="preferences", data="hub:o/n").source.split == "train"


def test_a_drawn_set_is_marked_wherever_its_score_is_shown(tmp_path: Path, encoder: ChatEncoder) -> None:
    path = write_rows(tmp_path / "own.jsonl", [pair.to_json() for pair in PAIRS])
    run = run_with(tmp_path, encoder, true_judge(encoder))
    played = prepare_set(run, BenchmarkSet(benchmark="preferences", data=path, name="own", limit=4, seed=1))
    assert (len(read_set(played).items), sum(read_set(played).drawn_from.values())) == (4, 6)
    assert (played.manifest.counts.rows_in, played.manifest.counts.dropped) == (6, {"over_limit": 2})
    made = benchmark(run, 0, judge_of(run), played)
    scores = json.loads(made.file("scores.json").read_text())
    assert (scores["complete"], scores["drawn"]) == (False, {"items": 4, "of": 6})
    assert scores["note"] == "estimates from 4 of 6 items, not the published metric"
    assert "accuracy 100.0% on 4 of 6 items" in describe(made)
    [shown] = played_sets(run)
    interval = [pytest.approx(0.398, abs=0.001), 1.0]
    assert (shown.name, shown.rows[0].metrics["interval"]) == ("own (4 of 6)", interval)
    assert "## own (4 of 6)\n\nNote: estimates from 4 of 6 items" in summary_markdown(run, "run")
    assert "own (4 of 6)" in benchmark_charts(run)[0][1]
    assert shown_score(made.manifest.metrics) == "100.0% (39.8% – 100.0%)"
    other = prepare_set(run, BenchmarkSet(benchmark="preferences", data=path, name="other", limit=4, seed=2))
    assert other.manifest.key != played.manifest.key


def test_the_summary_of_reward_bench_2_has_its_note(tmp_path: Path, encoder: ChatEncoder) -> None:
    path = write_rows(tmp_path / "test.jsonl", [reward_bench_2_row("1", "Math")])
    run = run_with(tmp_path, encoder, lambda request, j: ALWAYS_A)
    benchmark(run, None, judge_of(run), prepare_set(run, BenchmarkSet(benchmark="reward-bench-2", data=path)))
    markdown = summary_markdown(run, "run")
    assert "Note: a pairwise judge gives no scores" in markdown
    assert "| subsets Math | 25.0% |" in markdown


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
    of_heldout, own = played_sets(run, {1: "final"})
    assert [(row.judge, row.metrics["accuracy"], row.metrics["games"]) for row in of_heldout.rows] == [
        ("0", 0.5, 12), ("final", 1.0, 12),
    ]  # fmt: skip
    assert [(row.judge, row.metrics["accuracy"], row.metrics["games"]) for row in own.rows] == [
        ("0", 0.5, 8), ("final", 1.0, 8),
    ]  # fmt: skip
    assert own.rows[0].metrics["first_shown"] == 1.0
    assert own.games.endswith("round-1/benchmark-own/games.jsonl")
    assert own.parts == [], "the total says it all"
    [(title, svg)] = benchmark_charts(run)
    assert title == "Benchmarks after each round"
    assert ">100.0<" in svg
    markdown = summary_markdown(run, "run")
    assert "| total | 100.0% | 39.8% – 100.0% |" in markdown
    assert "Trivial baselines: always a 50.0%" in markdown


def test_parts_are_shown_where_there_is_no_total(tmp_path: Path, encoder: ChatEncoder) -> None:
    path = write_rows(tmp_path / "chat_filtered.json", [rm_bench_row(8)])
    models = {"judge_base": "none", "prover_base": "none", "judge_prompt": "compact", "max_tokens": 900}
    run = run_with(tmp_path, encoder, lambda request, j: ALWAYS_A, models=models)
    benchmark(run, 0, judge_of(run), prepare_set(run, BenchmarkSet(benchmark="rm-bench", data=path)))
    [shown] = played_sets(run)
    assert (shown.rows[0].metrics["accuracy"], shown.parts, shown.missing) == (
        None,
        ["chat"],
        ["math", "code", "safety"],
    )
    assert shown.with_parts[0].metrics["parts"] == {"chat": 0.0}
    [(_, svg)] = benchmark_charts(run)
    assert "rm-bench chat" in svg


def test_of_many_judges_the_parts_of_the_first_the_best_and_the_last_are_shown(
    tmp_path: Path, encoder: ChatEncoder
) -> None:
    run = run_with(tmp_path, encoder, true_judge(encoder))
    for i, accuracy in enumerate((0.5, 0.6, 0.9, 0.6, 0.7, 0.7, 0.7, 0.7)):
        metrics = {
            "accuracy": accuracy,
            "games": 4,
            "malformed": {},
            "missing": [],
            "parts": {"x": accuracy, "y": accuracy},
        }

        def body(context: Context, metrics: dict[str, Any] = metrics) -> Outcome:
            return Outcome(Counts(1, 1), metrics)

        run.find_or_make(f"round-{i}/benchmark-own", "benchmark-own", metrics, {}, body, i)
    [shown] = played_sets(run)
    assert [row.judge for row in shown.rows] == list("01234567")
    assert [row.judge for row in shown.with_parts] == ["0", "2", "4", "5", "6", "7"]
