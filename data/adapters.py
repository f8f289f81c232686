"""One row of a public format → one `Candidate`: what the row says, before order, filters and kind of record.

A row of the format "chosen-rejected", and what it says::

    {"prompt": "Why is the sky blue?", "chosen": "Rayleigh scattering.", "rejected": "It reflects the sea."}
    Candidate(prompt=(Message("user", "Why is the sky blue?"),),
              responses=("Rayleigh scattering.", "It reflects the sea."), positioned=False, truth="A")

A row that is not what its format says raises `RecordError`; the reader adds file and row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal, cast

from data.columns import ColumnMap
from data.fields import (
    ROLE_NAMES,
    Row,
    as_id,
    as_prompt,
    as_text,
    contents,
    given_id,
    got,
    optional_text_at,
    reach,
    read_prompt,
    read_turn,
    read_turns,
    text_at,
    text_or_turns,
)
from data.records import Label, Message, RecordError

Format = Literal["records", "chosen-rejected", "helpsteer3", "gram-pre-training", "gram-fine-tuning", "columns"]
Kind = Literal["pair", "pair_with_truth", "preference", "rationale"]
DropReason = Literal[
    "tie",
    "empty_prompt",
    "empty_response",
    "equal_responses",
    "too_long",
    "prompts_differ",
    "no_rationale",
    "malformed",
]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row as its format tells it. `responses` are in file order; where they have no positions of their own
    (`positioned` is False), the first is the chosen one and `truth` is "A". An empty prompt is ().
    """

    prompt: tuple[Message, ...]
    responses: tuple[str, str]
    positioned: bool = True
    truth: Label | Literal["tie"] | None = None
    rationale: str | None = None
    id: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Unusable:
    """A row that is well-formed and yet describes no pair."""

    id: str | None
    reason: DropReason
    detail: str


def adapt(row: Row, format: Format, columns: ColumnMap | None, kind: Kind) -> Candidate | Unusable:
    """What a row says. Labels are read unless `kind` is "pair", rationales only for "rationale"."""
    match format:
        case "records":
            return _own_record(row, kind)
        case "chosen-rejected":
            return _chosen_rejected(row)
        case "helpsteer3":
            return _helpsteer3(row, kind)
        case "gram-pre-training":
            return _gram_pre_training(row)
        case "gram-fine-tuning":
            return _gram_fine_tuning(row, kind)
        case "columns":
            assert columns is not None, "Source requires a column map for this format"
            return _by_columns(row, columns, kind)


# ---- our own records, and rows by column map -------------------------------------------------------------------------


def _own_record(row: Row, kind: Kind) -> Candidate:
    label = row.get("label")
    if kind in ("preference", "rationale") or (kind == "pair_with_truth" and label is not None):
        if label not in ("A", "B"):
            raise RecordError("label", f'must be "A" or "B", got {got(label)}')
    else:
        label = None
    return Candidate(
        prompt=read_prompt(reach(row, "prompt"), "prompt"),
        responses=(text_at(row, "response_a"), text_at(row, "response_b")),
        truth=label,
        rationale=optional_text_at(row, "rationale") if kind == "rationale" and "rationale" in row else None,
        id=given_id(row),
        source=optional_text_at(row, "source") if "source" in row else None,
    )


def _by_columns(row: Row, columns: ColumnMap, kind: Kind) -> Candidate:
    positioned = columns.chosen is None
    paths = (columns.response_a, columns.response_b) if positioned else (columns.chosen, columns.rejected)
    truth: Label | Literal["tie"] | None = None if positioned else "A"
    if columns.label is not None and kind != "pair":
        truth = columns.label_of(reach(row, columns.label))
    return Candidate(
        prompt=_prompt_by_columns(row, columns),
        responses=(text_at(row, paths[0] or ""), text_at(row, paths[1] or "")),
        positioned=positioned,
        truth=truth,
        rationale=optional_text_at(row, columns.rationale) if kind == "rationale" else None,
        id=as_id(reach(row, columns.id), columns.id) if columns.id is not None else None,
    )


def _prompt_by_columns(row: Row, columns: ColumnMap) -> tuple[Message, ...]:
    value = reach(row, columns.prompt)
    turns = text_or_turns(value, columns.prompt)
    extra, system = optional_text_at(row, columns.prompt_extra), optional_text_at(row, columns.system)
    if extra.strip() and turns:
        joined = "\n\n".join(text for text in (turns[-1].content, extra) if text.strip())
        turns = (*turns[:-1], Message(turns[-1].role, joined))
    prompt = as_prompt(turns, columns.prompt)
    if not (system.strip() and prompt):
        return prompt
    if prompt[0].role == "system":
        raise RecordError(columns.system or "", f"is a second system turn: {columns.prompt!r} begins with one")
    return (Message("system", system), *prompt)


