"""Prompts and responses as trainers have them: one text, rendered by the policy's chat template.

::

    prompt  <|im_start|>user\\nWhy?<|im_end|>\\n<|im_start|>assistant\\n
    query   <|im_start|>user\\nWhy?<|im_end|>\\n<|im_start|>assistant\\nBecause.<|im_end|>

The judge has a template of its own: it is shown the conversation and the response, not the policy's marks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from data.records import Message
from tasks.model.endpoint import SPECIAL
from tasks.reward.limits import RefusedError
from tasks.reward.protocol import turns_of
from tasks.reward.trainers import REPLY

_LEADING = re.compile(rf"(?:{SPECIAL.pattern})\s*")
_ROLES = {"system": "system", "user": "user", "assistant": "assistant", "model": "assistant"}
_DEFAULT_SYSTEM = re.compile(
    r"Cutting Knowledge Date: [^\n]*\nToday Date: [^\n]*\s*"  # Llama 3.1 and 3.2, before the text of a system turn
    r"|You are Qwen, created by Alibaba Cloud\. You are a helpful assistant\.\Z"  # Qwen2.5
    r"|You are a helpful AI assistant named SmolLM, trained by Hugging Face\Z"  # SmolLM2
)
"""What templates write into a system turn by themselves: it speaks to the policy, and is no part of the question.

As in the templates of TRL 1.16 (trl/chat_templates) and of SmolLM2-135M-Instruct. Qwen2's "You are a helpful assistant." stays:
a user may have said it."""


@dataclass(frozen=True)
class _Template:
    """How a family of models marks turns, as regular expressions; `header` has the role in its group."""

    begin: str
    header: str
    end: str

    def read(self, prompt: str) -> list[dict[str, str]] | None:
        """The turns of a prompt that is nothing but turns and the header of a reply, which may have begun to think."""
        place = re.compile(f"(?:{self.begin})?").match(prompt)
        at = place.end() if place else 0
        turn, turns = re.compile(rf"{self.header}(.*?){self.end}", re.DOTALL), []
        while found := turn.match(prompt, at):
            if found[1] not in _ROLES:
                return None
            turns.append({"role": _ROLES[found[1]], "content": found[2].strip()})
            at = found.end()
        reply = re.compile(rf"{self.header}\s*(?:<think>\s*(?:</think>\s*)?)?").fullmatch(prompt, at)
        return turns if turns and reply and _ROLES.get(reply[1]) == "assistant" else None


_TEMPLATES = (
    _Template(r"", r"<\|im_start\|>(\w+)\n", r"<\|im_end\|>\n?"),  # Qwen, SmolLM, Hermes: ChatML
    _Template(r"<\|begin_of_text\|>", r"<\|start_header_id\|>(\w+)<\|end_header_id\|>\n\n", r"<\|eot_id\|>"),  # Llama 3
    _Template(r"<bos>", r"<start_of_turn>(\w+)\n", r"<end_of_turn>\n?"),  # Gemma
)


def conversation_of(prompt: object, where: str) -> tuple[Message, ...]:
    """The conversation in a trainer's prompt: messages, a plain text, or one in a chat template that is known here.

    Raises RefusedError, naming `where`, for a text in another template: its marks would reach the judge as the user's words.
    """
    if not isinstance(prompt, str):
        return turns_of(prompt)
    for template in _TEMPLATES:
        if (turns := template.read(prompt)) is not None:
            return without_default_system(turns_of(turns))
    if mark := SPECIAL.match(prompt.lstrip()) or REPLY.search(prompt[-200:]):
        raise RefusedError(
            f"{where} is in a chat template that is not known here (it has {mark[0].strip()!r}): give the conversation in the "
            'label, as {"reference": "…", "messages": [{"role": "user", "content": "…"}]}'
        )
    return turns_of(prompt)


def without_default_system(turns: tuple[Message, ...]) -> tuple[Message, ...]:
    """The turns without what a template has put into the first by itself."""
    first = turns[0]
    if first.role != "system" or not (found := _DEFAULT_SYSTEM.match(first.content)):
        return turns
    left = first.content[found.end() :]
    return (Message("system", left), *turns[1:]) if left else turns[1:]


def without_end(response: str) -> str:
    """A response without the special tokens that end it."""
    end = len(response)
    for mark in reversed(list(SPECIAL.finditer(response))):  # one pattern for all of them would take quadratic time
        if response[mark.end() : end].strip():
            break
        end = mark.start()
    return response[:end]


def response_of(query: str, prompt: str, where: str) -> str:
    """What follows the prompt in a query, without the special tokens that end it.

    Either may begin with a special token, such as that of the beginning of a text, that the other has not. Raises RefusedError,
    naming `where`, if the query does not begin with the prompt.
    """
    for begins in (prompt, _LEADING.sub("", prompt, count=1)):
        for text in (query, _LEADING.sub("", query, count=1) if _LEADING.match(query) else query):
            if text.startswith(begins):
                return without_end(text[len(begins) :])
    raise RefusedError(
        f"{where} does not begin with its prompt, so the response in it is not known: {query[:60]!r} … against {prompt[:60]!r}"
        " …; a trainer cuts prompts that are too long at their beginning: raise its limit, or leave them out"
    )
