"""The shapes of the paper's judges that `gpu_training` measures: random weights, examples, and the FLOPs of a token.

MFU counts the FLOPs that the model needs, not the recomputation of gradient checkpointing. A token costs 2 per weight
in the forward pass, 2 for the gradient of the activations and 2 for that of the weight: 6·N in all, and 4·N for weights
that LoRA freezes, plus 6·N for the adapter's. N includes the output layer but not the embedding, which is a lookup.
Attention adds 12·L·H·T per token (L layers, hidden size H; T is the mean length of an example, since packed neighbours
do not see each other; not halved for causality).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.records import RationalePair, ResponsePair
from data.world import taste
from data.world.tokenizer import build_tokenizer
from tasks.machine.gpus import visible_gpus
from tasks.settings import LoraSettings, ModelSettings


@dataclass(frozen=True)
class Shape:
    """A Llama's sizes, the context, and the amount of work."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool
    lora: LoraSettings | None
    context: int = 4096
    steps: int = 8
    batch: int = 8
    words: int = 300
    pairs: int = 256
    rationale_tokens: int = 512

    def linear_layers(self) -> list[tuple[int, int]]:
        """(in, out) of the linear layers of one block. The size of a head is 128, as in both of Meta's; 32 in the tiny one."""
        queries, keys = self.heads * self.head, self.kv_heads * self.head
        attention = [(self.hidden, queries), (self.hidden, keys), (self.hidden, keys), (queries, self.hidden)]
        return [*attention, *[(self.hidden, self.intermediate)] * 2, (self.intermediate, self.hidden)]

    @property
    def head(self) -> int:
        return self.hidden // self.heads

    def flops_a_token(self, mean_length: float) -> float:
        """See the top of this file."""
        weights = self.layers * sum(a * b for a, b in self.linear_layers()) + self.hidden * self.vocabulary
        attention = 12 * self.layers * self.hidden * mean_length
        if self.lora is None:
            return 6 * weights + attention
        adapter = self.layers * sum(self.lora.r * (a + b) for a, b in self.linear_layers())
        return 4 * weights + 6 * adapter + attention


SHAPES = {
    "8B-lora": Shape(4096, 14336, 32, 32, 8, 128_256, tied=False, lora=LoraSettings()),
    "3B-full": Shape(3072, 8192, 28, 24, 8, 128_256, tied=True, lora=None),
}
_SMALL = {"context": 256, "steps": 3, "batch": 2, "words": 10, "pairs": 4, "rationale_tokens": 8}
TINY = {
    "tiny-lora": Shape(128, 256, 2, 4, 2, 1024, tied=False, lora=LoraSettings(r=4, alpha=8), **_SMALL),  # type: ignore[arg-type]
    "tiny-full": Shape(128, 256, 2, 4, 2, 1024, tied=True, lora=None, **_SMALL),  # type: ignore[arg-type]
}


def new_base(shape: Shape, folder: Path) -> None:
    """Random weights in bfloat16, with the tokenizer of the world: the time of a step does not depend on either."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = build_tokenizer()
    torch.set_default_dtype(torch.bfloat16)
    config = LlamaConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.hidden, intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        max_position_embeddings=2 * shape.context, tie_word_embeddings=shape.tied,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    with torch.device("cuda" if visible_gpus() else "cpu"):
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder, save_jinja_files=False)


def example_rows(shape: Shape, n: int) -> Iterator[dict[str, Any]]:
    """Seeded examples, whose two responses and rationale have `shape.words` words (tokens) each on average."""
    rng = random.Random(7)

    def text() -> str:
        return " ".join(rng.choice(taste.WORDS) for _ in range(rng.randint(shape.words // 2, shape.words * 3 // 2)))

    for i in range(n):
        pair = ResponsePair(str(i), taste.draw_pairs(1, seed=i)[0].pair.prompt, text(), text())
        yield RationalePair(pair, "A", text() + " So A is better.").to_json()


def settings(shape: Shape, base: Path) -> ModelSettings:
    return ModelSettings(
        judge_base=str(base), prover_base=str(base), judge_prompt="compact", max_tokens=shape.context, dtype="auto"
    )
