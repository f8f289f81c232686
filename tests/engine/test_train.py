"""Training through TRL on a tiny model: the loss is on the right tokens, packing does not leak, seeds hold."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from data.files import write_json
from data.store.store import RunStore
from tasks.model.chat import ChatEncoder
from tasks.run.stage import Run
from tasks.settings import LoraSettings, Optimization, TrainingSettings
from tasks.train import train_judge
from tasks.training.examples import encode_example
from tasks.training.job import COMPLETE
from tasks.training.progress import last_checkpoint
from tests.conftest import ROOT, artifact, settings_with
from tests.support.training_jobs import (
    BASE,
    MODELS,
    example_rows,
    features_of,
    train_here,
    train_in_child,
    training_job,
)

pytestmark = pytest.mark.train

ONE_STEP = {"first_judge": {"max_steps": 1, "batch_size": 4}, "log_every": 1}


def loss_by_hand(rows: list[dict[str, Any]]) -> float:
    """Mean negative log-probability over the tokens of the completions, with transformers alone."""
    import torch
    from transformers import AutoModelForCausalLM

    encoder = ChatEncoder.load(str(BASE))
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    total, n_tokens = 0.0, 0
    for row in rows:
        encoded = encode_example(row, "judge", encoder, MODELS, 64)
        assert encoded is not None
        prompt, completion = encoded.prompt, encoded.completion
        with torch.no_grad():
            logprobs_TV = model(torch.tensor([prompt + completion])).logits[0].log_softmax(-1)
        picked = logprobs_TV[len(prompt) - 1 : -1].gather(-1, torch.tensor(completion)[:, None])
        total -= float(picked.sum())
        n_tokens += len(completion)
    return total / n_tokens


def test_the_loss_is_on_the_completion_and_its_end_token_only(tmp_path: Path) -> None:
    encoder = ChatEncoder.load(str(BASE))
    row = example_rows(1)[0]
    job = training_job(tmp_path, [row], TrainingSettings(), Optimization(max_steps=1))
    (features,) = features_of(job, encoder)
    learned = [token for token in features["labels"] if token != -100]
    text = encoder.tokenizer.decode(learned)
    assert text == f"<think> {row['rationale']} </think><answer>{row['label']}</answer><|end|>"
    assert features["input_ids"][-len(learned) :] == learned
    shown = encoder.tokenizer.decode(features["input_ids"][: -len(learned)])
    assert shown.endswith("Better?<|end|><|assistant|>")


def test_the_trainer_computes_its_loss_on_exactly_those_tokens(tmp_path: Path) -> None:
    """The first step's loss is the mean negative log-probability of the completions, taken by hand with transformers."""
    rows = example_rows(4)
    job = training_job(
        tmp_path, rows, TrainingSettings(log_every=1), Optimization(max_steps=1, batch_size=4, learning_rate=1e-6)
    )
    result = train_here(job)
    assert result["metrics"]["first_loss"] == pytest.approx(loss_by_hand(rows), abs=1e-4)


def test_two_runs_with_one_seed_give_the_same_metrics(tmp_path: Path) -> None:
    rows = example_rows(16)
    losses = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        job = training_job(
            folder, rows, TrainingSettings(log_every=1), Optimization(max_steps=4, batch_size=8, learning_rate=1e-3)
        )
        train_here(job)
        losses.append((folder / "out" / "steps.jsonl").read_text())
    assert losses[0] == losses[1]
    assert losses[0].count("\n") == 4


