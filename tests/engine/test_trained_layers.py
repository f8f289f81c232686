"""Trainings of the upper layers alone, and with both orders of a pair in one batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data.world import taste
from tasks.settings import Optimization, Role, TrainingSettings
from tasks.training.layers import train_upper_layers
from tasks.training_set import example_of
from tests.support.training_jobs import BASE, MODELS, Setup, losses, train_here, train_in_child, training_job

pytestmark = pytest.mark.train


def trained(folder: Path, role: Role = "judge", **training: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The weights of the base and of a model trained from it, as far as both have them."""
    from safetensors.torch import load_file

    how = TrainingSettings.model_validate({"log_every": 1, "trainable_layers": 1, **training})
    setup = Setup(MODELS, Optimization(max_steps=2, batch_size=4, learning_rate=1e-2), how, role)
    setup.train(folder, rows_in_both_orders(4))
    return load_file(BASE / "model.safetensors"), load_file(folder / "out/checkpoint/model.safetensors")


def rows_in_both_orders(n: int) -> list[dict[str, Any]]:
    rows = []
    for pair in taste.draw_pairs(n, seed=5):
        for order, shown in (("ab", pair), ("ba", pair.swapped())):
            rows.append(example_of(pair.to_json(), order, taste.rationale(shown.pair), round=0))
    return rows


@pytest.mark.parametrize(("role", "checkpointing"), [("judge", False), ("prover", True), ("scalar", False)])
def test_only_the_upper_layers_move(tmp_path: Path, role: Role, checkpointing: bool) -> None:
    """Not by a digit, the others; and a scalar head is trained, as it is new."""
    import torch

    before, after = trained(tmp_path, role, gradient_checkpointing=checkpointing)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    upper = {name for name in before if name.startswith("model.layers.2.")}
    assert moved == upper
    assert ("score.weight" in after) == (role == "scalar")


def test_a_scalar_head_is_trained_with_them() -> None:
    import torch
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(BASE, num_labels=1, dtype=torch.float32)
    train_upper_layers(model, 2)
    learning = {
        name.partition(".layers.")[2][:1] or name for name, one in model.named_parameters() if one.requires_grad
    }
    assert learning == {"1", "2", "score.weight"}
    with pytest.raises(ValueError, match=r"trainable_layers = 4, but the model has 3 layers"):
        train_upper_layers(model, 4)


def test_a_training_of_pairs_goes_on_as_if_it_had_not_been_stopped(tmp_path: Path) -> None:
    """Two processes, in the middle of the second epoch, against one that ran through: the same losses and weights."""
    import torch
    from safetensors.torch import load_file

    how = {"log_every": 1, "checkpoint_minutes": 0, "trainable_layers": 2, "pair_orders": True}
    optimization = Optimization(max_steps=6, batch_size=4, micro_batch_size=1, learning_rate=1e-3)
    through = training_job(
        tmp_path / "through", rows_in_both_orders(6), TrainingSettings.model_validate(how), optimization
    )
    stopped = training_job(
        tmp_path / "stopped",
        rows_in_both_orders(6),
        TrainingSettings.model_validate({**how, "processes": 2}),
        optimization,
    )
    with pytest.raises(KeyboardInterrupt):
        train_in_child(tmp_path / "stopped", stopped, until_step=5)
    train_here(through)
    train_in_child(tmp_path / "stopped", stopped)
    log = (tmp_path / "stopped/log").read_text()
    assert "resuming from checkpoint-4" in log or "resuming from checkpoint-5" in log
    assert losses(stopped) == pytest.approx(losses(through), abs=1e-4)
    ours, theirs = (load_file(Path(job.out) / "checkpoint/model.safetensors") for job in (through, stopped))
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-4) for name in ours)


def test_a_batch_of_the_trainer_holds_both_orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen where the trainer takes them: the prompts of a step are the two orders of the same pairs."""
    from trl import SFTTrainer

    from tasks.model.chat import ChatEncoder

    seen: list[list[str]] = []
    encoder, step = ChatEncoder.load(str(BASE)), SFTTrainer.training_step

    def look(self: Any, model: Any, inputs: dict[str, Any], *rest: Any) -> Any:
        seen.append([encoder.tokenizer.decode(ids, skip_special_tokens=True) for ids in inputs["input_ids"]])
        return step(self, model, inputs, *rest)

    monkeypatch.setattr(SFTTrainer, "training_step", look)
    how = TrainingSettings(log_every=1, pair_orders=True)
    rows = rows_in_both_orders(6)
    train_here(training_job(tmp_path, rows, how, Optimization(max_steps=6, batch_size=4, learning_rate=1e-6)))
    assert len(seen) == 6
    for batch in seen:
        words = [frozenset(text.partition("Better?")[0].replace("A:", "").replace("B:", "").split()) for text in batch]
        assert words[0] == words[1] != words[2] == words[3]
    assert seen[:3] != seen[3:], "each epoch has another order"
