"""The only place where chat templates are applied, for training and generation alike.

A training example is ``prompt_ids + completion_ids``; generation gets exactly the same ``prompt_ids``. The completion
never goes through the template: templates of reasoning models may strip ``<think>`` from it. Some write the ``<think>``
themselves, at the end of the prompt: a judge is then trained on the rest of its reply, and what it generates is read as such.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from jinja2 import TemplateError

from data.records import Message, PreferencePair, ResponsePair
from prompts.judge import JudgePrompt
from prompts.prove import ProverPrompt
from prompts.template import ZERO_WIDTH_SPACE
from tasks.model.folder import ModelError, base_of_adapter, check_model_folder

_SENTINEL = "\u2042reply\u2042"
DATE = "26 Jul 2024"
"""The date given to Llama 3's template instead of today's: a prompt must not change from one day to the next."""

_THINK = "<think>"
_OPENED = re.compile(rf"{_THINK}\s*\Z")
_SYSTEM = "{{%- if messages[0]['role'] != 'system' %}}{{% set messages = [{0}] + messages %}}{{% endif -%}}"
_CUT_MARK = " […] "
_REPLY_TAGS = frozenset({"<think>", "</think>", "<answer>", "</answer>"})


class ChatTemplateError(ValueError):
    """A tokenizer whose chat template cannot be used for a judge or prover."""


def prefixed(template: str, setting: str) -> str:
    """A chat template that begins with this setting, once."""
    return setting + template.removeprefix(setting)


def load_tokenizer(model: str, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a model, given by folder or hub name. Raises ModelError if there is none that can be loaded."""
    from transformers import AutoTokenizer

    try:
        # Mistral's own format has no chat template, and transformers prefers it where its file lies beside the others.
        return AutoTokenizer.from_pretrained(model, trust_remote_code=trust_remote_code, mistral_format=False)
    except Exception as error:  # whatever its files make the libraries raise
        if base_of_adapter(model) is not None:
            check_model_folder(model)
        problem = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelError(
            f"the tokenizer of {model} cannot be loaded ({problem}): if files are missing, copy those of its base model there"
        ) from error