# ---- chosen and rejected ---------------------------------------------------------------------------------------------

_SPEAKER = re.compile(r"\n\n(Human|Assistant):[ ]?")


def _chosen_rejected(row: Row) -> Candidate | Unusable:
    field = "conversations" if row.get("prompt") is None and row.get("conversations") is not None else "prompt"
    given = read_prompt(row[field], field) if row.get(field) is not None else None
    identity = given_id(row)
    chosen_prompt, chosen = _split_side(row, "chosen", given)
    rejected_prompt, rejected = _split_side(row, "rejected", given)
    if chosen_prompt != rejected_prompt:
        turns = zip_longest(chosen_prompt, rejected_prompt)
        place = next(i for i, (left, right) in enumerate(turns, start=1) if left != right)
        detail = f"chosen and rejected differ in turn {place}, before their last answers"
        return Unusable(identity, "prompts_differ", detail)
    prompt = as_prompt(chosen_prompt, "chosen")
    return Candidate(prompt, (chosen, rejected), positioned=False, truth="A", id=identity)


def _split_side(row: Row, field: str, given: tuple[Message, ...] | None) -> tuple[tuple[Message, ...], str]:
    """The turns before the last answer of one side, and that answer. `given` is the row's own prompt, if it has one."""
    value = reach(row, field)
    turns: tuple[Message, ...]
    if isinstance(value, str):
        text = as_text(value, field)
        turns = _transcript(text) if text.startswith("\n\nHuman:") else (Message("assistant", text),)
    else:
        turns = (read_turn(value, field),) if isinstance(value, Mapping) else read_turns(value, field)
    if not turns or turns[-1].role != "assistant":
        ends = f"ends with {turns[-1].role!r}" if turns else "is empty"
        raise RecordError(field, f"must end with the assistant's answer, {ends}")
    before, response = turns[:-1], turns[-1].content
    if not before and given is None:
        raise RecordError("prompt", f"is missing, and {field!r} is an answer alone: the row {contents(row)}")
    if before and given and not _agrees(given, before):
        raise RecordError(
            field, "is a conversation in which the row's own prompt is not found; which is right is not guessed"
        )
    return before or given or (), response


def _transcript(text: str) -> tuple[Message, ...]:
    r"""The turns of ``\n\nHuman: …\n\nAssistant: …``."""
    _, *parts = _SPEAKER.split(text)
    return tuple(Message(ROLE_NAMES[who.lower()], said) for who, said in zip(parts[::2], parts[1::2], strict=True))


def _agrees(given: tuple[Message, ...], before: tuple[Message, ...]) -> bool:
    """A separate prompt repeats the conversation, or (as in UltraFeedback) one user turn of it."""
    return given == before or (len(given) == 1 and given[0] in before)


# ---- HelpSteer3 ------------------------------------------------------------------------------------------------------

_SINGLE = re.compile(r"@?\bResponse\s*#?([12])\b(?!\.\d)", re.IGNORECASE)
_BOTH = re.compile(r"@?\bResponses\s+#?([12])(\s*(?:and|or|vs\.?|&|,|/)\s*)#?([12])\b(?!\.\d)", re.IGNORECASE)
_POSITIONS = {"1": "A", "2": "B"}
# What would break the shape of a rationale, or of the reply that it becomes a part of.
_BREAKS_SHAPE = re.compile(r"^\s*(?:Feedback|Comparision|Conclusion):\s*$|</?(?:think|answer)>", re.MULTILINE)


def _helpsteer3(row: Row, kind: Kind) -> Candidate:
    """Order stays as the file has it, since the annotators' texts name the responses by it."""
    score = _score(reach(row, "overall_preference"), "overall_preference") if kind != "pair" else None
    truth: Label | Literal["tie"] | None = None
    if score is not None:
        truth = "tie" if score == 0 else "A" if score < 0 else "B"
    return Candidate(
        prompt=read_prompt(reach(row, "context"), "context"),
        responses=(text_at(row, "response1"), text_at(row, "response2")),
        truth=truth,
        rationale=_annotators_rationale(row, score) if kind == "rationale" and score else None,
        id=given_id(row),
    )


