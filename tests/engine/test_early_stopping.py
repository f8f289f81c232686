"""Early stopping: the checkpoint is the best one, and a training that was stopped ends as if it had not been."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.files import write_json, write_jsonl
from data.store.artifacts import SCRATCH
from tasks.model.chat import ChatEncoder
from tasks.settings import EarlyStopping, LoraSettings, Optimization, Role, TrainingSettings
from tasks.training.job import COMPLETE, TrainingJob
from tasks.training.progress import last_checkpoint
from tests.support.training_jobs import (
    BASE,
    Setup,
    completion_logprobs,
    example_rows,
    models_for,
    train_here,
    train_in_child,
)

pytestmark = pytest.mark.train

PROMPTS: Mapping[Role, str] = {"judge": "compact", "label-judge": "compact-label", "scalar": "compact"}
VALIDATION = example_rows(12, seed=6)
OVERFITS = {
    "max_steps": 40,
    "batch_size": 8,
    "learning_rate": 3e-3,
    "warmup_ratio": 0.0,
    "schedule": "constant_with_warmup",
}


def training_job(
    folder: Path, role: Role, every: int = 2, patience: int = 3, log_every: int = 1, **changes: Any
) -> TrainingJob:
    """A training that learns eight pairs by heart, and so gets worse on others."""
    stopping = EarlyStopping(every=every, patience=patience)
    optimization = Optimization.model_validate({**OVERFITS, "early_stopping": stopping, **changes})
    training = TrainingSettings(log_every=log_every, checkpoint_minutes=0, label_smoothing=0.1)
    job = Setup(models_for(PROMPTS[role]), optimization, training, role).job(folder, example_rows(8))
    write_jsonl(folder / "validation.jsonl", VALIDATION)
    return replace(job, validation=str(folder / "validation.jsonl"))


def logged(job: TrainingJob) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(job.out) / "steps.jsonl").read_text().splitlines()]


def evaluations(job: TrainingJob) -> dict[int, float]:
    """The validation loss by step."""
    return {entry["step"]: entry["eval_loss"] for entry in logged(job) if "eval_loss" in entry}


def loss_by_hand(job: TrainingJob) -> float:
    """The validation loss of the saved checkpoint, with transformers alone."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    checkpoint = Path(job.out) / "checkpoint"
    encoder = ChatEncoder.load(str(checkpoint))
    setup = Setup(models_for(PROMPTS[job.role]), Optimization(max_steps=1), role=job.role)
    if job.role == "scalar":
        model = AutoModelForSequenceClassification.from_pretrained(checkpoint, dtype=torch.float32)
        total = 0.0
        for one in setup.features(Path(job.out).parent / "by-hand", VALIDATION, encoder):
            with torch.no_grad():
                chosen, rejected = (
                    float(model(torch.tensor([one[f"{name}_ids"]])).logits) for name in ("chosen", "rejected")
                )
            total -= float(torch.nn.functional.logsigmoid(torch.tensor(chosen - rejected)))
        return total / len(VALIDATION)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    texts = [setup.encode(row, encoder) for row in VALIDATION]
    if job.role == "judge":
        picked = completion_logprobs(model, texts)
        return -float(sum(map(torch.sum, picked))) / sum(map(len, picked))
    total = 0.0
    for prompt, completion in texts:
        with torch.no_grad():
            logits = model(torch.tensor([prompt])).logits[0, -1, list(encoder.label_ids)]
        label = torch.tensor(encoder.label_ids.index(completion[0]))
        total += float(torch.nn.functional.cross_entropy(logits, label, label_smoothing=job.label_smoothing))
    return total / len(texts)


@pytest.mark.parametrize(
    ("role", "lora"),
    [("judge", None), ("label-judge", None), ("label-judge", LoraSettings(r=8, alpha=16)), ("scalar", None)],
)
def test_it_stops_early_and_the_best_checkpoint_is_the_result(
    tmp_path: Path, role: Role, lora: LoraSettings | None
) -> None:
    # A batch holds the whole validation part: its loss is a mean over the batch.
    job = training_job(tmp_path, role, batch_size=12, lora=lora, learning_rate=1e-2 if lora else 3e-3)
    metrics = train_here(job)["metrics"]
    losses = evaluations(job)
    best = min(losses, key=lambda step: losses[step])
    assert metrics["steps"] == max(losses) == best + 2 * 3 < 40, "three evaluations without a lower loss, and no more"
    assert (metrics["best_step"], metrics["validation_loss"]) == (best, losses[best])
    by_hand = loss_by_hand(job)
    assert by_hand == pytest.approx(losses[best], abs=2e-4)
    assert losses[max(losses)] > by_hand + 1e-3, "the last step's is another"
    assert (Path(job.out) / "validation-dropped.jsonl").read_text() == ""


