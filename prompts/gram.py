"""GRAM, the predecessor: a judge whose reply is the single token "A" or "B", and what it is pre-trained on.

The judge's training data and evaluation script end its prompt with ``#Preferred:``, its model card does not; both are
available. A pre-training record shows the question, and the model writes both answers::

    [User Question]
    Why is the sky blue?

    [The Start of Assistant A's Answer]
    Rayleigh scattering.
    [The End of Assistant A's Answer]

    [The Start of Assistant B's Answer]
    It reflects the sea.
    [The End of Assistant B's Answer]
"""

from __future__ import annotations

from dataclasses import dataclass

from data.records import Message, ResponsePair, content_id
from prompts.judge import JudgePrompt
from prompts.template import Template, render_conversation

GRAM = JudgePrompt("gram", Template("gram", ending="\n\n#Preferred:", marks=("#Preferred:",)), "none")
GRAM_CARD = JudgePrompt("gram-card", Template("gram"), "none")


@dataclass(frozen=True)
class PretrainingPrompt:
    """What a model is shown, and what it learns to write, in GRAM's pre-training: log π([y_a, y_b] | x)."""

    name: str
    question: Template
    answers: Template

    @property
    def digest(self) -> str:
        """The hash of the whole contract, which goes into the keys of stages that use it."""
        return content_id(self.question.contract, self.answers.contract)

    def render(self, pair: ResponsePair) -> tuple[Message, ...]:
        """The prompt x as chat messages: one user turn."""
        text = render_conversation(pair.prompt)
        return (Message("user", self.question.fill(input=text, user_input=text)),)

    def target(self, pair: ResponsePair) -> str:
        """Both responses as one completion."""
        a, b = pair.response_a, pair.response_b
        return self.answers.fill(response_a=a, response_b=b, response_1=a, response_2=b)


GRAM_PRETRAINING = PretrainingPrompt("gram-pretraining", Template("gram-question"), Template("gram-answers"))
COMPACT_PRETRAINING = PretrainingPrompt(
    "compact-pretraining", Template("compact-question"), Template("compact-answers", marks=("A:", "B:"))
)
