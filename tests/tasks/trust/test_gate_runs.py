"""Whole self-trainings in which rounds are poisoned, over judges that learn without a model; honest ones are in test_paired."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from data.files import read_jsonl
from data.store.store import RunStore
from data.world.splits import SIZES, write_splits
from flows.config.recipes import load_recipe, with_overrides
from flows.self_train import self_training
from tasks.model.chat import ChatEncoder
from tasks.report.self_training import write_report
from tasks.report.ui import outcome, progress_summary, rounds_as_columns
from tasks.run.rounds import Row, round_table
from tasks.run.stage import Run
from tasks.training.job import TrainingJob
from tests.chaos.subject import manifests
from tests.support.learning import Learning, copies
from tests.support.short_run import FIXED_THRESHOLD

ROUNDS, PAIRS, HELDOUT = 3, 40, 100


def run_in(folder: Path, encoder: ChatEncoder, poisoned: Collection[int], train: Any = copies) -> Run:
    """A run of the small world, with this seed's data; the votes of the poisoned rounds are not honest."""
    world = folder / "world"
    if not world.exists():
        write_splits(world, 0, {**SIZES, "unlabeled": ROUNDS * PAIRS, "heldout": HELDOUT})
    kinds = ("rationale", "labeled", "unlabeled", "heldout")
    given = {
        **FIXED_THRESHOLD,
        **{f"data.{kind}": [{"path": f"{world}/{kind}.jsonl"}] for kind in kinds},
        "rounds": {"count": ROUNDS, "pairs": PAIRS, "gate": "rollback"},
        "labels.votes": 2,
        "labels.min_confidence": 0.5,
        "labels.orders_agree": False,
        "proofs.k": 1,
    }
    config = with_overrides(load_recipe("demo").model_dump(), given)
    return Run(RunStore(folder / "runs", "run"), config, 0, generator=Learning(encoder, 0, poisoned), trainer=train)


def table_of(run: Run) -> list[Row]:
    self_training(run)
    return round_table(run)


def origins(run: Run, round: int) -> set[int]:
    """The rounds whose pairs a round's judge was trained on."""
    made = run.finished_stage("training-set", round)
    assert made is not None
    return {row["origin"]["round"] for row in read_jsonl(made.file("examples.jsonl"))}


def test_a_poisoned_round_is_rolled_back_and_leaves_no_trace(tmp_path: Path, encoder: ChatEncoder) -> None:
    """Killed while the next judge is trained, the run finds the same decision when it is started again."""

    def killed(job: TrainingJob, *rest: object) -> None:
        if "round-2" in job.out:
            raise KeyboardInterrupt
        copies(job, *rest)

    with pytest.raises(KeyboardInterrupt):
        table_of(run_in(tmp_path, encoder, {1}, killed))
    before = manifests(tmp_path / "runs/run")
    assert "round-1/gate" in before
    run = run_in(tmp_path, encoder, {1})
    table = table_of(run)
    now = manifests(run.store.path)
    assert {name: now[name] for name in before} == before

    assert [row["gate"] for row in table] == [None, "rolled back", "passed", "passed"]
    first, poisoned, second, last = (row["accuracy"] for row in table)
    assert poisoned < first - 0.1
    assert first < second < last
    assert [origins(run, round) for round in range(4)] == [{0}, {0, 1}, {0, 2}, {0, 2, 3}]
    votes, strictness, judge = now["round-2/votes"], now["round-2/threshold"], now["round-0/judge"]
    assert votes.inputs["judge"] == judge.content, "the best judge labels the next batch"
    assert strictness.metrics["groups"][0]["threshold"] == 0.55, "more strictly: two of two votes, not one"
    assert now["final"].metrics["chosen_round"] == 3


def test_two_poisoned_rounds_end_the_run_with_its_best_judge(tmp_path: Path, encoder: ChatEncoder) -> None:
    run = run_in(tmp_path, encoder, {1, 2})
    table = table_of(run)
    assert [row["gate"] for row in table] == [None, "rolled back", "stopped"]
    assert manifests(run.store.path)["final"].metrics["chosen_round"] == 0
    assert " by the first judge; stopped by the gate of round 2; judge in " in outcome(run)
    said = table[2]["gate_reason"]
    assert said.startswith("Round 2 harms the judge")
    summary = progress_summary(run, table)
    assert f"- {said}" in summary
    assert "The export of the judge is next." in summary
    columns = {row["figure"]: row for row in rounds_as_columns(table)[0]}
    assert (columns["gate"]["round 1"], columns["gate"]["round 2"]) == ("rolled back", "stopped")
    page = write_report(run).read_text(encoding="utf-8")
    assert page.count("Round 2 harms the judge") == 2, "as a warning, and under the table"
    assert "<td>rolled back</td>" in page