def test_without_early_stopping_a_validation_part_changes_nothing(tmp_path: Path) -> None:
    job = training_job(tmp_path, "label-judge", max_steps=2, early_stopping=None)
    metrics = train_here(job)["metrics"]
    assert metrics["steps"] == 2
    assert "best_step" not in metrics
    assert evaluations(job) == {}


@pytest.mark.parametrize("stop", ["before_the_first_log", "while_it_gets_worse"])
def test_a_training_that_was_stopped_ends_as_if_it_had_not_been(
    tmp_path: Path, stop: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its folder is somewhere else afterwards, as it is on another machine.

    Where it was stopped between two logged steps, nothing of the loss since the last one is lost. Where it had got worse
    already, its patience is not begun anew.
    """
    until, every, log_every = (3, 1, 10) if stop == "before_the_first_log" else (6, 2, 1)
    ends = []
    for name in ("through", "stopped"):
        (tmp_path / name).mkdir()
        job = training_job(tmp_path / name, "label-judge", every, log_every=log_every, max_steps=16)
        if name == "stopped":
            with pytest.raises(KeyboardInterrupt):
                train_in_child(tmp_path / name, job, until_step=until)
            shutil.move(tmp_path / "stopped", tmp_path / "elsewhere")
            (tmp_path / "stopped").mkdir()
            there = tmp_path / "elsewhere"
            job = replace(
                job,
                out=str(there / "out"),
                examples=str(there / "examples.jsonl"),
                validation=str(there / "validation.jsonl"),
                training={**job.training, "checkpoint_minutes": 60},  # it is not saved again
            )
        metrics = train_here(job)["metrics"]
        own = {"train_seconds", "train_tokens_per_s", "trainer_memory_mib"}  # of an attempt
        timeless = {key: value for key, value in metrics.items() if key not in own}
        ends.append((timeless, logged(job), loss_by_hand(job)))
    assert "resuming from checkpoint-" in capsys.readouterr().out
    (through, curve, loss), (stopped, other, again) = ends
    assert stopped == pytest.approx(through, abs=1e-5)
    assert [entry["step"] for entry in other] == [entry["step"] for entry in curve]
    assert again == pytest.approx(loss, abs=1e-5)
    assert again == pytest.approx(through["validation_loss"], abs=2e-4)


def test_a_checkpoint_that_is_due_at_an_evaluation_is_written_one_step_later(tmp_path: Path) -> None:
    """Although every logged step is an evaluation, after which the trainer saves nothing but a new best."""
    job = training_job(tmp_path, "label-judge", every=2, patience=20, log_every=4, max_steps=20, learning_rate=3e-2)
    with pytest.raises(KeyboardInterrupt):
        train_in_child(tmp_path, job, until_step=19)
    kept = last_checkpoint(tmp_path / "out" / SCRATCH / "trainer")
    assert kept is not None
    assert kept.name == "checkpoint-17"
    best = json.loads((kept / "trainer_state.json").read_text())["best_global_step"]
    assert 0 < best < 16, "the loss had been rising for a while"
    assert train_here(job)["metrics"]["steps"] == 20


def test_a_best_checkpoint_that_is_not_whole_is_not_taken(tmp_path: Path) -> None:
    """It was cut short as it was written; the training goes on from the one before, and finds it again."""
    job = training_job(tmp_path, "label-judge", 1, max_steps=8)
    with pytest.raises(KeyboardInterrupt):
        train_in_child(tmp_path, job, until_step=4)
    kept = sorted((tmp_path / "out" / SCRATCH / "trainer").glob("checkpoint-*"))
    marker = json.loads((kept[-1] / COMPLETE).read_text())
    write_json(kept[-1] / COMPLETE, {**marker, "files": {**marker["files"], "model.safetensors": 1}})
    metrics = train_here(job)["metrics"]
    losses = evaluations(job)
    assert metrics["validation_loss"] == min(losses.values())
    assert loss_by_hand(job) == pytest.approx(metrics["validation_loss"], abs=2e-4)


def test_the_bases_own_loss_is_above_that_of_the_best(tmp_path: Path) -> None:
    """The checkpoint that is written is a trained one."""
    job = training_job(tmp_path, "label-judge", max_steps=4)
    metrics = train_here(job)["metrics"]
    shutil.rmtree(Path(job.out) / "checkpoint")
    shutil.copytree(BASE, Path(job.out) / "checkpoint")
    assert loss_by_hand(job) > metrics["validation_loss"] + 0.01
