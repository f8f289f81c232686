"""GRAM: its loss against closed forms, its two trainings on a tiny model, and what its settings refuse or warn of."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.records import parse_pair, parse_preference
from flows.config.parameters import GramConfig
from flows.config.recipes import ConfigError, checked
from prompts.catalog import JUDGE_PROMPTS, pretraining_for
from prompts.gram import GRAM, GRAM_PRETRAINING
from tasks.model.chat import ChatEncoder
from tasks.model.judging import JudgeQuery, build_request
from tasks.settings import Optimization, TrainingSettings
from tasks.training.examples import encode_example
from tasks.training.objectives import label_loss
from tests.conftest import make, settings_with
from tests.support.gram import by_hand
from tests.support.training_jobs import example_rows, features_of, models_for, training_job

# ---- the loss ----------------------------------------------------------------------------------------------------------


LOGITS = [(0.3, -0.5, 0), (2.0, 2.0, 1), (-1.0, 4.0, 0), (-1.0, 4.0, 1)]
"""Z_a, Z_b, and the label: 0 for A."""


@pytest.mark.parametrize("smoothing", [0.0, 0.05, 0.1, 0.15, 0.5])
def test_the_loss_is_the_closed_form(smoothing: float) -> None:
    logits = torch.tensor([[a, b] for a, b, _ in LOGITS])
    labels = torch.tensor([label for *_, label in LOGITS])
    expected = sum(by_hand(*one, smoothing) for one in LOGITS)
    assert float(label_loss(logits, labels, smoothing)) == pytest.approx(expected, rel=1e-6)


def test_the_losses_numbers_are_these() -> None:
    """Worked out with a pocket calculator: Δ = 0.8 and ε′ = 0.1 give 0.371101 + 0.05 · 0.8."""
    assert float(label_loss(torch.tensor([[0.3, -0.5]]), torch.tensor([0]), 0.1)) == pytest.approx(0.411101, abs=1e-6)
    assert float(label_loss(torch.tensor([[2.0, 2.0]]), torch.tensor([1]), 0.1)) == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_its_gradient_is_that_of_bradley_terry_with_a_regulariser(smoothing: float) -> None:
    """−log σ(Δ) + ε·Δ, whose derivative is σ(Δ) − 1 + ε, written out and taken by autograd."""
    logits = torch.tensor([[a, b] for a, b, _ in LOGITS], requires_grad=True)
    labels = torch.tensor([label for *_, label in LOGITS])
    label_loss(logits, labels, smoothing).backward()
    other = logits.detach().clone().requires_grad_()
    rows = torch.arange(len(LOGITS))
    delta = other[rows, labels] - other[rows, 1 - labels]
    (-torch.nn.functional.logsigmoid(delta) + smoothing / 2 * delta).sum().backward()
    assert logits.grad is not None
    assert other.grad is not None
    assert torch.allclose(logits.grad, other.grad, atol=1e-6)
    written_out = torch.sigmoid(delta) - 1 + smoothing / 2
    assert torch.allclose(logits.grad[rows, labels], written_out, atol=1e-6)


@given(st.floats(0.01, 0.9))
def test_its_optimum_is_where_the_docstring_says(smoothing: float) -> None:
    optimum = 1 - smoothing / 2
    best = math.log(optimum / (1 - optimum))
    delta = torch.tensor(best, dtype=torch.float64, requires_grad=True)
    logits = torch.stack([delta, torch.zeros((), dtype=torch.float64)])[None]
    torch.nn.functional.cross_entropy(logits, torch.tensor([0]), label_smoothing=smoothing).backward()
    assert delta.grad is not None
    assert abs(float(delta.grad)) < 1e-9
    below, above = (
        float(label_loss(torch.tensor([[best + step, 0.0]]), torch.tensor([0]), smoothing)) for step in (-0.5, 0.5)
    )
    at = float(label_loss(torch.tensor([[best, 0.0]]), torch.tensor([0]), smoothing))
    assert at < below
    assert at < above


# ---- examples ----------------------------------------------------------------------------------------------------------


def test_fine_tuning_teaches_the_one_token_of_the_label(encoder: ChatEncoder, tmp_path: Path) -> None:
    models = models_for("compact-label")
    for row in example_rows(6):
        encoded = encode_example(row, "label-judge", encoder, models, 64)
        assert encoded is not None
        assert encoder.tokenizer.decode(encoded.completion) == row["label"]
        asked = encoder.judge_ids(JUDGE_PROMPTS["compact-label"], parse_pair(row), 64, "drop")
        assert asked is not None
        assert encoded.prompt == asked.ids


def test_pretraining_teaches_both_responses_as_published(encoder: ChatEncoder) -> None:
    pair = make(question="Why is the sky blue?", a="Rayleigh scattering.", b="It reflects the sea.")
    [message] = GRAM_PRETRAINING.render(pair)
    assert (message.role, message.content) == ("user", "[User Question]\nWhy is the sky blue?\n\n")
    assert GRAM_PRETRAINING.target(pair) == (
        "[The Start of Assistant A's Answer]\nRayleigh scattering.\n[The End of Assistant A's Answer]\n\n"
        "[The Start of Assistant B's Answer]\nIt reflects the sea.\n[The End of Assistant B's Answer]"
    )
    # What is learned is spelled as the judge's prompt spells it.
    [judged] = GRAM.render(pair)
    assert message.content.rstrip() in judged.content
    assert GRAM_PRETRAINING.target(pair) in judged.content


def test_a_response_that_spells_an_end_mark_does_not_end_the_record() -> None:
    target = GRAM_PRETRAINING.target(make(a="x [The End of Assistant A's Answer] y"))
    assert target.count("[The End of Assistant A's Answer]") == 1


def test_a_pretraining_example_is_the_prompt_and_both_responses(encoder: ChatEncoder) -> None:
    models, row = models_for("compact"), example_rows(1)[0]
    encoded = encode_example(row, "pretrained", encoder, models, 64)
    assert encoded is not None
    pair, prompt = parse_pair(row), pretraining_for(JUDGE_PROMPTS["compact"])
    assert encoded.prompt == encoder.prompt_ids(prompt.render(pair))
    text = encoder.tokenizer.decode(encoded.completion)
    assert text == f"A: {pair.response_a}\nB: {pair.response_b}<|end|>"


@pytest.mark.parametrize("overlong", ["drop", "truncate"])
def test_a_pretraining_example_that_is_too_long(encoder: ChatEncoder, overlong: str) -> None:
    models = models_for("compact").model_copy(update={"overlong": overlong})
    words = " ".join(example_rows(1)[0]["response_a"] for _ in range(30))
    row = make(question="Taste?", a=words, b="zuvi vato").to_json()
    encoded = encode_example(row, "pretrained", encoder, models, 64)
    if overlong == "drop":
        assert encoded is None
        return
    assert encoded is not None
    assert encoded.truncated
    assert len(encoded.prompt) + len(encoded.completion) <= models.max_tokens
    assert encoder.tokenizer.decode(encoded.completion).endswith("\nB: zuvi vato<|end|>"), "the short one is whole"


def test_what_a_discriminative_model_compares(encoder: ChatEncoder, tmp_path: Path) -> None:
    rows = example_rows(6)
    job = training_job(tmp_path, rows, TrainingSettings(), Optimization(max_steps=1), "scalar")
    features = features_of(job, encoder)
    assert {row["label"] for row in rows} == {"A", "B"}
    for row, one in zip(rows, features, strict=True):
        preference = parse_preference(row)
        chosen, rejected = preference.pair.response_a, preference.pair.response_b
        if preference.label == "B":
            chosen, rejected = rejected, chosen
        assert one["chosen_ids"] == encoder.response_ids(preference.pair.prompt, chosen)
        assert one["rejected_ids"] == encoder.response_ids(preference.pair.prompt, rejected)


# ---- settings ----------------------------------------------------------------------------------------------------------


def test_a_threshold_that_label_smoothing_starves_is_warned_of() -> None:
    gram = {"judge_prompt": "gram"}
    source = {"labeled": [{"path": "x"}], "unlabeled": [{"path": "u"}]}

    def warnings(min_confidence: float, smoothing: float = 0.1, loss: str = "labels") -> list[str]:
        return settings_with(
            models=gram,
            data=source,
            labels={"min_confidence": min_confidence},
            training={"label_loss": loss, "label_smoothing": smoothing},
        ).warnings()

    assert warnings(0.94) == []
    [said] = warnings(0.95)
    assert "labels.min_confidence = 0.95 is at or above 0.95" in said
    assert len(warnings(0.9, smoothing=0.2)) == 1
    assert warnings(0.99, loss="vocabulary") == [], "without smoothing nothing bounds it"


def test_pretraining_needs_its_pairs_and_the_pairs_need_it() -> None:
    recipe = {
        "models": {"judge_base": "b", "judge_prompt": "gram"},
        "data": {"labeled": [{"path": "x"}]},
        "rounds": {"count": 0},
        "run_name": "r",
    }
    checked(recipe)
    with pytest.raises(ConfigError, match=r"training\.pretraining is given without data\.pretraining"):
        checked({**recipe, "training": {"pretraining": {"epochs": 1}}})
    with pytest.raises(ConfigError, match=r"data\.pretraining is given without training\.pretraining"):
        checked({**recipe, "data": {**recipe["data"], "pretraining": [{"path": "p"}]}})


def test_a_judge_that_reasons_needs_a_prover_and_its_rationales() -> None:
    recipe = {
        "models": {"judge_base": "b"},
        "data": {"labeled": [{"path": "x"}]},
        "rounds": {"count": 0},
        "run_name": "r",
    }
    with pytest.raises(ConfigError, match=r"models\.prover_base: proofs are written by a prover"):
        checked(recipe)
    with pytest.raises(ConfigError, match=r"data\.rationale: the prover learns from pairs with rationales"):
        checked({**recipe, "models": {"judge_base": "b", "prover_base": "p"}})
    with pytest.raises(ConfigError, match=r"training\.final and training\.human_rationales need data\.rationale"):
        checked({**recipe, "proofs": {"write_for": "nothing"}, "training": {"final": {"epochs": 1}}})


def test_what_would_be_ignored_is_refused() -> None:
    recipe = {
        "models": {"judge_base": "b", "judge_prompt": "gram"},
        "data": {"labeled": [{"path": "x"}]},
        "run_name": "r",
    }
    recipe["rounds"] = {"count": 0}
    with pytest.raises(ConfigError, match=r"training\.first_judge\.early_stopping needs a validation set"):
        checked({**recipe, "training": {"first_judge": {"epochs": 1, "early_stopping": {}}}})
    reasoning = {**recipe, "models": {"judge_base": "b"}, "proofs": {"write_for": "nothing"}}
    checked(reasoning)
    with pytest.raises(ConfigError, match=r'label_loss = "labels" is for label-only judges'):
        checked({**reasoning, "training": {"label_loss": "labels"}})
    grounded = {"labels": {"grounded_votes": True}}
    checked({**reasoning, **grounded})
    with pytest.raises(ConfigError, match=r'grounded_votes reads .*models\.judge_prompt = "gram" gives only the label'):
        checked({**recipe, **grounded})
    true = {**reasoning, "data": {"labeled": [{"path": "x"}], "unlabeled_truth": True}}
    with pytest.raises(
        ConfigError, match=r'grounded_votes reads .*labels\.source = "truth" takes labels from the data'
    ):
        checked({**true, "labels": {"grounded_votes": True, "source": "truth"}})


def test_what_the_flow_does_not_read_is_refused() -> None:
    recipe: dict[str, Any] = {"models": {"judge_base": "b", "judge_prompt": "gram"}, "run_name": "r"}
    data = {"labeled": [{"path": "x"}]}
    checked({**recipe, "data": data}, GramConfig)
    for name in ("rationale", "unlabeled"):
        with pytest.raises(ConfigError, match=rf"data\.{name}: not read by this flow"):
            checked({**recipe, "data": {**data, name: [{"path": "y"}]}}, GramConfig)
    with pytest.raises(ConfigError, match="GRAM outputs only the label"):
        checked({**recipe, "models": {"judge_base": "b"}, "data": data}, GramConfig)


def test_a_label_judge_has_the_context_but_for_two_tokens(encoder: ChatEncoder) -> None:
    """In training and in use, whatever room a judge that reasons would leave for its reply."""
    pair = parse_pair(example_rows(1)[0])
    n = len(encoder.prompt_ids(JUDGE_PROMPTS["compact-label"].render(pair)))
    for context, fits in ((n + 2, True), (n + 1, False)):
        query = JudgeQuery("compact-label", 1024, context)
        assert (build_request(query, encoder, pair, "ab") is not None) == fits
    settings = settings_with(models={"judge_prompt": "compact-label", "max_tokens": 256}, labels={"max_tokens": 64})
    assert settings.judge_room == 2
    assert settings_with(labels={"max_tokens": 64}).judge_room == 64
