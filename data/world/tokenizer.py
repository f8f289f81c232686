"""The tokenizer of the world: byte-level BPE in which every word of the lexicon is one token after a space.

A judge's prompt with a reply::

    <|bos|><|user|>Taste?
    A: zuvi vato nobu vudo
    B: fero diku tiza pima
    Better?<|end|><|assistant|><think> A: zuvi no … So A is better. </think><answer>A</answer><|end|>

The merges are constructed, not learned from a corpus: they are the same on every machine and with every release, and none
is wasted. Any other text falls back to syllables and bytes, so everything round-trips.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from data.world import taste

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL = {"pad": "<|pad|>", "bos": "<|bos|>", "system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
END = "<|end|>"
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
"""Single tokens, but not special ones: a reply decoded without special tokens must still contain them."""

_AFTER_A_SPACE = ("yes", "no", "A", "B", "=", "0", "1", "2", "3", "4", "So", "is", "better", "Why")
FORM: tuple[str, ...] = (*(f" {text}" for text in _AFTER_A_SPACE), "Taste", "Better", "Because")
"""The remaining pieces of prompts and replies; each becomes one token, including its leading space."""

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('role must be system, user or assistant, got ' ~ message['role']) }}"
    "{% endif %}"
    "{{ '<|' ~ message['role'] ~ '|>' ~ message['content'] ~ eos_token }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""A prompt with its generation prompt, a completion and the end token concatenate to the whole conversation, token by token."""


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of both base models. It adds no tokens itself: the chat template writes the BOS token."""
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.decoders import ByteLevel as ByteLevelDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import PreTrainedTokenizerFast

    vocab, merges = _vocab_and_merges()
    core: Any = Tokenizer(BPE(vocab=vocab, merges=merges))
    core.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=True)
    core.decoder = ByteLevelDecoder()
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in [*SPECIAL.values(), END]])
    core.add_tokens([AddedToken(token, special=False, normalized=False) for token in TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=SPECIAL["bos"],
        eos_token=END,
        pad_token=SPECIAL["pad"],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=512,
        padding_side="left",
    )


def _vocab_and_merges() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Token → id, and the merges in order: the syllables, then each word from its two syllables, then `FORM`."""
    from tokenizers.pre_tokenizers import ByteLevel

    space = "Ġ"
    merges = [(syllable[0], syllable[1]) for syllable in taste.SYLLABLES]
    merges += [(space, head) for head in dict.fromkeys(word[:2] for word in taste.WORDS)]
    merges += [(space + word[:2], word[2:]) for word in taste.WORDS]
    for text in FORM:
        tokens = _apply(merges, text.replace(" ", space))
        while len(tokens) > 1:
            merges.append((tokens[0], tokens[1]))
            tokens = [tokens[0] + tokens[1], *tokens[2:]]
    tokens = [*SPECIAL.values(), END, *TAGS, *sorted(ByteLevel.alphabet()), *(a + b for a, b in merges)]
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}, merges


def _apply(merges: list[tuple[str, str]], text: str) -> list[str]:
    """The tokens of one piece of text: standard BPE, earliest merge first."""
    rank = {pair: i for i, pair in reversed(list(enumerate(merges)))}
    tokens = list(text)
    while pairs := [(rank[pair], i) for i, pair in enumerate(pairwise(tokens)) if pair in rank]:
        i = min(pairs)[1]
        tokens[i : i + 2] = [tokens[i] + tokens[i + 1]]
    return tokens
