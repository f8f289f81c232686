"""The judge's contract: its prompt, the reply it is trained to write, and how a reply is parsed.

A reply of the rationale judge::

    <think>
    Feedback:
    Response A names the cause; Response B repeats a myth.

    Comparision:
    Correctness decides here, and only Response A is correct.

    Conclusion:
    Response A is better.
    </think>
    <answer>
    A
    </answer>
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from data.records import Label, Message, ResponsePair, content_id
from prompts.quotes import ungrounded_quote
from prompts.template import Template, render_conversation

Malformed = Literal[
    "no_think_open",
    "no_think_close",
    "several_think",
    "empty_reply",
    "no_answer",
    "several_answers",
    "text_before_answer",
    "text_after_answer",
    "answer_not_a_or_b",
]
"""Why a reply is not a verdict."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A parsed reply: either a verdict with its rationale, or the reason why there is none."""

    verdict: Label | None
    rationale: str | None = None
    malformed: Malformed | None = None


@dataclass(frozen=True)
class JudgePrompt:
    """One judging prompt c with its reply format.

    `shape` is the structure that a rationale must have: "headings" is Feedback / Comparision / Conclusion, "compact"
    only has to conclude, "none" is a label-only judge, which writes no rationale at all.
    """

    name: str
    template: Template
    shape: Literal["headings", "compact", "none"]

    @property
    def has_rationale(self) -> bool:
        return self.shape != "none"

    @property
    def digest(self) -> str:
        """The hash of the whole contract, prompt and reply format, which goes into the keys of stages that use it."""
        return content_id(self.template.contract, self.shape, self.target("rationale", "A"))

    def render(self, pair: ResponsePair) -> tuple[Message, ...]:
        """The input s = [c, x, y_a, y_b] as chat messages: one user turn, to which the chat template is applied later."""
        text = self.template.fill(
            user_input=render_conversation(pair.prompt),
            input=render_conversation(pair.prompt),
            response_1=pair.response_a,
            response_2=pair.response_b,
            response_a=pair.response_a,
            response_b=pair.response_b,
        )
        return (Message("user", text),)

    def target(self, rationale: str, label: Label) -> str:
        """The completion that the judge is trained on (Eq. 2). An empty rationale gives a bare label in the same format."""
        if self.shape == "none":
            return label
        if self.shape == "compact":
            return f"<think> {rationale.strip()} </think><answer>{label}</answer>"
        return f"<think>\n{rationale.strip()}\n</think>\n<answer>\n{label}\n</answer>"

    def parse(self, reply: str) -> Judgement:
        """Parses a reply. Only one well-formed ``<answer>`` after ``</think>``, at the very end, is a verdict."""
        return _parse_label(reply) if self.shape == "none" else _parse_reasoned(reply)

    def check_rationale(self, rationale: str, label: Label) -> str | None:
        """The rule-based checks of the paper's step 4d on one rationale: None when it passes, else the reason.

        Structure: the headings, each once, in order, with text under each. Conclusion: it names `label` and only it.
        """
        if not rationale.strip():
            return "empty"
        if _REPLY_TAG.search(rationale):
            return "contains_reply_tags"
        parts = split_headings(rationale) if self.shape == "headings" else None
        if self.shape == "headings" and parts is None:
            return "missing_headings"
        concluded = _only_claim(parts[2]) if parts else conclusion(rationale, self.shape)
        if concluded is None:
            return "no_conclusion"
        return None if concluded == label else "concludes_for_other"

    def ungrounded_quote(self, rationale: str, pair: ResponsePair) -> str | None:
        """The first text that the rationale quotes but the judge is not shown; None if there is none. See `prompts.quotes`."""
        shown = (pair.response_a, pair.response_b, render_conversation(pair.prompt), self.template.text)
        return ungrounded_quote(rationale, shown, lists_words=self.shape == "compact")


def _parse_label(reply: str) -> Judgement:
    text = reply.strip()
    if text in ("A", "B"):
        return Judgement(_as_label(text))
    return Judgement(None, malformed="answer_not_a_or_b" if text else "empty_reply")


def _parse_reasoned(reply: str) -> Judgement:
    if not reply.strip():
        return Judgement(None, malformed="empty_reply")
    if not reply.lstrip().startswith("<think>"):
        return Judgement(None, malformed="no_think_open")
    if "</think>" not in reply:
        return Judgement(None, malformed="no_think_close")
    if reply.count("<think>") > 1 or reply.count("</think>") > 1:
        return Judgement(None, malformed="several_think")
    thought, rest = reply.lstrip().removeprefix("<think>").split("</think>")
    before, opened, answer = rest.partition("<answer>")
    inner, closed, after = answer.partition("</answer>")
    if not opened or not closed:
        return Judgement(None, malformed="no_answer")
    if "<answer>" in inner + after or "</answer>" in before + after:
        return Judgement(None, malformed="several_answers")
    if before.strip():
        return Judgement(None, malformed="text_before_answer")
    if after.strip():
        return Judgement(None, malformed="text_after_answer")
    verdict = inner.strip()
    if verdict in ("A", "B"):
        return Judgement(_as_label(verdict), rationale=thought.strip())
    return Judgement(None, malformed="answer_not_a_or_b")


