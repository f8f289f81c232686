"""GRAM's trainings on a tiny model: each loss is the one that its paper gives."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from data.records import parse_pair
from prompts.catalog import JUDGE_PROMPTS, pretraining_for
from tasks.model.chat import ChatEncoder
from tasks.model.engine import Request, Sampling
from tasks.model.scalar import ScalarEngine, is_scalar
from tasks.settings import Optimization, TrainingSettings
from tests.support.families import LLAMA_3_1, build_tokenizer
from tests.support.gram import by_hand
from tests.support.templates import TEXTS
from tests.support.training_jobs import BASE, example_rows, features_of, losses, models_for, train_here, training_job


def label_logits(rows: list[dict[str, Any]]) -> torch.Tensor:
    """The base model's logits of "A" and "B" behind each row's prompt, (N, 2), by transformers alone."""
    from transformers import AutoModelForCausalLM

    encoder = ChatEncoder.load(str(BASE))
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    found = []
    for row in rows:
        encoded = encoder.judge_ids(JUDGE_PROMPTS["compact-label"], parse_pair(row), 64, "drop")
        assert encoded is not None
        with torch.no_grad():
            found.append(model(torch.tensor([encoded.ids])).logits[0, -1, list(encoder.label_ids)])
    return torch.stack(found)


@pytest.mark.train
def test_the_trainer_minimises_that_loss_at_the_verdict(tmp_path: Path) -> None:
    """The first step's loss, over rows of several lengths in several micro-batches, is the closed form's mean."""
    rows = example_rows(8)
    for i, row in enumerate(rows):
        row["response_a"] += " " + " ".join(row["response_b"].split()[: i % 3])
    training = TrainingSettings(log_every=1, label_smoothing=0.1)
    optimization = Optimization(max_steps=1, batch_size=8, micro_batch_size=2, learning_rate=1e-6)
    job = training_job(tmp_path, rows, training, optimization, "label-judge", models_for("compact-label"))
    train_here(job)
    logits = label_logits(rows)
    expected = sum(
        by_hand(float(a), float(b), "AB".index(row["label"]), 0.1) for (a, b), row in zip(logits, rows, strict=True)
    ) / len(rows)
    assert losses(job) == [pytest.approx(expected, abs=1e-4)]


@pytest.mark.train
def test_fine_tuning_draws_the_probability_to_its_optimum(tmp_path: Path) -> None:
    """On rows that it can learn by heart, P of the label ends near 1 − ε′/2, not near 1."""
    from transformers import AutoModelForCausalLM

    rows = example_rows(4)
    training = TrainingSettings(label_smoothing=0.4)
    optimization = Optimization(max_steps=60, batch_size=4, learning_rate=2e-3)
    models = models_for("compact-label")
    job = training_job(tmp_path, rows, training, optimization, "label-judge", models)
    train_here(job)
    checkpoint = Path(job.out) / "checkpoint"
    encoder = ChatEncoder.load(str(checkpoint))
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    for row in rows:
        encoded = encoder.judge_ids(JUDGE_PROMPTS["compact-label"], parse_pair(row), 64, "drop")
        assert encoded is not None
        with torch.no_grad():
            p = model(torch.tensor([encoded.ids])).logits[0, -1, list(encoder.label_ids)].softmax(-1)
        assert float(p["AB".index(row["label"])]) == pytest.approx(0.8, abs=0.05)


@pytest.mark.train
def test_pretraining_takes_its_loss_on_both_responses(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    rows = example_rows(4)
    training = TrainingSettings(log_every=1)
    optimization = Optimization(max_steps=1, batch_size=4, micro_batch_size=2, learning_rate=1e-6)
    job = training_job(tmp_path, rows, training, optimization, "pretrained")
    train_here(job)
    encoder, model = ChatEncoder.load(str(BASE)), AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    total, n = 0.0, 0
    for row in rows:
        pair = parse_pair(row)
        prompt = encoder.prompt_ids(pretraining_for(JUDGE_PROMPTS["compact"]).render(pair))
        written = encoder.completion_ids(f"A: {pair.response_a}\nB: {pair.response_b}")
        with torch.no_grad():
            logprobs_TV = model(torch.tensor([prompt + written])).logits[0].log_softmax(-1)
        total -= float(logprobs_TV[len(prompt) - 1 : -1].gather(-1, torch.tensor(written)[:, None]).sum())
        n += len(written)
    assert losses(job) == [pytest.approx(total / n, abs=1e-4)]


@pytest.mark.train
def test_a_discriminative_model_minimises_bradley_terry(tmp_path: Path) -> None:
    """The last step's loss is that of the scores, as the checkpoint of the step before gives them one by one."""
    rows = example_rows(4)
    optimization = Optimization(max_steps=1, batch_size=4, micro_batch_size=2, learning_rate=1e-9)
    job = training_job(tmp_path, rows, TrainingSettings(log_every=1), optimization, "scalar")
    result = train_here(job)
    checkpoint = Path(job.out) / "checkpoint"
    assert is_scalar(str(checkpoint))
    encoder = ChatEncoder.load(str(checkpoint))
    engine = ScalarEngine(str(checkpoint), "float32", encoder.end_id)
    features = features_of(job, encoder)
    chosen, rejected = (scores(engine, [one[f"{which}_ids"] for one in features]) for which in ("chosen", "rejected"))
    expected = sum(math.log1p(math.exp(r - c)) for c, r in zip(chosen, rejected, strict=True)) / len(rows)
    assert result["metrics"]["first_loss"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.train
def test_what_pads_a_batch_in_training_is_no_special_token_of_the_checkpoint(tmp_path: Path) -> None:
    """Llama 3 has no token for padding; its first ordinary one is "!", which responses are full of."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    base, rows = tmp_path / "base", example_rows(4)
    rows[0]["response_a"] = "Yes! It is!! Great!!!"
    tokenizer = build_tokenizer(LLAMA_3_1, TEXTS)
    tokenizer.save_pretrained(base)
    tiny = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=len(tokenizer), **tiny)).save_pretrained(base)
    models = models_for("compact").model_copy(update={"judge_base": str(base)})
    (tmp_path / "job").mkdir()
    job = training_job(
        tmp_path / "job", rows, TrainingSettings(), Optimization(max_steps=1, batch_size=4), "scalar", models
    )
    job = replace(job, base=str(base))
    train_here(job)
    before, after = ChatEncoder.load(str(base)), ChatEncoder.load(str(Path(job.out) / "checkpoint"))
    assert before.tokenizer.all_special_tokens == after.tokenizer.all_special_tokens
    assert features_of(job, before) == features_of(job, after)


def scores(engine: ScalarEngine, texts: list[list[int]]) -> list[float]:
    found: dict[int, float] = {}

    def job(i: int, answer: Any) -> None:
        found[i] = answer[0].score

    engine.generate([Request("", ids, Sampling(max_tokens=1)) for ids in texts], job)
    return [found[i] for i in range(len(texts))]
