r"""The training files of GRAM and GRAM-R²: the pair is embedded in a text between markers.

Rows of GRAM's pre-training and fine-tuning, and of GRAM-R²'s training, shortened::

    {"instruction": "[User Question]\nWhy?\n\n", "input": "", "output": "[The Start of Assistant A's Answer]\n…"}
    {"instruction": "Please act as … [User Question]\nWhy?\n\n[The Start of Assistant A's Answer]\n…", "output": "B"}
    {"instruction": "You are … [User Question]\nWhy?\n\n[The Start of Assistant A's Response]\n…",
     "output": "<think>\nFeedback:\n…\n\nComparision:\n…\n\nConclusion:\n…\n</think>\n<answer>\nB\n</answer>"}
"""

from __future__ import annotations

import re
from typing import cast

from data.records import Label, RecordError
from data.sources.fields import Row, given_id, got, optional_text_at, read_prompt, text_at
from data.sources.formats.candidate import Candidate, Kind

# GRAM's published rows are not uniform: the line break before an end marker may be missing, and its cleaning
# script (NiuTrans/GRAM, data/clean_data.py) joins with raw strings, which write a line break as a backslash and an n.
_BREAK = r"(?:\n|\\n)"


def _answers(noun: str) -> str:
    """The pattern of two answers between their markers, which call them Answer (GRAM) or Response (GRAM-R²)."""
    return (
        rf"\[The Start of Assistant A's {noun}\]{_BREAK}?(?P<a>.*?){_BREAK}?\[The End of Assistant A's {noun}\]{_BREAK}*"
        rf"\[The Start of Assistant B's {noun}\]{_BREAK}?(?P<b>.*?){_BREAK}?\[The End of Assistant B's {noun}\]"
    )


def _judged(noun: str, ending: str) -> re.Pattern[str]:
    return re.compile(
        rf"(?P<task>.*?)\[User Question\]{_BREAK}?(?P<prompt>.*?){_BREAK}{{0,2}}{_answers(noun)}\s*{ending}", re.DOTALL
    )


_QUESTION = re.compile(rf"\[User Question\]{_BREAK}?(?P<prompt>.*?){_BREAK}{{0,2}}", re.DOTALL)
_PAIR = re.compile(rf"\s*{_answers('Answer')}\s*", re.DOTALL)
_GRAM_JUDGE = _judged("Answer", r"(?:#Preferred:\s*)?")
_GRAM_R2_JUDGE = _judged("Response", "")
_REPLY = re.compile(r"\s*<think>(?P<think>.*?)</think>\s*<answer>\s*(?P<label>[AB])\s*</answer>\s*", re.DOTALL)


def gram_pre_training(row: Row) -> Candidate:
    question = _matched(_QUESTION, row, "instruction", "[User Question] and the prompt")
    answers = _matched(_PAIR, row, "output", "the two answers between their start and end markers")
    _each_marker_once(text_at(row, "output"), "output", "Answer")
    texts = (question["prompt"], optional_text_at(row, "input") if "input" in row else "")
    prompt = "\n\n".join(text for text in texts if text.strip())
    return Candidate(read_prompt(prompt, "instruction"), (answers["a"], answers["b"]), id=given_id(row))


def gram_fine_tuning(row: Row, kind: Kind) -> Candidate:
    label = None
    if kind != "pair":
        label = text_at(row, "output").strip()
        if label not in ("A", "B"):
            raise RecordError("output", f'must be "A" or "B", got {got(label)}')
    return _judged_pair(row, _GRAM_JUDGE, "Answer", cast("Label | None", label))


def gram_rr(row: Row, kind: Kind) -> Candidate:
    """A row of GRAM-R²'s training data: the judge's prompt, and the reply with rationale and verdict.

    The rationale is the text between the tags, unchanged except for surrounding whitespace.
    """
    if kind == "pair":
        return _judged_pair(row, _GRAM_R2_JUDGE, "Response", None)
    reply = _matched(
        _REPLY, row, "output", "<think>, a rationale, </think> and <answer>A or B</answer>, and nothing else"
    )
    if "<think>" in reply["think"]:
        raise RecordError("output", "contains <think> more than once: it is unclear which rationale is meant")
    rationale = reply["think"].strip() if kind == "rationale" else None
    return _judged_pair(row, _GRAM_R2_JUDGE, "Response", cast("Label", reply["label"]), rationale)


def _judged_pair(
    row: Row, pattern: re.Pattern[str], noun: str, label: Label | None, rationale: str | None = None
) -> Candidate:
    """The pair that a judge's prompt shows."""
    expected = f"the judge's task, [User Question], and the two {noun.lower()}s"
    parts = _matched(pattern, row, "instruction", expected)
    _each_marker_once(text_at(row, "instruction"), "instruction", noun)
    prompt = read_prompt(parts["prompt"], "instruction")
    return Candidate(prompt, (parts["a"], parts["b"]), truth=label, rationale=rationale, id=given_id(row))


def _matched(pattern: re.Pattern[str], row: Row, field: str, expected: str) -> re.Match[str]:
    match = pattern.fullmatch(text_at(row, field))
    if match is None:
        raise RecordError(field, f"must contain {expected}, got a text that begins {text_at(row, field)[:40]!r}")
    return match


def _each_marker_once(text: str, field: str, noun: str) -> None:
    for marker in (f"[The {edge} of Assistant {who}'s {noun}]" for who in "AB" for edge in ("Start", "End")):
        if text.count(marker) > 1:
            raise RecordError(field, f"contains {marker} more than once: it is unclear where an answer ends")
