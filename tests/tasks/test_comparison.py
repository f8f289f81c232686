"""The comparison of several methods: its table, its page, and all of it once, small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data.files import write_jsonl
from data.store.store import RunStore
from data.world import taste
from flows.baselines import compare_seeds, keeps_its_seeds, side_by_side
from flows.config.parameters import BaselinesConfig
from flows.config.recipes import ConfigError, load_recipe_of, with_overrides
from tasks.baselines import Method
from tasks.benchmark.play import benchmark
from tasks.model.chat import ChatEncoder
from tasks.report.baselines import TITLES, mean_sd, summary, write_comparison
from tasks.report.benchmarks import played_sets
from tasks.report.self_training import metrics_lines
from tasks.run.changes import announce
from tasks.run.stage import Run
from tests.conftest import InProcess, rows_of, run_with, true_judge
from tests.support.comparing import row
from tests.support.playing import heldout_of, judge_of, world_engine
from tests.support.recording import RecordedRun
from tests.support.short_run import short_baselines
from tests.support.training_jobs import trainer

METHODS = ["discriminative", "label-only", "gram", "rationale", "self-trained"]


# ---- the comparison -----------------------------------------------------------------------------------------------------


FOUND = {
    0: [row("gram", 0.70), row("rationale", 0.80, tokens_trained=3000, tokens_generated=500, tokens_a_judgment=30.5)],
    1: [row("gram", 0.75, sets={"own": 0.6, "part": 0.9}), row("rationale", 0.80, tokens_trained=5000, seconds=300.0)],
    2: [row("gram", 0.80, sets={"own": 0.7, "part": 0.9}), row("rationale", 0.95, tokens_trained=4000, seconds=240.0)],
}


def test_means_and_standard_deviations_by_hand() -> None:
    """70, 75, 80: mean 75, sd √(50 ÷ 2) = 5. 80, 80, 95: mean 85, sd √(150 ÷ 2) = 8.66."""
    methods, sets = summary("sides", FOUND).tables
    gram, rationale = methods.rows
    assert (gram["method"], gram["accuracy (%)"]) == (TITLES["gram"], "75.0 ± 5.0")
    assert (rationale["method"], rationale["accuracy (%)"]) == (TITLES["rationale"], "85.0 ± 8.7")
    assert "95% interval" not in gram
    assert (rationale["tokens trained"], rationale["tokens generated"], rationale["time"]) == (
        "4,000",
        "167",
        "3.3 min",
    )
    assert rationale["tokens / judgment"] == "10.8"  # (30.5 + 1 + 1) ÷ 3
    assert gram["points / M tokens"] == "25,000.0"  # 20, 25 and 30 points for 1,000 tokens each
    assert gram["points / hour"] == "1,500"
    assert [(one["set"], one[TITLES["gram"]]) for one in sets.rows] == [("own", "60.0 ± 10.0"), ("part", "–")]
    assert methods.notes[-1] == "Mean ± standard deviation over the seeds 0, 1, 2."


def test_one_seed_has_an_interval_and_no_deviation() -> None:
    methods, sets = summary("sides", {7: FOUND[1]}).tables
    assert methods.rows[0]["accuracy (%)"] == "75.0"
    assert methods.rows[0]["95% interval"] == "70.0% – 80.0%"
    assert methods.notes[-1] == "One seed: 7."
    assert [(one["set"], one[TITLES["gram"]]) for one in sets.rows] == [("own", "60.0"), ("part", "90.0")]
    assert mean_sd([1.25]) == "1.2"


def test_the_score_of_a_drawn_set_has_its_interval() -> None:
    drawn = row("gram", 0.7, sets={"own (4 of 6)": 0.5, "whole": 0.6}, drawn={"own (4 of 6)": [0.25, 0.75]})
    [_, sets] = summary("sides", {0: [drawn]}).tables
    gram = TITLES["gram"]
    assert sets.rows == [{"set": "own (4 of 6)", gram: "50.0 (25.0 – 75.0)"}, {"set": "whole", gram: "60.0"}]


@pytest.mark.parametrize("pretrained", [False, True])
def test_the_methods_of_the_table_are_explained_as_they_were_trained(pretrained: bool) -> None:
    [methods, _] = summary("sides", {0: [row("gram", 0.7, pretrained=pretrained), row("rationale", 0.8)]}).tables
    how = "pre-trained on both responses of the unlabeled pairs, then trained" if pretrained else "trained"
    assert methods.notes[0] == (
        f"GRAM: {how} with label smoothing over the two labels. With rationales: the first judge, trained on the prover's proofs."
    )


def test_without_other_sets_there_is_one_table() -> None:
    assert len(summary("sides", {0: [row("gram", 0.7, sets={}, interval=None)]}).tables) == 1


def test_warnings_of_a_method_come_first_and_name_the_seed() -> None:
    page = summary(
        "sides", {3: [row("gram", 0.7, warnings=["gram/benchmark: over half of <b>"])], 4: [row("gram", 0.8)]}
    )
    assert page.warnings == ["seed 3, gram/benchmark: over half of <b>"]
    both = [row(method, 0.7, warnings=["prover: over half"]) for method in ("rationale", "self-trained")]
    assert summary("sides", {3: both}).warnings == ["seed 3, prover: over half"], "of a stage that both have"
    assert page.markdown().split("\n\n")[2:4] == ["**Warning**", "    seed 3, gram/benchmark: over half of <b>"]


def test_the_comparison_is_written_in_three_ways(tmp_path: Path) -> None:
    page = Path(write_comparison(str(tmp_path), "sides", FOUND))
    assert page == tmp_path / "sides" / "comparison.html"
    assert json.loads(page.with_suffix(".json").read_text()) == {str(seed): rows for seed, rows in FOUND.items()}
    text = page.with_suffix(".md").read_text()
    assert f"| {TITLES['gram']} | 75.0 ± 5.0 |" in text
    assert "<svg" in page.read_text()
    assert "75.0 ± 5.0" in page.read_text()


def test_the_page_of_a_comparison_in_a_remote_store_is_named_by_its_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by the copy on this machine."""
    monkeypatch.setenv("GRAM_R2_CACHE", str(tmp_path))
    shown = write_comparison("memory://comparisons/runs", "sides", FOUND)
    assert shown == "memory://comparisons/runs/sides/comparison.html"
    assert (RunStore("memory://comparisons/runs", "sides").path / "comparison.html").is_file()


