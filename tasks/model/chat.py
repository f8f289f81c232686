"""The one place where a chat template meets a tokenizer, for training and for generation alike.

A training example is ``prompt_ids + completion_ids``; generation is given exactly the same ``prompt_ids``. The
completion is never put through the template: templates of reasoning models may strip ``<think>`` from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from data.records import Message, PreferencePair, ResponsePair
from prompts.judge import JudgePrompt
from prompts.prove import ProverPrompt
from prompts.template import ZERO_WIDTH_SPACE

_SENTINEL = "\u2042reply\u2042"
DATE = "26 Jul 2024"
"""What Llama 3's template says today is, in place of the clock: a prompt must not change from one day to the next."""

_CUT_MARK = " […] "
_REPLY_TAGS = frozenset({"<think>", "</think>", "<answer>", "</answer>"})


class ChatTemplateError(ValueError):
    """A tokenizer whose chat template cannot serve as a judge's or prover's."""


@dataclass(frozen=True)
class Encoded:
    """A prompt as token ids, or as messages; `truncated` says whether the pair had to be shortened to fit."""

    ids: list[int]
    truncated: bool = False
    messages: tuple[Message, ...] = ()


class ChatEncoder:
    """Turns chat messages and completions into token ids with one tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        if not tokenizer.chat_template:
            raise ChatTemplateError(
                f"{tokenizer.name_or_path!r} has no chat template: use an instruction-tuned model, "
                "or a tokenizer_config.json with a chat_template"
            )
        if "strftime_now" in tokenizer.chat_template and "date_string" not in tokenizer.chat_template:
            raise ChatTemplateError(
                f"the chat template of {tokenizer.name_or_path!r} puts today's date into every prompt and lets nobody set "
                "it: what is trained today would not be what is asked tomorrow. Use a template without it"
            )
        self.tokenizer = tokenizer

    @classmethod
    def load(cls, model: str, trust_remote_code: bool = False) -> ChatEncoder:
        """The encoder of a model's folder or hub name."""
        from transformers import AutoTokenizer

        return cls(AutoTokenizer.from_pretrained(model, trust_remote_code=trust_remote_code))

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of the messages in the chat template, up to where the assistant's reply begins."""
        turns = [{"role": message.role, "content": self.defuse(message.content)} for message in messages]
        ids = self.tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, tokenize=True, return_dict=False, date_string=DATE
        )
        return [int(token) for token in ids]

    def completion_ids(self, text: str) -> list[int]:
        """Token ids of an assistant's reply with the token that ends its turn."""
        return [*self.text_ids(self.defuse(text)), self.end_id]

    def defuse(self, text: str) -> str:
        """The text with special tokens that are spelled out in it kept from becoming the real ones.

        A response that spells ``<|im_end|>`` must not end the user's turn. A zero-width space behind the first
        character leaves it readable, to people and to the model. The tags of a reply are left as they are, though a
        tokenizer may call ``<think>`` special: a judge is trained to write them, and a prompt's template fences them.
        """
        return self._special.sub(lambda match: match[0][0] + ZERO_WIDTH_SPACE + match[0][1:], text)

    @cached_property
    def _special_tokens(self) -> frozenset[str]:
        """All that the tokenizer calls special: `all_special_tokens` has only those that have a part, such as ending a text."""
        added = self.tokenizer.added_tokens_decoder.values()
        return frozenset(token.content for token in added if token.special) | {*self.tokenizer.all_special_tokens}

    @cached_property
    def _special(self) -> re.Pattern[str]:
        longest_first = sorted(self._special_tokens - _REPLY_TAGS, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def text_ids(self, text: str) -> list[int]:
        """Token ids of bare text, no special tokens added."""
        return [int(token) for token in self.tokenizer.encode(text, add_special_tokens=False)]

    @cached_property
    def end_id(self) -> int:
        """The token that ends an assistant's turn in this template, such as ``<|eot_id|>`` or ``<|im_end|>``."""
        turn = [{"role": "user", "content": "x"}, {"role": "assistant", "content": _SENTINEL}]
        rendered = self.tokenizer.apply_chat_template(turn, tokenize=False, date_string=DATE)
        _, found, tail = rendered.partition(_SENTINEL)
        ids = self.text_ids(tail.strip())
        if not found or not ids or self.tokenizer.convert_ids_to_tokens(ids[0]) not in self._special_tokens:
            raise ChatTemplateError(
                f"the chat template of {self.tokenizer.name_or_path!r} does not end an assistant's turn with a special "
                f"token (it ends with {tail!r}): a model trained with it could never stop"
            )
        return ids[0]

    def response_ids(self, prompt: Sequence[Message], response: str) -> list[int]:
        """Token ids of a conversation that ends with the response: what a discriminative model scores."""
        return [*self.prompt_ids(prompt), *self.completion_ids(response)]

    @cached_property
    def label_ids(self) -> tuple[int, int]:
        """The tokens of the labels "A" and "B" as a reply begins with them.

        Raises ChatTemplateError, with the ids, where one of them is not a single token, or both are the same.
        """
        a, b = (self.text_ids(label) for label in ("A", "B"))
        if len(a) != 1 or len(b) != 1 or a == b:
            raise ChatTemplateError(
                f'the labels are not one token each in {self.tokenizer.name_or_path!r}: "A" is {a} and "B" is {b}. '
                "A judge that gives the label alone is read from the probabilities of its token: use another tokenizer"
            )
        return a[0], b[0]

    def judge_ids(self, prompt: JudgePrompt, pair: ResponsePair, budget: int, overlong: str) -> Encoded | None:
        """The judge's prompt for a pair within `budget` tokens, or None where it is too long and may not be shortened."""
        return self._fit(lambda shown: self.prompt_ids(prompt.render(shown)), pair, budget, overlong)

    def prover_ids(
        self, prompt: ProverPrompt, preference: PreferencePair, budget: int, overlong: str
    ) -> Encoded | None:
        """The prover's prompt for a labeled pair within `budget` tokens, or None as in `judge_ids`."""
        label = preference.label
        return self._fit(
            lambda shown: self.prompt_ids(prompt.render(PreferencePair(shown, label))),
            preference.pair,
            budget,
            overlong,
        )

    def _fit(
        self, encode: Callable[[ResponsePair], list[int]], pair: ResponsePair, budget: int, overlong: str
    ) -> Encoded | None:
        fitted = self.fit_pair(encode, pair, budget, overlong)
        return None if fitted is None else Encoded(fitted[1], fitted[2])

    def fit_pair(
        self, encode: Callable[[ResponsePair], list[int]], pair: ResponsePair, budget: int, overlong: str
    ) -> tuple[ResponsePair, list[int], bool] | None:
        """The pair as it fits `budget` tokens, its ids by `encode`, and whether it was shortened; None where it does not."""
        ids = encode(pair)
        if len(ids) <= budget:
            return pair, ids, False
        if overlong == "drop":
            return None
        # Tokens at the seams merge differently once text is cut, so the first try can be a few tokens off.
        excess = len(ids) - budget
        for _ in range(8):
            shortened = self.shorten(pair, excess)
            if shortened is None:
                return None
            ids = encode(shortened)
            if len(ids) <= budget:
                return shortened, ids, True
            excess += len(ids) - budget
        return None

    def shorten(self, pair: ResponsePair, excess: int) -> ResponsePair | None:
        """The pair with `excess` tokens less, or None where that would leave a field empty.

        The budget is shared fairly (max-min): a field shorter than its share keeps all, and its rest goes to the
        longer ones. Each field keeps its beginning and its end. Only the last user turn of the question is cut.
        """
        fields = [pair.prompt[-1].content, pair.response_a, pair.response_b]
        tokens = [self.text_ids(text) for text in fields]
        # A cut costs a mark, which takes tokens itself.
        mark = len(self.text_ids(_CUT_MARK)) + 2
        shares = fair_shares([len(t) for t in tokens], sum(map(len, tokens)) - excess - 3 * mark)
        if shares is None:
            return None
        question, a, b = (
            text if share >= len(ids) else self._keep_ends(ids, share)
            for text, ids, share in zip(fields, tokens, shares, strict=True)
        )
        last = replace(pair.prompt[-1], content=question)
        return replace(pair, prompt=(*pair.prompt[:-1], last), response_a=a, response_b=b)

    def _keep_ends(self, ids: list[int], share: int) -> str:
        head = (share + 1) // 2
        tail = ids[len(ids) - (share - head) :] if share > head else []
        # A cut between the bytes of one character leaves replacement characters at its edge.
        kept_head = str(self.tokenizer.decode(ids[:head])).rstrip("\ufffd")
        return kept_head + _CUT_MARK + str(self.tokenizer.decode(tail)).lstrip("\ufffd")


def fair_shares(lengths: Sequence[int], budget: int) -> list[int] | None:
    """Max-min fair shares of a token budget: nobody gets more than it needs, and what is left is shared equally.

    None where the budget is under one token a field.
    """
    if budget < len(lengths):
        return None
    shares = [0] * len(lengths)
    left = budget
    for position, index in enumerate(sorted(range(len(lengths)), key=lambda i: lengths[i])):
        shares[index] = min(lengths[index], left // (len(lengths) - position))
        left -= shares[index]
    return shares