@pytest.mark.parametrize("lora", [None, LoraSettings(r=4, alpha=8, dropout=0.1)])
def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(
    tmp_path: Path, lora: LoraSettings | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the middle of the second epoch; loss, gradient, learning rate, and weights equal those of one that ran through."""
    import torch
    from safetensors.torch import load_file

    rows, training = example_rows(18), TrainingSettings(log_every=2, checkpoint_minutes=0)
    optimization = Optimization(max_steps=10, batch_size=4, learning_rate=1e-3, lora=lora)
    curves, weights, results = [], [], []
    for name in ("through", "stopped"):
        folder = tmp_path / name
        folder.mkdir()
        job = training_job(folder, rows, training, optimization)
        if name == "stopped":
            with pytest.raises(KeyboardInterrupt):
                train_in_child(folder, job, until_step=7)
            # A save that a kill cut short is passed over for the one before.
            kept = last_checkpoint(folder / "out/scratch.tmp/trainer")
            assert kept is not None
            assert kept.name in ("checkpoint-6", "checkpoint-8")
        results.append(train_in_child(folder, job) if name == "stopped" and lora is None else train_here(job))
        curves.append([json.loads(line) for line in (folder / "out" / "steps.jsonl").read_text().splitlines()])
        weights.append(load_file(folder / "out" / "checkpoint" / "model.safetensors"))
        assert not (folder / "out" / "scratch.tmp").exists()
    log = capsys.readouterr().out if lora else (tmp_path / "stopped" / "log").read_text()
    assert "resuming from checkpoint-" in log
    assert [entry["step"] for entry in curves[0]] == [2, 4, 6, 8, 10]
    for through, stopped in zip(*curves, strict=True):
        assert stopped == pytest.approx(through, abs=1e-5)
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-5) for name in weights[0])
    assert results[1]["counts"] == results[0]["counts"]
    assert results[1]["metrics"]["train_loss"] == pytest.approx(results[0]["metrics"]["train_loss"], abs=1e-5)
    assert results[1]["metrics"]["steps"] == 10
    assert results[1]["metrics"]["trainer_memory_mib"] > 300, "torch alone takes that"


def test_lora_leaves_a_plain_merged_checkpoint(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    optimization = Optimization(max_steps=3, batch_size=8, learning_rate=1e-2, lora=LoraSettings(r=4, alpha=8))
    train_here(training_job(tmp_path, example_rows(8), TrainingSettings(), optimization))
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "checkpoint").state_dict()
    base = AutoModelForCausalLM.from_pretrained(BASE).state_dict()
    assert merged.keys() == base.keys()
    assert any(not torch.equal(merged[name], base[name]) for name in base)
    assert (tmp_path / "out" / "adapter" / "adapter_model.safetensors").is_file()


def test_examples_that_do_not_fit_are_dropped_and_counted(tmp_path: Path) -> None:
    rows = example_rows(3)
    rows[1]["response_a"] = "boze " * 200
    result = train_here(training_job(tmp_path, rows, TrainingSettings(), Optimization(max_steps=1, batch_size=2)))
    assert result["counts"] == {"rows_in": 3, "kept": 2, "dropped": {"too_long": 1}}
    dropped = json.loads((tmp_path / "out" / "dropped.jsonl").read_text())
    assert (dropped["id"], dropped["reason"]) == (rows[1]["id"], "too_long")


def test_packed_neighbours_do_not_see_each_other() -> None:
    """Perturbs the first of two packed examples and sees no change in the second, as TRL's collator packs them."""
    import torch
    from transformers import AutoModelForCausalLM
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    encoder = ChatEncoder.load(str(BASE))
    model = AutoModelForCausalLM.from_pretrained(BASE, attn_implementation="sdpa", dtype=torch.float32)
    encoded = [encode_example(row, "judge", encoder, MODELS, 64) for row in example_rows(2)]
    first, second = (made.prompt + made.completion for made in encoded if made)
    collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)

    def logits_of_second(first_ids: list[int]) -> torch.Tensor:
        packed = {
            "input_ids": first_ids + second,
            "labels": first_ids + second,
            "seq_lengths": [len(first_ids), len(second)],
        }
        batch = collate([packed])
        assert "attention_mask" not in batch
        with torch.no_grad():
            out = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False)
        logits: torch.Tensor = out.logits[0, len(first_ids) :]
        return logits

    perturbed = [(token + 7) % 300 for token in first]
    assert perturbed != first
    assert torch.equal(logits_of_second(first), logits_of_second(perturbed))
    with torch.no_grad():
        alone = model(torch.tensor([second])).logits[0]
    assert torch.allclose(logits_of_second(first), alone, atol=1e-4)