# ---- all of it, small ---------------------------------------------------------------------------------------------------


@pytest.mark.train
def test_five_methods_side_by_side(tmp_path: Path, encoder: ChatEncoder) -> None:
    """Real trainings of a step or two, which a second call finds done; what a change would redo is said once."""
    tiny = {"max_steps": 1, "batch_size": 4}
    trainings = (
        "training.prover",
        "training.first_judge",
        "training.judge",
        "baselines.discriminative",
        "baselines.gram",
    )
    write_jsonl(tmp_path / "own.jsonl", [pair.to_json() for pair in taste.draw_pairs(3, 43)])
    overrides = {
        **short_baselines(tmp_path / "world", (5,)),
        **dict.fromkeys([*trainings, "baselines.label_only", "baselines.gram_pretraining"], tiny),
        "store": str(tmp_path),
        "benchmarks.sets": [{"benchmark": "preferences", "data": str(tmp_path / "own.jsonl"), "name": "own"}],
    }
    loaded = load_recipe_of("baselines", "world").model_dump(mode="json")
    [config] = with_overrides(loaded, overrides, BaselinesConfig).each_seed()
    engine = InProcess(world_engine(encoder), encoder)

    def started() -> tuple[RecordedRun, list[Method]]:
        store = RunStore(tmp_path, "sides")
        run = RecordedRun.of(Run(store, config, config.seed, generator=engine, trainer=trainer), tmp_path)
        methods, judges = side_by_side(run, config.baselines)
        assert [round for round, _, _ in judges] == [0, 1]
        return run, methods

    run, methods = started()
    assert run.forgotten == {}, "a stage reads what is not in its key"
    assert all(run.opened[a.manifest.name] for a in run.finished_stages()), "every stage reads something"
    rows = [method.to_json() for method in methods]
    assert [one["method"] for one in rows] == METHODS
    assert [one["method"] for one in rows if one["pretrained"]] == ["gram"]
    assert [[a.manifest.name for a in method.stages] for method in methods] == [
        ["discriminative/judge"], ["label-only/judge"], ["gram/pretrained", "gram/judge"],
        ["prover", "round-0/proofs", "round-0/judge"],
        ["prover", "round-0/proofs", "round-0/judge", "round-1/votes", "round-1/proofs", "round-1/judge"],
    ]  # fmt: skip
    stages = [a.manifest for method in methods for a in method.stages]
    assert {made.name: made.config["role"] for made in stages if "role" in made.config} == {
        "discriminative/judge": "scalar", "label-only/judge": "judge", "gram/pretrained": "pretrained",
        "gram/judge": "label-judge", "prover": "prover", "round-0/judge": "judge", "round-1/judge": "judge",
    }  # fmt: skip
    for method, one in zip(methods, rows, strict=True):
        [heldout] = [a for a in method.benchmarks if a.manifest.kind == "benchmark"]
        assert heldout.manifest.counts.rows_in == 30, f"{method.name} is measured on the held-out pairs"
        assert (one["accuracy"], one["sets"]) == (1.0, {"own": 1.0})
        assert min(one["tokens_trained"], one["seconds"], one["points_an_hour"]) > 0
        assert bool(one["tokens_generated"]) == (method.name in METHODS[3:])
    assert not any(line["reused"] for line in metrics_lines(run)), "all of it was made now"
    asked = engine.requests
    again, same = started()
    assert all(a.reused for a in again.finished)
    assert engine.requests == asked
    assert [method.to_json() for method in same] == rows
    said: list[str] = []
    changed = config.model_copy(update={"rounds": config.rounds.model_copy(update={"pairs": 35})})
    other = Run(RunStore(tmp_path, "sides"), changed, config.seed)
    announce(other, lambda run: side_by_side(run, config.baselines), "redo", said.append)
    [line] = said
    assert line.startswith("data: rounds.pairs 40 → 35, will redo: data, ")
    assert line.count(" data, ") == 1
    assert "round-1/judge" in line


