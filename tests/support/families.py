"""Small tokenizers of the model families that judges and provers are trained from: control tokens and chat template as published.

The templates are those that TRL carries of each family, to know a model by its template. The vocabulary is not theirs:
a word of the prompts is one token. Which tokens are special is: Qwen 3's ``<think>`` is added, but not special.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LLAMA_3 = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
_LLAMA_3_1 = (*_LLAMA_3, "<|finetune_right_pad_id|>", "<|eom_id|>", "<|python_tag|>")
_QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_QWEN_ADDED = ("<tool_call>", "</tool_call>", "<|fim_prefix|>")


@dataclass(frozen=True)
class Family:
    """Control tokens, first the one that begins a text or pads, and others that are single tokens but not special."""

    name: str
    template: str
    special: tuple[str, ...]
    end: str
    added: tuple[str, ...] = ()

    @property
    def begins_with_bos(self) -> bool:
        return self.special[0] in ("<|begin_of_text|>", "<｜begin▁of▁sentence｜>")


LLAMA_3 = Family("llama-3", "llama3", _LLAMA_3, "<|eot_id|>")
LLAMA_3_1 = Family("llama-3.1", "llama3_1", _LLAMA_3_1, "<|eot_id|>")
LLAMA_3_2 = Family("llama-3.2", "llama3_2", _LLAMA_3_1, "<|eot_id|>")
QWEN_2_5 = Family("qwen-2.5", "qwen2_5", _QWEN, "<|im_end|>", _QWEN_ADDED)
QWEN_3 = Family("qwen-3", "qwen3", _QWEN, "<|im_end|>", (*_QWEN_ADDED, "<think>", "</think>"))
DEEPSEEK_R1 = Family(
    "deepseek-r1", "deepseek_r1_distill", ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"),
    "<｜end▁of▁sentence｜>", ("<think>", "</think>"),
)  # fmt: skip
QWEN_THINKING = Family("qwen-thinking", "qwen3_5_think", _QWEN, "<|im_end|>", QWEN_3.added)
THINKERS = (DEEPSEEK_R1, QWEN_THINKING)
"""Their templates end every prompt with ``<think>``; so do QwQ's and Qwen3-Thinking's, in the words of Qwen 3.5's."""
FAMILIES = (LLAMA_3, LLAMA_3_1, LLAMA_3_2, QWEN_2_5, QWEN_3)


def chat_template(name: str) -> str:
    """One of the published templates that TRL carries."""
    spec = importlib.util.find_spec("trl")
    assert spec is not None
    assert spec.origin is not None
    return (Path(spec.origin).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


def build_tokenizer(family: Family, texts: Iterable[str]) -> Any:
    """Byte-level BPE in which every word of these texts is one token. Llama's adds its first token to every text, as theirs."""
    from tokenizers import AddedToken, Regex, Tokenizer, normalizers
    from tokenizers.decoders import ByteLevel as ByteLevelDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
    from tokenizers.processors import TemplateProcessing
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    core: Any = Tokenizer(BPE())
    digits = 3 if family.begins_with_bos else 1
    words = rf" ?\p{{L}}+|\p{{N}}{{1,{digits}}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|[\r\n]+|\s"
    core.pre_tokenizer = Sequence([Split(Regex(words), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)])
    core.decoder = ByteLevelDecoder()
    alphabet = ByteLevel.alphabet()
    core.train_from_iterator(texts, BpeTrainer(vocab_size=20_000, initial_alphabet=alphabet, show_progress=False))
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in family.special])
    core.add_tokens([AddedToken(token, special=False, normalized=False) for token in family.added])
    first = family.special[0]
    if family.begins_with_bos:
        core.post_processor = TemplateProcessing(
            single=f"{first} $A", special_tokens=[(first, core.token_to_id(first))]
        )
    else:
        core.normalizer = normalizers.NFC()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=family.end,
        chat_template=chat_template(family.template),
        clean_up_tokenization_spaces=False,
        **({"bos_token": first} if family.begins_with_bos else {"pad_token": first}),
    )