@dataclass(frozen=True)
class Encoded:
    """A prompt as token ids, or as messages; `truncated` is true if the pair had to be shortened to fit.

    `opened` is the beginning of the reply that the prompt already ends with, see `ChatEncoder.opened`.
    """

    ids: list[int]
    truncated: bool = False
    messages: tuple[Message, ...] = ()
    opened: str = ""


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
                f"the chat template of {tokenizer.name_or_path!r} puts today's date into every prompt and does not let it "
                "be set, so prompts would differ between training and later use. Use a template without the date"
            )
        self.tokenizer = tokenizer

    @classmethod
    def load(cls, model: str, trust_remote_code: bool = False, system: str | None = None) -> ChatEncoder:
        """The encoder for a model, given by folder or hub name.

        A `system` turn begins every prompt that has none of its own. It is written into the chat template, so that it is there
        wherever the tokenizer is used that a trained model is saved with: in generation, in vLLM's server, by transformers.
        Raises ModelError if it has no usable tokenizer, and ChatTemplateError if its chat template cannot be used.
        """
        tokenizer = load_tokenizer(model, trust_remote_code)
        if isinstance(tokenizer.chat_template, dict):  # several, by name; those for tools are not used
            tokenizer.chat_template = tokenizer.chat_template.get("default")
        if system is not None and tokenizer.chat_template:
            turn = json.dumps({"role": "system", "content": system}, ensure_ascii=False)
            tokenizer.chat_template = prefixed(tokenizer.chat_template, _SYSTEM.format(turn))
        encoder = cls(tokenizer)
        try:
            encoder.prompt_ids([Message("user", "x")])
        except TemplateError as error:
            raise ChatTemplateError(
                f"the chat template of {model!r} cannot be rendered ({error}): correct it, or use that of its base model"
            ) from error
        return encoder

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of the messages in the chat template, up to where the assistant's reply begins."""
        turns = [{"role": message.role, "content": self.defuse(message.content)} for message in messages]
        ids = self.tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, tokenize=True, return_dict=False, date_string=DATE
        )
        return [int(token) for token in ids]

    def completion_ids(self, text: str) -> list[int]:
        """Token ids of an assistant's reply, including the end-of-turn token."""
        return [*self.text_ids(self.defuse(text)), self.end_id]

    def reply_ids(self, reply: str) -> list[int]:
        """`completion_ids` of a judge's reply, without the beginning that the template has already written (`opened`)."""
        if self.opened and reply.startswith(_THINK):
            reply = reply.removeprefix(_THINK)
            reply = reply if self.opened == _THINK else reply.lstrip()
        return self.completion_ids(reply)

    @cached_property
    def opened(self) -> str:
        """What the template itself writes of a reply, at the end of every prompt: ``<think>``, perhaps with a line break.

        Empty for most models; DeepSeek-R1, QwQ and Qwen3-Thinking are made to think this way.
        """
        turn = [{"role": "user", "content": "x"}]
        rendered = self.tokenizer.apply_chat_template(
            turn, add_generation_prompt=True, tokenize=False, date_string=DATE
        )
        found = _OPENED.search(rendered)
        return found[0] if found else ""

    def defuse(self, text: str) -> str:
        """The text, with any special tokens spelled out in it altered so that they are not tokenized as such.

        A response that contains ``<|im_end|>`` must not end the user's turn. A zero-width space after the first
        character keeps it readable for people and the model. The tags of a reply are left alone, although some
        tokenizers mark ``<think>`` as special: a judge is trained to write them, and the prompt templates fence them.
        """
        return self._special.sub(lambda match: match[0][0] + ZERO_WIDTH_SPACE + match[0][1:], text)

    @cached_property
    def _special_tokens(self) -> frozenset[str]:
        """All tokens marked as special: `all_special_tokens` has only those with a role, such as end of text."""
        added = self.tokenizer.added_tokens_decoder.values()
        return frozenset(token.content for token in added if token.special) | {*self.tokenizer.all_special_tokens}

    @cached_property
    def _special(self) -> re.Pattern[str]:
        longest_first = sorted(self._special_tokens - _REPLY_TAGS, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def text_ids(self, text: str) -> list[int]:
        """Token ids of plain text, with no special tokens added."""
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
        """The tokens of the labels "A" and "B" at the start of a reply.

        Raises ChatTemplateError, showing the ids, if either is not a single token or both are the same.
        """
        a, b = (self.text_ids(label) for label in ("A", "B"))
        if len(a) != 1 or len(b) != 1 or a == b:
            raise ChatTemplateError(
                f'the labels are not distinct single tokens in {self.tokenizer.name_or_path!r}: "A" is {a} and "B" is {b}. '
                "The verdict of a label-only judge is read from these tokens' probabilities: use another tokenizer"
            )
        return a[0], b[0]

    def judge_ids(self, prompt: JudgePrompt, pair: ResponsePair, budget: int, overlong: str) -> Encoded | None:
        """The judge's prompt for a pair within `budget` tokens, or None if it is too long and cannot be shortened."""
        encoded = self._fit(lambda shown: self.prompt_ids(prompt.render(shown)), pair, budget, overlong)
        return replace(encoded, opened=self.opened) if encoded and prompt.has_rationale else encoded

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
        """The pair, shortened to `budget` tokens if need be, its ids from `encode`, and whether it was shortened.

        None if it does not fit.
        """
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
        """The pair with `excess` fewer tokens, or None if that would leave a field empty.

        The budget is shared fairly (max-min): a field shorter than its share is kept whole, and the rest of its share
        goes to the longer ones. Each field keeps its beginning and end. Of the prompt, only the last user turn is cut.
        """
        fields = [pair.prompt[-1].content, pair.response_a, pair.response_b]
        tokens = [self.text_ids(text) for text in fields]
        # Each cut inserts a mark, which takes tokens itself.
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
        # A cut inside a multi-byte character leaves replacement characters at its edge.
        kept_head = str(self.tokenizer.decode(ids[:head])).rstrip("\ufffd")
        return kept_head + _CUT_MARK + str(self.tokenizer.decode(tail)).lstrip("\ufffd")


def fair_shares(lengths: Sequence[int], budget: int) -> list[int] | None:
    """Max-min fair shares of a token budget: no field gets more than it needs, and the rest is shared equally.

    None if the budget is below one token per field.
    """
    if budget < len(lengths):
        return None
    shares = [0] * len(lengths)
    left = budget
    for position, index in enumerate(sorted(range(len(lengths)), key=lambda i: lengths[i])):
        shares[index] = min(lengths[index], left // (len(lengths) - position))
        left -= shares[index]
    return shares