def test_packed_training_has_the_loss_of_the_examples_one_by_one(tmp_path: Path) -> None:
    """Every completion counts once, and nothing else: the first packed step against transformers by hand."""
    rows = example_rows(6)
    training = TrainingSettings(packing=True, attention="sdpa", log_every=1)
    optimization = Optimization(max_steps=1, batch_size=6, learning_rate=1e-6)
    result = train_here(training_job(tmp_path, rows, training, optimization))
    assert result["metrics"]["first_loss"] == pytest.approx(loss_by_hand(rows), abs=1e-4)
    (step,) = [json.loads(line) for line in (tmp_path / "out" / "steps.jsonl").read_text().splitlines()]
    assert step["num_tokens"] == result["metrics"]["tokens"]


def test_a_training_that_was_killed_counts_its_examples_again(tmp_path: Path) -> None:
    job = training_job(tmp_path, example_rows(4), TrainingSettings(), Optimization(max_steps=1, batch_size=4))
    for _ in range(2):
        (tmp_path / "out" / "scratch.tmp").mkdir(parents=True, exist_ok=True)
        result = train_here(job)
    assert (result["counts"]["rows_in"], result["counts"]["kept"]) == (4, 4)
    assert not (tmp_path / "out" / "scratch.tmp").exists()


def test_a_training_that_has_ended_and_only_was_not_committed_is_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between the child's result and the manifest, in which its checkpoints were still there."""
    run = Run(
        RunStore(tmp_path, "run"),
        settings_with(models={"judge_base": str(BASE.resolve()), "dtype": "float32"}, training=ONE_STEP),
        seed=4,
    )
    examples = artifact(run, "examples", {"examples.jsonl": example_rows(4)})
    put = run.store._put
    monkeypatch.setattr(run.store, "_put", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train_judge(run, 0, examples)
    [work] = (tmp_path / "run/.work").glob("round-0--judge-*")
    (work / "manifest.json").unlink()
    (work / "scratch.tmp/trainer").mkdir(parents=True)
    (work / "scratch.tmp/trainer/left").write_text("of the trainer")
    weights = (work / "checkpoint/model.safetensors").stat().st_mtime_ns
    monkeypatch.setattr(run.store, "_put", put)
    made = train_judge(run, 0, examples)
    assert made.file("checkpoint/model.safetensors").stat().st_mtime_ns == weights
    assert not [name for name in made.manifest.files if name.startswith("scratch")]
    assert made.manifest.metrics["steps"] == 1
    log = (tmp_path / "run/logs/round-0--judge.log").read_text()
    assert log.count("4 examples") == 1, "it was trained once"


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("evil-was-here"),))


def test_a_checkpoint_that_carries_code_is_not_run(tmp_path: Path) -> None:
    """The trainer's own state is loaded as weights only: what lies in a shared store may have been changed."""
    rows, training = example_rows(8), TrainingSettings(log_every=2, checkpoint_minutes=0)
    job = training_job(tmp_path, rows, training, Optimization(max_steps=8, batch_size=4, learning_rate=1e-3))
    with pytest.raises(KeyboardInterrupt):
        train_in_child(tmp_path, job, until_step=5)
    checkpoint = last_checkpoint(tmp_path / "out/scratch.tmp/trainer")
    assert checkpoint is not None
    for state in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        (checkpoint / state).write_bytes(pickle.dumps(_Evil()))
    marker = json.loads((checkpoint / COMPLETE).read_text())
    sizes = {name: (checkpoint / name).stat().st_size for name in marker["files"]}
    write_json(checkpoint / COMPLETE, {**marker, "files": sizes})
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        train_here(job)
    assert not list(ROOT.glob("evil*"))
