"""A prompt template: text with named fields, filled without touching anything else in it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files

from data.records import Message

_FIELD = re.compile(r"\{(user_input|input|response_1|response_2|response_a|response_b|label)\}")


@dataclass(frozen=True)
class Template:
    """The text of ``prompts/templates/<name>.txt``, with an ending appended to it where one is given."""

    name: str
    ending: str = ""

    @cached_property
    def text(self) -> str:
        return files("prompts").joinpath(f"templates/{self.name}.txt").read_text(encoding="utf-8") + self.ending

    @property
    def sha256(self) -> str:
        """What a manifest and the tests pin: a changed prompt is a changed experiment."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def fill(self, **fields: str) -> str:
        """The text with every field replaced once; braces inside the values stay as they are.

        Raises KeyError for a field of the template that is not given.
        """
        return _FIELD.sub(lambda match: fields[match.group(1)], self.text)


def render_conversation(prompt: tuple[Message, ...]) -> str:
    """The user's input x as one text: a lone user turn is its own text, longer conversations name each speaker."""
    if len(prompt) == 1 and prompt[0].role == "user":
        return prompt[0].content
    return "\n\n".join(f"{message.role.capitalize()}: {message.content}" for message in prompt)
