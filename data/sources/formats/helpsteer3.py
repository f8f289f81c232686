"""HelpSteer3, subset "preference": two responses, a score from −3 (the first is much better) to 3, and annotators' texts.

::

    {"context": [{"role": "user", "content": "Name a prime."}], "response1": "Seven.", "response2": "Nine.",
     "overall_preference": -3, "individual_preference": [{"score": -3, "reasoning": "@Response 1 is right.",
      "feedback1": "A prime.", "feedback2": "Nine is three times three."}]}
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from data.records import RecordError
from data.sources.fields import Row, given_id, got, optional_text_at, reach, read_prompt, text_at
from data.sources.formats.candidate import Candidate, Kind, Truth
from data.sources.formats.rationales import rationale_of

_SINGLE = re.compile(r"@?\bResponse\s*#?([12])\b(?!\.\d)", re.IGNORECASE)
_BOTH = re.compile(r"@?\bResponses\s+#?([12])(\s*(?:and|or|vs\.?|&|,|/)\s*)#?([12])\b(?!\.\d)", re.IGNORECASE)
_POSITIONS = {"1": "A", "2": "B"}


def helpsteer3(row: Row, kind: Kind) -> Candidate:
    """Keeps the file's order, since the annotators' texts refer to the responses by position."""
    score = _score(reach(row, "overall_preference"), "overall_preference") if kind != "pair" else None
    truth: Truth = None
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
    """The rationale of the annotator who agrees most strongly with the overall preference (the first one if several do)."""
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
        feedback_a, feedback_b, reasoning = (name_by_position(optional_text_at(row, path)) for path in paths)
        rationale = rationale_of(feedback_a, feedback_b, reasoning, better="A" if overall < 0 else "B")
        if rationale is not None:
            return rationale
    return None


def name_by_position(text: str) -> str:
    """The text with "Response 1" and "@Response 2" rewritten to the names used in the judge's prompt."""
    text = _BOTH.sub(lambda m: f"Responses {_POSITIONS[m[1]]}{m[2]}{_POSITIONS[m[3]]}", text)
    return _SINGLE.sub(lambda m: f"Response {_POSITIONS[m[1]]}", text)
