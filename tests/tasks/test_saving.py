"""What a base comes with must not keep a model from being written, and what is written must be what was trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data.files import write_json
from tasks.model.saving import make_savable

IDS = {"bos_token_id": 1, "eos_token_id": [5, 2]}


# ---- settings of generation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ({"temperature": 0.9, "top_p": 0.6}, {"temperature": 0.9, "top_p": 0.6, "do_sample": True}),
        ({"top_k": 20}, {"top_k": 20, "do_sample": True}),
        ({"temperature": 1.0, "pad_token_id": 0}, {"temperature": 1.0, "pad_token_id": 0}),
        ({"temperature": 0.9, "do_sample": False}, {}),
        ({"pad_token_id": -1}, {}),
        ({"early_stopping": True, "pad_token_id": 0}, {"pad_token_id": 0}),
        ({"max_new_tokens": 40}, {"max_new_tokens": 40}),
    ],
)
def test_every_base_can_be_written(given: dict[str, Any], written: dict[str, Any], tmp_path: Path) -> None:
    import transformers

    write_json(tmp_path / "generation_config.json", {**IDS, **given})
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
        )
    )
    model.generation_config = transformers.GenerationConfig.from_pretrained(tmp_path)
    make_savable(model)
    model.save_pretrained(tmp_path / "out")
    found = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    del found["transformers_version"]
    assert found == {**IDS, **written}