def test_a_comparison_does_not_lose_seeds_unasked(tmp_path: Path) -> None:
    loaded = load_recipe_of("baselines", "world").model_dump(mode="json")
    write_comparison(str(tmp_path), "sides", FOUND)

    def start(*seeds: int, **changes: Any) -> None:
        given = {"store": str(tmp_path), "run_name": "sides", "seeds": list(seeds), **changes}
        keeps_its_seeds(with_overrides(loaded, given, BaselinesConfig))

    start(*FOUND)
    start(*FOUND, 99)
    start(0, on_change="redo")
    start(0, run_name="other")
    with pytest.raises(
        ConfigError, match=r"the comparison 'sides' has seeds that this start would leave out: 1, 2\. Name"
    ):
        start(0)


@pytest.mark.train
def test_each_seed_is_a_run_of_its_own(tmp_path: Path, encoder: ChatEncoder) -> None:
    """With data of its own; the flow's own loop, without Prefect."""
    seeds, tiny = (5, 6), {"max_steps": 1, "batch_size": 4}
    names = ("training.prover", "training.first_judge", *(f"baselines.{kind}" for kind in ("discriminative", "gram")))
    trainings = dict.fromkeys([*names, "baselines.label_only", "baselines.gram_pretraining"], tiny)
    overrides = {**short_baselines(tmp_path / "world", seeds), **trainings, "store": str(tmp_path), "rounds.count": 0}
    loaded = load_recipe_of("baselines", "world").model_dump(mode="json")
    config = with_overrides(loaded, {**overrides, "run_name": "sides"}, BaselinesConfig)
    engine = InProcess(world_engine(encoder), encoder)

    def carry(one: BaselinesConfig, settings: Any, algorithm: Any, finish: Any) -> None:
        run = Run(RunStore(one.store, one.run_name), settings, one.seed, generator=engine, trainer=trainer)
        finish(run, algorithm(run))

    found = compare_seeds(config, carry)
    assert list(found) == list(seeds)
    assert [[row["method"] for row in rows] for rows in found.values()] == [METHODS[:4]] * 2
    assert not any(row["pretrained"] for rows in found.values() for row in rows), (
        "without rounds there are no unlabeled pairs"
    )
    held_out = [rows_of(tmp_path / f"sides-seed-{seed}/data/heldout.jsonl") for seed in seeds]
    assert held_out[0] != held_out[1]
    assert all("<svg" in (tmp_path / f"sides-seed-{seed}/report.html").read_text() for seed in seeds)
    text = Path(write_comparison(config.store, config.run_name, found)).with_suffix(".md").read_text()
    assert sum(" ± " in line for line in text.splitlines() if line.startswith("| ")) == 4
    assert "over the seeds 5, 6." in text


def test_the_table_of_benchmarks_says_whose_games_they_are(tmp_path: Path, encoder: ChatEncoder) -> None:
    run = run_with(tmp_path, encoder, true_judge(encoder))
    heldout = heldout_of(run)
    benchmark(run, None, judge_of(run), heldout, place="discriminative")
    benchmark(run, 0, judge_of(run), heldout)
    [shown] = played_sets(run)
    assert [row.judge for row in shown.rows] == ["discriminative", "0"]
