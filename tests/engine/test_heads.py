"""The head computes in float32 where probabilities or scores are read: in bfloat16 its rounding made one game in seven a tie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data.world import taste
from tasks.model.chat import ChatEncoder
from tasks.model.device import compute_head_in_float32
from tasks.model.engine import Completion
from tasks.model.judging import JudgeQuery, build_score_request
from tasks.model.process import EngineProcess
from tasks.model.scalar import ScalarEngine
from tasks.rank import Judge
from tasks.settings import GenerationSettings, LoraSettings, ModelSettings, Optimization, TrainingSettings
from tasks.training.examples import IGNORED
from tasks.training.objectives import build_trainer, label_loss
from tests.support.training_jobs import BASE, Setup, example_rows

PAIRS = taste.draw_pairs(100, seed=12)
MODELS = ModelSettings(
    judge_base=str(BASE), prover_base=str(BASE), judge_prompt="compact-label", max_tokens=128, dtype="bfloat16"
)


@pytest.mark.engine
def test_a_label_judge_in_bfloat16_hardly_ever_ties() -> None:
    query = JudgeQuery("compact-label", max_tokens=2, context=128)
    with EngineProcess(str(BASE), MODELS, GenerationSettings(kv_cache_mib=64), by_label=True) as engine:
        judge = Judge(engine, ChatEncoder.load(str(BASE)), query)
        found = judge.compare_many([(taste.QUESTION, p.pair.response_a, p.pair.response_b) for p in PAIRS])
    games = [one.answer for compared in found for one in compared.answers]
    assert len(games) == 200
    assert sum(game.verdict is None for game in games) < 2
    assert len({game.p_first for game in games}) > 190


@pytest.mark.train
@pytest.mark.parametrize("lora", [None, LoraSettings(r=4, alpha=8)], ids=["full", "adapter"])
def test_the_loss_of_labels_is_rounded_nowhere_behind_the_body(tmp_path: Path, lora: LoraSettings | None) -> None:
    """In bfloat16: the logits of the two labels alone, from the body's hidden states by a product in float32."""
    import torch

    models = MODELS.model_copy(update={"dtype": "bfloat16"})
    how = Setup(
        models,
        Optimization(max_steps=1, batch_size=4, learning_rate=1e-6, lora=lora),
        TrainingSettings(log_every=1, label_smoothing=0.1),
        "label-judge",
    )
    encoder, rows = ChatEncoder.load(str(BASE)), example_rows(4)
    trainer = build_trainer(
        how.job(tmp_path, rows), encoder, _dataset(how, tmp_path, rows, encoder), None, str(tmp_path)
    )
    hidden: list[Any] = []
    body = trainer.model.get_decoder()
    body.register_forward_hook(lambda module, given, made: hidden.append(made.last_hidden_state.detach()))
    batch = next(iter(trainer.get_train_dataloader()))
    labels_BT = batch["labels"].clone()
    with trainer.compute_loss_context_manager(), torch.no_grad():
        loss, outputs = trainer.compute_loss(trainer.model, dict(batch), return_outputs=True)
    assert (outputs.logits.dtype, outputs.logits.shape[-1]) == (torch.float32, 2)
    rows_N, places_N = (labels_BT != IGNORED).nonzero(as_tuple=True)
    weights_2D = trainer.model.get_output_embeddings().weight.detach()[list(encoder.label_ids)].float()
    expected_N2 = hidden[0][rows_N, places_N - 1].float() @ weights_2D.T
    chosen_N = (labels_BT[rows_N, places_N] == encoder.label_ids[1]).long()
    assert float(loss) == pytest.approx(float(label_loss(expected_N2, chosen_N, 0.1)) / 4, abs=1e-6)
    assert not torch.equal(expected_N2, expected_N2.bfloat16().float()), "rounding would have changed them"


def _dataset(how: Setup, folder: Path, rows: Any, encoder: ChatEncoder) -> Any:
    from datasets import Dataset

    return Dataset.from_list(how.features(folder, rows, encoder))


@pytest.mark.train
def test_a_training_in_float32_is_left_as_it_is(tmp_path: Path) -> None:
    how = Setup(
        MODELS.model_copy(update={"dtype": "float32"}), Optimization(max_steps=1, batch_size=4), role="label-judge"
    )
    encoder, rows = ChatEncoder.load(str(BASE)), example_rows(4)
    trainer = build_trainer(
        how.job(tmp_path, rows), encoder, _dataset(how, tmp_path, rows, encoder), None, str(tmp_path)
    )
    assert "forward" not in vars(trainer.model.get_output_embeddings())


@pytest.mark.train
@pytest.mark.parametrize("lora", [None, LoraSettings(r=4, alpha=8)], ids=["full", "adapter"])
def test_scores_in_bfloat16_are_rounded_neither_in_training_nor_in_use(
    tmp_path: Path, lora: LoraSettings | None
) -> None:
    import torch

    how = Setup(MODELS, Optimization(max_steps=1, batch_size=4, learning_rate=1e-3, lora=lora), role="scalar")
    how.train(tmp_path, example_rows(8))
    checkpoint = str(tmp_path / "out/checkpoint")
    encoder = ChatEncoder.load(checkpoint)
    engine = ScalarEngine(checkpoint, "bfloat16", encoder.end_id)
    assert engine.model.dtype == torch.bfloat16
    query, scores = JudgeQuery("scalar", 1, 256), {}
    prompt = PAIRS[0].pair.prompt
    responses = sorted({text for one in PAIRS for text in (one.pair.response_a, one.pair.response_b)})
    requests = [build_score_request(query, encoder, prompt, text, "score") for text in responses]

    def told(i: int, answer: Any) -> None:
        [completion] = answer
        assert isinstance(completion, Completion)
        scores[i] = completion.score

    engine.generate([request for request in requests if request is not None], told)
    assert len(scores) == len(responses)
    assert len(set(scores.values())) > 0.95 * len(responses)


def test_a_head_gives_the_rows_that_are_asked_for_in_float32() -> None:
    import torch

    head = torch.nn.Linear(8, 5).to(torch.bfloat16)
    hidden_BD = torch.randn(3, 8, dtype=torch.bfloat16)
    assert compute_head_in_float32(head, [4, 1])
    expected = hidden_BD.float() @ head.weight[[4, 1]].float().T + head.bias[[4, 1]].float()
    with torch.autocast("cpu", torch.bfloat16):
        found = head(hidden_BD)
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected)
    assert not compute_head_in_float32(torch.nn.ReLU())
