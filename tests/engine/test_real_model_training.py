"""Training a real language model for a few steps, and loading what comes of it in plain transformers and plain vLLM."""

from __future__ import annotations

from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from prompts.judge import COMPACT
from tasks.model.chat import ChatEncoder
from tasks.settings import LoraSettings, ModelSettings, Optimization
from tests.real.model import END_ID
from tests.support.plain_vllm import serve
from tests.support.sums import proved_sums, sum_pairs
from tests.support.training_jobs import Setup, completion_logprobs

pytestmark = [pytest.mark.train, pytest.mark.engine, pytest.mark.slow]

REPLY_TOKENS = 40


@pytest.mark.parametrize(
    ("lora", "learning_rate"), [(LoraSettings(r=16, alpha=32), 2e-3), (None, 2e-4)], ids=["lora", "full"]
)
def test_24_steps_teach_it_the_form_and_what_comes_of_them_is_a_plain_model(
    real_model: Path, tmp_path: Path, lora: LoraSettings | None, learning_rate: float
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    settings = ModelSettings(judge_base=str(real_model), judge_prompt="compact", max_tokens=256, dtype="float32")
    how = Setup(
        settings,
        Optimization(max_steps=24, batch_size=2, learning_rate=learning_rate, lora=lora),
        reply_tokens=REPLY_TOKENS,
    )
    rows = [row.to_json() for row in proved_sums(48, seed=3)]
    metrics, steps = how.train(tmp_path, rows, environment={"OMP_WAIT_POLICY": "PASSIVE"})
    losses = [step["loss"] for step in steps]
    assert len(losses) == metrics["steps"] == 24
    assert mean(losses[-6:]) < 0.5 * mean(losses[:3])

    checkpoint = tmp_path / "out/checkpoint"
    encoder = ChatEncoder(AutoTokenizer.from_pretrained(checkpoint))
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    assert model.state_dict().keys() == AutoModelForCausalLM.from_pretrained(real_model).state_dict().keys()
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert model.generation_config.eos_token_id == [END_ID]
    if lora is not None:
        assert (tmp_path / "out/adapter/adapter_model.safetensors").is_file()

    prompts = [COMPACT.render(one.pair) for one in sum_pairs(4, seed=4)]
    answers = serve(checkpoint, prompts, REPLY_TOKENS, tmp_path)
    for prompt, served in zip(prompts, answers, strict=True):
        asked = encoder.prompt_ids(prompt)
        assert served.prompt_ids == asked
        assert served.ids[-1] == END_ID
        assert COMPACT.parse(encoder.tokenizer.decode(served.ids[:-1])).verdict is not None
        [by_hand] = completion_logprobs(model, [(asked, served.ids)])
        assert served.logprobs == pytest.approx(by_hand.tolist(), abs=1e-3)
    assert generated(model, answers[0].prompt_ids) == answers[0].ids


def generated(model: Any, prompt: list[int]) -> list[int]:
    """The greedy reply, with its end, by transformers alone."""
    import torch

    ids_BT = torch.tensor([prompt])
    with torch.no_grad():
        out = model.generate(
            ids_BT, max_new_tokens=REPLY_TOKENS, do_sample=False, attention_mask=torch.ones_like(ids_BT)
        )
    return [int(token) for token in out[0, len(prompt) :]]
