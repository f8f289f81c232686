"""The table of the controls, and what is watched beside it, from runs written by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.english import nicer
from data.files import read_jsonl, write_jsonl
from flows.config.recipes import ConfigError
from prompts.judge import COMPACT
from tasks.run.stage import Run
from tests.english import controls
from tests.english.watch import run_watched, watched
from tests.support.controls import Control, World, run_one, run_seed, table

PAIRS = nicer.draw_pairs(2, 1, nicer.all_words())


def world(store: Path) -> World:
    shown = [
        Control("self-training", "self-training"),
        Control("labeled-only", "labeled-only", {"rounds.count": 0}),
        Control("gold", "gold", {"rounds.count": 1}),
    ]
    return replace(controls.world(), store=store, shown=shown)


def measured(store: Path, run: str, accuracies: list[float]) -> None:
    (store / run).mkdir(exist_ok=True)
    lines: list[dict[str, Any]] = [{"stage": "benchmark", "accuracy": one} for one in accuracies]
    lines += [{"stage": "audit", "all_right": 0.5, "kept_right": 0.75} for _ in accuracies[1:]]
    write_jsonl(store / run / "metrics.jsonl", lines)


def test_the_table_leaves_empty_what_a_run_has_not_and_marks_what_failed(tmp_path: Path) -> None:
    for seed, more in ((0, 0.0), (1, 0.02)):
        measured(tmp_path, f"seed-{seed}--self-training", [0.7 + more, 0.8 + more, 0.9 + more, 0.92 + more])
        measured(tmp_path, f"seed-{seed}--labeled-only", [0.72])
        measured(tmp_path, f"seed-{seed}--gold", [0.7, 0.9][: 2 - seed])
    assert table(world(tmp_path), [0, 1]).splitlines() == [
        "| run | round 0 | round 1 | round 2 | round 3 |",
        "|---|---|---|---|---|",
        "| self-training | 71.0 ± 1.4 | 81.0 ± 1.4 | 91.0 ± 1.4 | 93.0 ± 1.4 |",
        "| labeled-only |  | 72.0 ± 0.0 | the same | the same |",
        "| gold | 70.0 ± 0.0 | – |  |  |",
        "| *pseudo-labels right, all* |  | 50.0 ± 0.0 | 50.0 ± 0.0 | 50.0 ± 0.0 |",
        "| *pseudo-labels right, kept* |  | 75.0 ± 0.0 | 75.0 ± 0.0 | 75.0 ± 0.0 |",
    ]


def test_what_is_watched_is_read_from_replies_as_they_were_shown(tmp_path: Path) -> None:
    """Two true replies, one for each order; one that quotes no word of the pair, and one that is malformed."""
    run = tmp_path / "seed-0--self-training"
    (run / "data").mkdir(parents=True)
    (run / "round-1/benchmark/shards-2").mkdir(parents=True)
    (run / "round-1/selected").mkdir()
    write_jsonl(run / "data/heldout.jsonl", [pair.to_json() for pair in PAIRS])
    lines = []
    for pair, how in zip(PAIRS, ("true", "false"), strict=True):
        chosen_first, rejected_first = sorted((pair, pair.swapped()), key=lambda one: one.label)
        true = nicer.rationale(chosen_first.pair), nicer.rationale(rejected_first.pair)
        texts = {
            "true": [COMPACT.target(true[0], "A"), COMPACT.target(true[1], "B")],
            "false": [COMPACT.target("« zzz » is bad, in B. So A is better.", "A"), "So B is better."],
        }[how]
        completions = [{"name": f"/{i}", "completions": [{"text": text}]} for i, text in enumerate(texts)]
        lines.append({"id": pair.pair.id, "requests": completions})
    write_jsonl(run / "round-1/benchmark/shards-2/000000.jsonl", lines)
    proof = {
        "ab": {"rationale": nicer.rationale(PAIRS[0].pair)},
        "ba": {"rationale": "« zzz » is bad, in A. So B is better."},
    }
    write_jsonl(run / "round-1/selected/selected.jsonl", [{**PAIRS[0].to_json(), "proofs": proof}])
    made = world(tmp_path)
    found = run_watched(made, made.shown[0], 0)
    assert found == pytest.approx([50, 50, 50, 200 / 3, 25, 50])
    assert "| self-training | 50.0 | 50.0 | 50.0 | 66.7 | 25.0 | 50.0 |" in watched(made, [0])
    without = {order: {"rationale": ""} for order in ("ab", "ba")}
    write_jsonl(run / "round-1/selected/selected.jsonl", [{**PAIRS[0].to_json(), "proofs": without}])
    assert "| self-training | 50.0 | 50.0 | 50.0 | 66.7 | 25.0 | none |" in watched(made, [0])


def test_a_run_that_came_to_its_end_is_told_from_one_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(run: Run) -> None:
        raise RuntimeError("the engine has died")

    made = replace(world(tmp_path), write=lambda folder, seed: None, module="tests.english.no_such_module")
    monkeypatch.setattr("tests.support.controls.check", lambda config: None)
    monkeypatch.setattr("tests.support.controls.self_training", fail)
    with pytest.raises(RuntimeError, match="has died"):
        run_one(made, made.shown[0], 0)
    assert not made.ended(made.shown[0], 0)
    monkeypatch.setattr("tests.support.controls.self_training", lambda run: None)
    measured(tmp_path, "seed-0--self-training", [0.7, 0.8, 0.9])
    run_one(made, made.shown[0], 0)
    assert made.ended(made.shown[0], 0)
    assert made.accuracies(made.shown[0], 0) == [], "what an earlier run of this name measured is gone"
    run_seed(made, 0, ["self-training"])
    assert not made.ended(made.shown[0], 0), "begun again, it failed"


def test_a_run_whose_settings_cannot_work_is_not_begun(tmp_path: Path) -> None:
    both = {"training.trainable_layers": 15, "training.judge.lora": {"r": 4, "alpha": 4}}
    made = replace(world(tmp_path), write=lambda folder, seed: None, overrides=both)
    with pytest.raises(ConfigError, match=r"training\.judge\.lora adds adapters to a frozen model"):
        run_one(made, made.shown[0], 0)


def test_every_effect_can_hold_and_fail(tmp_path: Path) -> None:
    """Seed 2 learns nothing; at the end, the filters of seed 0 keep no better labels than they drop."""
    made = replace(
        world(tmp_path),
        shown=[*world(tmp_path).shown, Control("without-proofs", "without proofs")],
    )
    for seed, last in ((0, 0.94), (1, 0.90), (2, 0.70)):
        measured(tmp_path, f"seed-{seed}--self-training", [0.70, 0.85, 0.90, last])
        measured(tmp_path, f"seed-{seed}--labeled-only", [0.80])
        measured(tmp_path, f"seed-{seed}--gold", [0.70, 0.80])
        measured(tmp_path, f"seed-{seed}--without-proofs", [0.70, 0.60, 0.60, 0.72])
    assert [holds for _, holds in controls.effects(made, [0, 1])] == [True] * 5
    said = controls.effects(made, [2])
    assert [holds for _, holds in said] == [True, False, False, False, True]
    assert said[2][0] == "self-training (round last) − labeled-only: -10.0 (≥ 6; seeds: -10.0)"
    lines = [one for one in made.metrics(made.shown[0], 0) if one["stage"] == "benchmark"]
    no_better = {"stage": "audit", "all_right": 0.75, "kept_right": 0.75}
    write_jsonl(tmp_path / "seed-0--self-training/metrics.jsonl", [*lines, no_better])
    assert [holds for _, holds in controls.effects(made, [0])] == [True, True, True, True, False]


def test_noise_turns_as_many_labels_of_a_as_of_b(tmp_path: Path) -> None:
    sizes = {"rationale": 2, "labeled": 20, "unlabeled": 2, "heldout": 2}
    for name, wrong in (("right", 0.0), ("wrong", 0.2)):
        controls.write(tmp_path / name, 3, sizes, wrong=wrong)
    right, wrong_rows = (list(read_jsonl(tmp_path / name / "labeled.jsonl")) for name in ("right", "wrong"))
    differ = [a["label"] for a, b in zip(right, wrong_rows, strict=True) if a["label"] != b["label"]]
    assert sorted(differ) == ["A", "A", "B", "B"]
    assert [row["label"] for row in wrong_rows].count("A") == 10
