"""Options for vLLM, held against its own arguments."""

from __future__ import annotations

import pytest

from tasks.model.engine_options import engine_option_problems

pytestmark = pytest.mark.engine


def test_names_and_values_that_vllm_does_not_take_are_named() -> None:
    found = engine_option_problems(
        {
            "max_num_seqs": 512,
            "block_size": 32,
            "attention_backend": "FLASH_ATTN",
            "compilation_config": {"mode": 0},
            "max_num_seq": 512,
            "max_num_batched_tokens": "many",
            "block": 1,
            "mamba_backend": "none",
        }
    )
    assert len(found) == 4
    assert found[0] == "generation.engine.max_num_seq: vLLM has no such argument; did you mean max_num_seqs?"
    assert found[1].startswith("generation.engine.max_num_batched_tokens: Input should be a valid integer")
    assert found[1].endswith("got 'many'")
    assert found[2].startswith("generation.engine.block: vLLM has no such argument")
    assert found[3].startswith("generation.engine.mamba_backend: must be one of ")
