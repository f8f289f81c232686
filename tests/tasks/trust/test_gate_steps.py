"""What a gate asks of the steps: training sets without a round, and which judges stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data.files import write_jsonl
from data.store.artifacts import Counts, Stage
from data.store.store import RunStore
from tasks.prepare import prepare
from tasks.run.retention import retire
from tasks.run.stage import Run
from tasks.training_set import judge_examples
from tests.support.configs import refusal, values
from tests.support.written_run import fake_settings, pair_row, put


def test_examples_say_their_round_though_an_earlier_one_was_rolled_back(tmp_path: Path) -> None:
    run = Run(RunStore(tmp_path, "run"), fake_settings(), 5)
    row = {**pair_row("p", "A"), "proofs": {"ab": {"rationale": "z"}}}
    selected = [
        put(run, f"round-{i}/selected", "select", i, {"selected.jsonl": [{**row, "id": f"p{i}"}]}) for i in (0, 2)
    ]
    made = judge_examples(run, 2, selected, None)
    assert sorted(made.manifest.inputs) == ["round-0", "round-2"]
    assert made.manifest.metrics["pseudo_labeled"] == 1


def test_a_judge_that_was_rolled_back_does_not_count_as_the_best_one(tmp_path: Path) -> None:
    """With a margin it may have the highest accuracy; the judge that labels next must stay."""
    run = Run(RunStore(tmp_path, "run"), fake_settings(retention={"judges": "last_and_best"}), 5)
    for round, accuracy in enumerate((0.7, 0.8, 0.6)):
        weights = {"checkpoint/model.safetensors": [{"round": round}], "checkpoint/config.json": [{}]}
        put(run, f"round-{round}/judge", "train-judge", round, weights)
        put(
            run,
            f"round-{round}/benchmark",
            "benchmark",
            round,
            {"games.jsonl": []},
            {"accuracy": accuracy},
            Counts(0, 0),
        )
        if round == 1:
            put(run, "round-1/gate", "gate", 1, {}, {"decision": "rolled back", "reason": "it fell"})
        retire(run, round)
    kept = [(run.store.path / f"round-{i}/judge/checkpoint/model.safetensors").exists() for i in range(3)]
    assert kept == [True, False, True]


def test_what_only_a_gate_reads_is_refused_without_one() -> None:
    said = "rounds.gate_level and rounds.gate_margin are only read by a gate: set rounds.gate"
    assert said in refusal(values(rounds={"gate_margin": 0.02}))
    assert said in refusal(values(rounds={"gate_level": 0.1}))


def test_a_gate_leaves_the_key_of_the_data_as_it_is(tmp_path: Path) -> None:
    """It may be set in a run that has begun: only what follows from its decisions is made again."""
    asked: list[Any] = []

    def stop(stage: Stage) -> None:
        asked.append(stage.config["rounds"])
        raise KeyboardInterrupt

    for kind in "rlu":
        write_jsonl(tmp_path / f"{kind}.jsonl", [pair_row("p", "A")])
    sources = {kind: [{"path": str(tmp_path / f"{kind[0]}.jsonl")}] for kind in ("rationale", "labeled", "unlabeled")}
    for gate in ({}, {"gate": "rollback", "gate_level": 0.1, "gate_margin": 0.02}):
        settings = fake_settings(data=sources, rounds={"count": 2, "pairs": 3, **gate})
        with pytest.raises(KeyboardInterrupt):
            prepare(Run(RunStore(tmp_path, "run"), settings, 5, before_making=stop))
    assert asked == [{"count": 2, "pairs": 3}] * 2
