"""A tiny policy of the small world: it is asked for a response of four words, and does not know which words are liked.

A prompt with a response::

    <|bos|><|user|>Taste? 3 1<|end|><|assistant|>pafi vato gizu razo<|end|>

The two digits only make prompts differ, so that a batch has one group a prompt. A judge of the world does not mind them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from data.records import Message
from data.world import taste
from data.world.tokenizer import build_tokenizer
from tests.world.build_bases import encode, new_model, new_optimizer, save

PROMPTS = tuple(f"{taste.QUESTION} {a} {b}" for a, b in product(range(5), repeat=2))
LEXICON = frozenset(taste.WORDS)
MAX_NEW_TOKENS = 16
"""A good response has six: the first word, without a space before it, is two tokens. Longer ones must be possible to be seen."""
SUPERVISED_STEPS, BATCH_SIZE, LEARNING_RATE = 500, 64, 3e-3


def is_well_formed(response: str) -> bool:
    """Whether it is what the world draws: four different words of the lexicon."""
    words = response.split(" ")
    return len(words) == len(set(words)) == taste.WORDS_PER_RESPONSE and LEXICON.issuperset(words)


def repeats_a_word(response: str) -> bool:
    words = response.split()
    return len(set(words)) < len(words)


def true_quality(response: str) -> float:
    """The share of its words that are liked. A response that is not well-formed is worth nothing."""
    return sum(map(taste.likes, response.split())) / taste.WORDS_PER_RESPONSE if is_well_formed(response) else 0.0


def true_win_share(response: str, other: str) -> float:
    """What a judge that knows the taste would say: 1, ½ or 0."""
    gap = true_quality(response) - true_quality(other)
    return 0.5 if gap == 0 else float(gap > 0)


def write_policy(folder: Path, seed: int, n_steps: int = SUPERVISED_STEPS) -> None:
    """Trains a new model on random responses, so that it writes four words of any taste, and writes it as a folder."""
    tokenizer = build_tokenizer()
    model = new_model(tokenizer, seed)
    rng = random.Random(f"{taste.WORLD_SEED}/policy/{seed}")
    optimizer, scheduler = new_optimizer(model, LEARNING_RATE, n_steps, warm_up=n_steps // 20)
    model.train()
    for _ in range(n_steps):
        documents = [
            ((Message("user", rng.choice(PROMPTS)),), " ".join(rng.sample(taste.WORDS, taste.WORDS_PER_RESPONSE)))
            for _ in range(BATCH_SIZE)
        ]
        ids_BT, labels_BT = encode(tokenizer, documents)
        model(input_ids=ids_BT, labels=labels_BT, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad(set_to_none=True)
    save(model, tokenizer, folder)


def sample(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str], seed: int) -> list[str]:
    """One response to each prompt, at temperature 1."""
    torch.manual_seed(seed)
    model.eval()
    chats = [chat(tokenizer, prompt) for prompt in prompts]
    batch = tokenizer(chats, add_special_tokens=False, padding=True, return_tensors="pt", return_token_type_ids=False)
    how: dict[str, Any] = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    with torch.inference_mode():
        out_BT = model.generate(**batch, max_new_tokens=MAX_NEW_TOKENS, **how)
    return tokenizer.batch_decode(out_BT[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)


def chat(tokenizer: PreTrainedTokenizerFast, prompt: str) -> str:
    messages = [{"role": "user", "content": prompt}]
    return str(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))


def log_probabilities(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str], responses: Sequence[str]
) -> torch.Tensor:
    """The natural log of the probability that the model gives each response with its end, of shape (B,)."""
    documents = [((Message("user", prompt),), text) for prompt, text in zip(prompts, responses, strict=True)]
    ids_BT, labels_BT = encode(tokenizer, documents)
    with torch.inference_mode():
        logprobs_BTV = model(input_ids=ids_BT, use_cache=False).logits[:, :-1].log_softmax(-1)
    next_BT = labels_BT[:, 1:]
    chosen_BT = logprobs_BTV.gather(-1, next_BT.clamp(min=0)[..., None])[..., 0]
    return (chosen_BT * (next_BT != -100)).sum(1)
