"""``python -m tests.world.build_bases --out data/world``: trains the two base models of the world from a seed.

A common base learns the form and the logic of judging and proving from documents in which every word is liked or not
at random. From it, two models are trained on with the true taste of some words: few for the judge, most for the prover.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from data.records import Message, PreferencePair
from data.world import taste
from data.world.tokenizer import build_tokenizer
from prompts.judge import COMPACT
from prompts.prove import PROVE_COMPACT

BATCH_SIZE = 64
INITIAL_STD = 0.08
"""About 1 / sqrt(hidden size). With the usual 0.02 the weights stay so small that fine-tuning's steps undo copying."""


@dataclass(frozen=True)
class Stage:
    """One training stage: `known` is the share of words whose true taste the documents show."""

    name: str
    n_steps: int
    lr: float
    known: float
    seed: int
    detached: float = 0.0
    """Share of proofs that follow an empty turn: the denominator of Eq. 5 is then a model of proofs, not a guess."""
    noise: float = 0.0
    """Standard deviation of the noise added to every matrix while a gradient is computed; see `noisy`."""


COMMON = Stage("common", 1200, 2e-3, 0.0, 1)
JUDGE = Stage("base-judge", 500, 1e-3, taste.JUDGE_KNOWS, 2, noise=0.02)
PROVER = Stage("base-prover", 500, 1e-3, taste.PROVER_KNOWS, 3, detached=0.05, noise=0.02)


def new_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """A Llama of 0.7M random parameters. Head size 32 is the smallest that vLLM's attention on CPU supports."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        initializer_range=INITIAL_STD,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(config)


# ---- documents -------------------------------------------------------------------------------------------------------


def draw_document(rng: random.Random, known: Collection[str], detached: float) -> tuple[tuple[Message, ...], str]:
    """A prompt and its completion, of the judge or the prover: true for the `known` words, random for the others."""
    while True:
        pair = taste.make_pair(rng.sample(taste.WORDS, 2 * taste.WORDS_PER_RESPONSE))
        words = f"{pair.response_a} {pair.response_b}".split()
        believed = {word: taste.likes(word) if word in known else rng.random() < 0.5 for word in words}
        label = taste.verdict(pair, believed.__getitem__)
        if label is not None:
            break
    text = taste.rationale(pair, believed.__getitem__)
    if rng.random() < 0.5:
        return COMPACT.render(pair), COMPACT.target(text, label)
    if rng.random() < detached:
        return PROVE_COMPACT.render_unconditional(), PROVE_COMPACT.to_proof(text)
    return PROVE_COMPACT.render(PreferencePair(pair, label)), PROVE_COMPACT.to_proof(text)


def encode(
    tokenizer: PreTrainedTokenizerFast, documents: list[tuple[tuple[Message, ...], str]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """ids_BT padded on the right, and labels_BT that are -100 except on the completion and its end token.

    Attention is causal, so a document cannot see what follows it, and needs no mask.
    """
    prompts = [
        tokenizer.apply_chat_template([m.to_json() for m in prompt], add_generation_prompt=True, tokenize=False)
        for prompt, _ in documents
    ]
    prompt_ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    completion_ids = tokenizer([completion for _, completion in documents], add_special_tokens=False)["input_ids"]
    longest = max(len(p) + len(c) + 1 for p, c in zip(prompt_ids, completion_ids, strict=True))
    ids_BT = torch.full((len(documents), longest), tokenizer.pad_token_id)
    labels_BT = torch.full_like(ids_BT, -100)
    for row, (prompt, completion) in enumerate(zip(prompt_ids, completion_ids, strict=True)):
        ids = torch.tensor([*prompt, *completion, tokenizer.eos_token_id])
        ids_BT[row, : len(ids)] = ids
        labels_BT[row, len(prompt) : len(ids)] = ids[len(prompt) :]
    return ids_BT, labels_BT


# ---- training --------------------------------------------------------------------------------------------------------


def new_optimizer(
    model: LlamaForCausalLM, lr: float, n_steps: int, warm_up: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW with linear warm-up and a cosine down to a twentieth of `lr`."""

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        done = (step - warm_up) / max(1, n_steps - warm_up)
        return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done))

    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.0)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


@contextmanager
def noisy(model: LlamaForCausalLM, std: float, generator: torch.Generator) -> Iterator[None]:
    """Adds Gaussian noise to the matrices of `model`, and restores them afterwards (up to rounding).

    A base whose loss tolerates noise keeps its format when it is fine-tuned. Judges fine-tuned on 20 pairs at lr 1e-3 copied
    the words in 83 to 88% of greedy replies (3 seeds) from a base without noise, in 96 to 99% from a base with it.
    """
    matrices = [parameter for parameter in model.parameters() if parameter.dim() == 2] if std else []
    noise = [std * torch.randn(matrix.shape, generator=generator) for matrix in matrices]
    with torch.no_grad():
        for matrix, added in zip(matrices, noise, strict=True):
            matrix += added
    yield
    with torch.no_grad():
        for matrix, added in zip(matrices, noise, strict=True):
            matrix -= added


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, stage: Stage) -> None:
    """Trains `model` in place on fresh documents; the loss is on completions only."""
    rng = random.Random(f"{taste.WORLD_SEED}/documents/{stage.name}/{stage.seed}")
    generator = torch.Generator().manual_seed(stage.seed)
    known = taste.known_words(stage.known)
    optimizer, scheduler = new_optimizer(model, stage.lr, stage.n_steps, warm_up=stage.n_steps // 20)
    model.train()
    begin = time.monotonic()
    for step in range(1, stage.n_steps + 1):
        ids_BT, labels_BT = encode(tokenizer, [draw_document(rng, known, stage.detached) for _ in range(BATCH_SIZE)])
        with noisy(model, stage.noise, generator):
            loss = model(input_ids=ids_BT, labels=labels_BT, use_cache=False).loss
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 100 == 0:
            print(f"{stage.name} {step} loss {loss.item():.4f} {time.monotonic() - begin:.0f} s", flush=True)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Saves a plain Hugging Face folder. No sampling defaults: an engine that reads them would override a recipe's."""
    model.generation_config = GenerationConfig(
        pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder, save_jinja_files=False)


def build(out: Path) -> None:
    tokenizer = build_tokenizer()
    common = new_model(tokenizer, COMMON.seed)
    print(f"{sum(p.numel() for p in common.parameters())} parameters, {len(tokenizer)} tokens")
    train(common, tokenizer, COMMON)
    for stage in (JUDGE, PROVER):
        model = new_model(tokenizer, COMMON.seed)
        model.load_state_dict(common.state_dict())
        train(model, tokenizer, stage)
        save(model, tokenizer, out / stage.name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.world.build_bases", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write base-judge and base-prover to")
    parser.add_argument("--threads", type=int, default=2, help="PyTorch threads (default: 2)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    build(arguments.out)