# ---- the shape of a rationale --------------------------------------------------------------------------------------

HEADINGS = ("Feedback", "Comparision", "Conclusion")
"""Spelled as in the released prompt."""

_REPLY_TAG = re.compile(r"</?(?:think|answer)>")
_WHO = r"(?:Response|Assistant|Answer)"
_BETTER = r"(?:better|preferred|preferable|superior)"
_CLAIM = re.compile(
    rf"\b{_WHO}\s+([AB])\s+is\s+(?:\w+\s+){{0,2}}?{_BETTER}\b"
    rf"|\bprefer(?:s|red)?\s+{_WHO}\s+([AB])\b"
    rf"|\b(?:better|preferred|superior)\s+(?:response|answer|one)\s+is\s+{_WHO}\s+([AB])\b",
    re.IGNORECASE,
)
_NEGATION = re.compile(r"\b(?:not|no|never|neither|nor|less|least|cannot|hardly|nobody)\b|n't\b", re.IGNORECASE)
_SENTENCE = re.compile(r"[^.!?;\n]+")
_COMPACT_CLAIM = re.compile(r"\bSo\s+([AB])\s+is\s+better\.\s*\Z")


def split_headings(rationale: str) -> tuple[str, str, str] | None:
    """The texts under Feedback, Comparision and Conclusion, or None unless each occurs once, in order, with text."""
    text = rationale.strip()
    found = _headings(text)
    if tuple(name for _, _, name in found) != HEADINGS or found[0][0] != 0:
        return None
    ends = [start for start, _, _ in found[1:]] + [len(text)]
    feedback, comparison, concluded = (text[begin:end].strip() for (_, begin, _), end in zip(found, ends, strict=True))
    return (feedback, comparison, concluded) if feedback and comparison and concluded else None


def _headings(text: str) -> list[tuple[int, int, str]]:
    """Start, end and name of each heading: a line of nothing else. Searched as texts: a pattern is tried at every character."""
    found = []
    for name in HEADINGS:
        place = -1
        while (place := text.find(f"{name}:", place + 1)) >= 0:
            start, end = text.rfind("\n", 0, place) + 1, place + len(name) + 1
            line_end = text.find("\n", end)
            rest = text[end:] if line_end < 0 else text[end:line_end]
            if not (text[start:place] + rest).strip(" \t"):
                found.append((start, end, name))
    return sorted(found)


def join_headings(feedback: str, comparison: str, conclusion_text: str) -> str:
    """A rationale in the shape that the released prompt asks for."""
    return (
        f"Feedback:\n{feedback.strip()}\n\nComparision:\n{comparison.strip()}\n\nConclusion:\n{conclusion_text.strip()}"
    )


def conclusion(rationale: str, shape: Literal["headings", "compact", "none"]) -> Label | None:
    """The label that a rationale concludes with, or None if it names neither or both."""
    if shape == "compact":
        last = _COMPACT_CLAIM.search(rationale.strip())
        return _as_label(last.group(1)) if last else None
    parts = split_headings(rationale)
    return None if parts is None else _only_claim(parts[2])


def _only_claim(text: str) -> Label | None:
    found = claims(text)
    return found.pop() if len(found) == 1 else None


def claims(text: str) -> set[Label]:
    """The labels that a conclusion calls better. A sentence with a negation before its claim claims nothing."""
    found: set[Label] = set()
    # Bold or italic marks around a name mean nothing.
    for sentence in _SENTENCE.findall(text.replace("*", "").replace("_", "")):
        for match in _CLAIM.finditer(sentence):
            if not _NEGATION.search(sentence, 0, match.end()):
                found.add(_as_label(next(group for group in match.groups() if group).upper()))
    return found


def _as_label(text: str) -> Label:
    return "A" if text == "A" else "B"


# ---- the prompts that a recipe can choose ---------------------------------------------------------------------------

_COMPACT = Template("compact", marks=("A:", "B:", "Better?"))

GRAM_R2 = JudgePrompt("gram-r2", Template("gram-r2"), "headings")
COMPACT = JudgePrompt("compact", _COMPACT, "compact")
COMPACT_LABEL = JudgePrompt("compact-label", _COMPACT, "none")
