"""The text of a finished reply is what vLLM's own detokenizer writes token by token, for tokenizers of every kind."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from tasks.model.vllm import decode
from tests.support.families import FAMILIES, build_tokenizer
from tests.support.templates import TEXTS

REPLY = "<think>\n Überzeugend: “naïve” 🙂👍🏽 or  two spaces . So A is better .\n</think>\n<answer>A</answer>"


def token_by_token(core: Tokenizer, prompt: Sequence[int], ids: Sequence[int]) -> str:
    """As vLLM's `FastIncrementalDetokenizer` does it, with special tokens kept."""
    stream = decoders.DecodeStream(ids=list(prompt), skip_special_tokens=False)
    return "".join(stream.step(core, token) or "" for token in ids)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_reply_is_decoded_as_token_by_token(family: Any) -> None:
    tokenizer = build_tokenizer(family, [*TEXTS, "So A is better ."])
    prompt = tokenizer.encode("Which is better? é", add_special_tokens=True)
    ids = tokenizer.encode(REPLY, add_special_tokens=False)
    special = [tokenizer.convert_tokens_to_ids(token) for token in family.special]
    draw = random.Random(0)
    for end in range(len(ids) + 1):  # cut off anywhere, also inside a character
        some = list(ids[:end])
        some.insert(draw.randrange(end + 1), draw.choice(special))
        expected = token_by_token(tokenizer.backend_tokenizer, prompt, some)
        assert decode(tokenizer, prompt, some) == expected
        # From the cut on, behind the same prompt.
        assert decode(tokenizer, prompt, [*some, *ids[end:]]) == token_by_token(
            tokenizer.backend_tokenizer, prompt, [*some, *ids[end:]]
        )
    assert decode(tokenizer, prompt, []) == ""


def test_a_reply_begins_with_its_space_where_words_carry_it() -> None:
    """As with Llama 2's: alone, the tokens would be decoded without it."""
    vocabulary = ["<unk>", "<s>", "▁Why", "▁A", "▁is", "A", "\n", *(f"<0x{byte:02X}>" for byte in range(256))]
    core = Tokenizer(models.BPE({token: i for i, token in enumerate(vocabulary)}, [], byte_fallback=True))
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")
    prompt = [1, 2]
    smile = [7 + byte for byte in "🙂".encode()]
    for ids in ([3, 4], [5, 4], [3, 6, 3], [3, *smile, 4], [3, *smile[:2]], smile):
        assert decode(tokenizer, prompt, ids) == token_by_token(core, prompt, ids)
    assert decode(tokenizer, prompt, [3, 4]) == " A is"
    assert decode(tokenizer, prompt, [3, *smile[:2]]) == " A"
