"""A tiny model that takes images besides text, as Gemma 3 does from 4B on."""

from __future__ import annotations

from typing import Any


def tiny_gemma(vocabulary: int) -> Any:
    """Gemma 3 with as many layers for images as for text, its weights by chance."""
    import torch
    import transformers

    small = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
    config = transformers.Gemma3Config(
        text_config={
            **small, "vocab_size": vocabulary + 3, "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 512,
            "sliding_window": 64, "pad_token_id": 0,
        },
        vision_config={**small, "image_size": 28, "patch_size": 14},
        mm_tokens_per_image=4, image_token_index=vocabulary, boi_token_index=vocabulary + 1, eoi_token_index=vocabulary + 2,
    )  # fmt: skip
    torch.manual_seed(1)
    return transformers.Gemma3ForConditionalGeneration(config)
