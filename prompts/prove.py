"""The prover's contract: given a pair *and* its label, it writes a proof ẑ of that label.

A proof is an opening sentence followed by a rationale z::

    Here is my justification for why the selected response is the better one.
    Feedback:
    …

The rule is reversible (METHOD, stage 1): ``to_rationale(to_proof(z)) == z`` for every z.
"""

from __future__ import annotations

from dataclasses import dataclass

from data.records import Message, PreferencePair, content_id
from prompts.template import Template, render_conversation


@dataclass(frozen=True)
class ProverPrompt:
    """One proving prompt, and the opening that turns a rationale into a proof."""

    name: str
    template: Template
    opening: str

    @property
    def digest(self) -> str:
        """The hash of the whole contract, which goes into the keys of stages that use it."""
        alone = [message.to_json() for message in self.render_unconditional()]
        return content_id(self.template.contract, self.opening, alone)

    def render(self, preference: PreferencePair) -> tuple[Message, ...]:
        """The input (s, l) as chat messages."""
        text = self.template.fill(
            user_input=render_conversation(preference.pair.prompt),
            response_1=preference.pair.response_a,
            response_2=preference.pair.response_b,
            label=preference.label,
        )
        return (Message("user", text),)

    def render_unconditional(self) -> tuple[Message, ...]:
        """The prefix of π_ψ(ẑ) in Eq. 5: the same chat turn without s and l, that is, an empty one."""
        return (Message("user", ""),)

    def to_proof(self, rationale: str) -> str:
        """The proof ẑ of a rationale z."""
        return self.opening + rationale

    def to_rationale(self, proof: str) -> str | None:
        """The rationale z in a proof ẑ, or None if the proof does not begin with the opening."""
        return proof[len(self.opening) :] if proof.startswith(self.opening) else None


PROVE = ProverPrompt(
    "prove", Template("prove"), "Here is my justification for why the selected response is the better one.\n"
)
PROVE_COMPACT = ProverPrompt(
    "prove-compact", Template("prove-compact", marks=("A:", "B:", "A is better. Why?", "B is better. Why?")), "Because "
)
