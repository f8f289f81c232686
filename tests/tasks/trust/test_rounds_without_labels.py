"""A later round in which no label or no proof is kept ends self-training with the best judge so far; few labels do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data.store.artifacts import StageError
from data.store.store import RunStore
from data.world import taste
from flows.config.recipes import load_recipe, with_overrides
from flows.self_train import self_training
from tasks.generation.shards import GenerationJob
from tasks.label import label, none_kept
from tasks.model.chat import ChatEncoder
from tasks.model.engine import FakeEngine
from tasks.model.strictness import NO_THRESHOLD, Strictness
from tasks.report.self_training import write_metrics, write_report
from tasks.report.ui import outcome, progress_summary
from tasks.run.changes import announce
from tasks.run.finished import mark_finished
from tasks.run.rounds import round_table
from tasks.run.stage import Run
from tasks.trust.threshold import set_strictness
from tests.conftest import InProcess, artifact, run_with, true_judge
from tests.support.calibrating import EASY, Round, pairs_of
from tests.support.labeling import PAIRS, labels_of
from tests.support.learning import copies
from tests.support.playing import ALWAYS_A, world_engine
from tests.support.short_run import short_run

ROUNDS = {"rounds.count": 3, "rounds.pairs": 10, "training.final": None, "rounds.gate": "rollback"}


def run_in(folder: Path, encoder: ChatEncoder, undecided: int, stage: str = "votes") -> Run:
    """A run in which one round's votes are all for A, so that every pair is a tie, or in which none of its proofs is valid."""
    honest = InProcess(world_engine(encoder), encoder)
    useless = InProcess(FakeEngine(lambda request, j: ALWAYS_A if stage == "votes" else "I cannot say."), encoder)

    def generate(job: GenerationJob, *rest: Any) -> Any:
        return (useless if f"round-{undecided}--{stage}" in job.out else honest)(job, *rest)

    config = with_overrides(load_recipe("demo").model_dump(), {**short_run(folder / "world"), **ROUNDS})
    return Run(RunStore(folder / "runs", "run"), config, 0, generator=generate, trainer=copies)


def test_the_best_judge_so_far_is_exported_and_the_reason_is_said(tmp_path: Path, encoder: ChatEncoder) -> None:
    run = run_in(tmp_path, encoder, undecided=2)
    self_training(run)
    exported, labels = run.finished_stage("export"), run.finished_stage("label", 2)
    assert exported is not None
    assert exported.manifest.inputs.keys() == {"judge-0", "judge-1"}
    assert labels is not None
    assert labels.manifest.counts.dropped == {"tie": 10}
    assert run.finished_stage("prove", 2) is run.finished_stage("vote", 3) is None
    assert "; round 2 kept no label; judge in " in outcome(run)
    [warning] = run.warnings()
    assert warning.startswith("round-2/labels: no pseudo-label was kept: 10 pairs, 0 labels kept, dropped {'tie': 10}")
    assert warning.endswith("There are no further rounds")
    write_metrics(run, ended=True)
    page, summary = write_report(run).read_text(encoding="utf-8"), progress_summary(run, round_table(run), ended=True)
    assert "no pseudo-label was kept: 10 pairs" in page
    assert "no pseudo-label was kept: 10 pairs" in summary
    mark_finished(run)
    again = run_in(tmp_path, encoder, undecided=2)
    assert announce(again, self_training, "auto", print), "it is finished, and nothing has changed"


def test_a_later_round_that_proves_nothing_ends_it_too(tmp_path: Path, encoder: ChatEncoder) -> None:
    run = run_in(tmp_path, encoder, undecided=2, stage="proofs")
    self_training(run)
    exported = run.finished_stage("export")
    assert exported is not None
    assert exported.manifest.inputs.keys() == {"judge-0", "judge-1"}
    assert run.finished_stage("train-judge", 2) is run.finished_stage("vote", 3) is None
    assert "; round 2 kept no proof; judge in " in outcome(run)
    [warning] = [line for line in run.warnings() if line.endswith("There are no further rounds")]
    assert warning.startswith("round-2/selected: no pair has a valid proof: ")
    write_metrics(run, ended=True)
    assert "no pair has a valid proof" in write_report(run).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("stage", "said"), [("votes", "no pseudo-label was kept"), ("proofs", "no pair has a valid proof")]
)
def test_in_the_first_round_it_is_an_error(tmp_path: Path, encoder: ChatEncoder, stage: str, said: str) -> None:
    run = run_in(tmp_path, encoder, 1, stage)
    with pytest.raises(StageError, match=said):
        self_training(run)
    assert run.finished_stage("export") is None


def test_a_target_that_cannot_be_shown_later_keeps_nothing(tmp_path: Path, encoder: ChatEncoder) -> None:
    made = Round(tmp_path, encoder, {EASY: 0.5}, pairs_of(150, 1, EASY), pairs_of(20, 2, EASY), votes=2)
    batch, truth = made.data.ref("batch-1.jsonl"), made.data.ref("truth.jsonl")
    strictness = set_strictness(made.run, 2, made.judge, made.data, batch)
    assert strictness is not None
    assert Strictness.load(strictness.path) == Strictness(None)
    labels = label(made.run, 2, made.judge, batch, truth, strictness)
    assert none_kept(labels)
    assert labels.manifest.counts.dropped == {NO_THRESHOLD: 20}
    metrics = next(stage for stage in made.run.finished if stage.manifest.kind == "threshold").manifest.metrics
    assert (metrics["holds"], metrics["bound"], metrics["kept_share"]) == (False, None, 0)
    assert made.run.warnings()[1].startswith("round-2/threshold: Lower labels.target_precision")


@pytest.mark.parametrize("n", [1, 7])
def test_labels_so_few_that_chance_puts_them_on_one_side_do_not_stop_it(
    tmp_path: Path, encoder: ChatEncoder, n: int
) -> None:
    few = [p for p in taste.draw_pairs(40, 2) if p.label == "A"][:n]
    labels, run = labels_of(tmp_path, encoder, true_judge(encoder), few)
    assert labels.manifest.metrics["label_balance"] == {"A": n, "B": 0}
    assert f"100% of the kept labels are on one side, over labels.max_one_sided = 80%: {n} pairs" in run.warnings()[0]


@pytest.mark.parametrize("round", [1, 2])
def test_without_any_known_truth_there_is_nothing_to_learn_from(
    tmp_path: Path, encoder: ChatEncoder, round: int
) -> None:
    sections = {"labels": {"source": "truth", "max_tokens": 64}, "data": {"unlabeled_truth": True}}
    run = run_with(tmp_path, encoder, lambda request, j: "", **sections)
    files = {f"batch-{round}.jsonl": [p.pair.to_json() for p in PAIRS], "truth.jsonl": []}
    data, judge = artifact(run, "data", files), artifact(run, "judge", {"checkpoint/weights.jsonl": []})
    asked = (run, round, judge, data.ref(f"batch-{round}.jsonl"), data.ref("truth.jsonl"))
    if round == 1:
        with pytest.raises(StageError, match="the true label of none of 12 pairs is known"):
            label(*asked)
        return
    assert none_kept(label(*asked))
    assert run.warnings()[0].endswith("There are no further rounds")