def _score(value: object, field: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -3 <= value <= 3:
        raise RecordError(field, f"must be an integer from -3 (response1 is better) to 3, got {got(value)}")
    return value


def _annotators_rationale(row: Row, overall: int) -> str | None:
    """The rationale of the annotator who agrees most strongly with the overall preference (the first of equals)."""
    individuals = reach(row, "individual_preference")
    if not isinstance(individuals, list):
        raise RecordError("individual_preference", f"must be a list of annotators' preferences, got {got(individuals)}")
    scored = []
    for i, individual in enumerate(individuals):
        field = f"individual_preference.{i}"
        if not isinstance(individual, Mapping):
            raise RecordError(field, f"must be an object with score and reasoning, got {got(individual)}")
        scored.append((_score(individual.get("score"), f"{field}.score"), i))
    agreeing = [(score, i) for score, i in scored if score * overall > 0]
    for _, i in sorted(agreeing, key=lambda scored_at: -abs(scored_at[0])):
        paths = (f"individual_preference.{i}.{name}" for name in ("feedback1", "feedback2", "reasoning"))
        feedback_a, feedback_b, reasoning = texts = [
            name_by_position(optional_text_at(row, path)).strip() for path in paths
        ]
        if all(texts) and not any(_BREAKS_SHAPE.search(text) for text in texts):
            return _joined(feedback_a, feedback_b, reasoning, better="A" if overall < 0 else "B")
    return None


def _joined(feedback_a: str, feedback_b: str, reasoning: str, better: Label) -> str:
    """The shape that the released judge prompt asks for, its spelling of the second heading included."""
    return (
        f"Feedback:\nResponse A: {feedback_a}\nResponse B: {feedback_b}\n\n"
        f"Comparision:\n{reasoning}\n\nConclusion:\nResponse {better} is better."
    )


def name_by_position(text: str) -> str:
    """The text with "Response 1" and "@Response 2" rewritten to the names that the judge's prompt gives them."""
    text = _BOTH.sub(lambda m: f"Responses {_POSITIONS[m[1]]}{m[2]}{_POSITIONS[m[3]]}", text)
    return _SINGLE.sub(lambda m: f"Response {_POSITIONS[m[1]]}", text)


# ---- GRAM's training files -------------------------------------------------------------------------------------------

# GRAM's published rows are not all of one cut: the line break before an end marker may be missing, and its cleaning
# script (NiuTrans/GRAM, data/clean_data.py) joins with raw strings, which write a line break as a backslash and an n.
_BREAK = r"(?:\n|\\n)"
_ANSWERS = (
    rf"\[The Start of Assistant A's Answer\]{_BREAK}?(?P<a>.*?){_BREAK}?\[The End of Assistant A's Answer\]{_BREAK}*"
    rf"\[The Start of Assistant B's Answer\]{_BREAK}?(?P<b>.*?){_BREAK}?\[The End of Assistant B's Answer\]"
)
_GRAM_ANSWERS = re.compile(rf"\s*{_ANSWERS}\s*", re.DOTALL)
_GRAM_QUESTION = re.compile(rf"\[User Question\]{_BREAK}?(?P<prompt>.*?){_BREAK}{{0,2}}", re.DOTALL)
_GRAM_JUDGE = re.compile(
    rf"(?P<task>.*?)\[User Question\]{_BREAK}?(?P<prompt>.*?){_BREAK}{{0,2}}{_ANSWERS}\s*(?:#Preferred:\s*)?", re.DOTALL
)
_MARKERS = tuple(f"[The {edge} of Assistant {who}'s Answer]" for who in "AB" for edge in ("Start", "End"))


def _gram_pre_training(row: Row) -> Candidate:
    question = _matched(_GRAM_QUESTION, row, "instruction", "[User Question] and the prompt")
    answers = _matched(_GRAM_ANSWERS, row, "output", "the two answers between their start and end markers")
    _each_marker_once(text_at(row, "output"), "output")
    texts = (question["prompt"], optional_text_at(row, "input") if "input" in row else "")
    prompt = "\n\n".join(text for text in texts if text.strip())
    return Candidate(read_prompt(prompt, "instruction"), (answers["a"], answers["b"]), id=given_id(row))


def _gram_fine_tuning(row: Row, kind: Kind) -> Candidate:
    parts = _matched(_GRAM_JUDGE, row, "instruction", "the judge's task, [User Question], and the two answers")
    _each_marker_once(text_at(row, "instruction"), "instruction")
    label = None
    if kind != "pair":
        label = text_at(row, "output").strip()
        if label not in ("A", "B"):
            raise RecordError("output", f'must be "A" or "B", got {got(label)}')
    prompt = read_prompt(parts["prompt"], "instruction")
    return Candidate(prompt, (parts["a"], parts["b"]), truth=cast("Label | None", label), id=given_id(row))


def _matched(pattern: re.Pattern[str], row: Row, field: str, expected: str) -> re.Match[str]:
    match = pattern.fullmatch(text_at(row, field))
    if match is None:
        raise RecordError(field, f"must hold {expected}, got a text that begins {text_at(row, field)[:40]!r}")
    return match


def _each_marker_once(text: str, field: str) -> None:
    for marker in _MARKERS:
        if text.count(marker) > 1:
            raise RecordError(field, f"holds {marker} more than once: where an answer ends is not certain")
