"""Published sets of response pairs with a judgment: MultiPref, Unified-Feedback, Preference-Collection, PKU-SafeRLHF.

Their rows, reduced to the columns that are read::

    {"comparison_id": "c1", "text": "Why?", "completion_a": "…", "completion_b": "…",
     "normal_worker_annotations": [{"overall_pref": "A-is-clearly-better"}, …], "expert_worker_annotations": […]}
    {"conv_A": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "…"}], "conv_B": […],
     "conv_A_rating": 1.0, "conv_B_rating": 0.0}
    {"orig_instruction": "Why?", "orig_response_A": "…", "orig_response_B": "…", "orig_preference": "B",
     "orig_feedback_A": "…", "orig_feedback_B": "…", "orig_feedback": "…"}
    {"prompt": "Why?", "response_0": "…", "response_1": "…", "better_response_id": 1, "safer_response_id": 0}
"""

from __future__ import annotations

import re
from collections import Counter

from data.records import Label, RecordError
from data.sources.fields import (
    Row,
    as_prompt,
    contents,
    given_id,
    got,
    number_at,
    optional_text_at,
    reach,
    read_prompt,
    text_at,
)
from data.sources.formats.candidate import Candidate, Kind, Truth, Unusable, truth_of_scores
from data.sources.formats.chosen_rejected import prompts_differ, split_side
from data.sources.formats.rationales import rationale_of

# ---- MultiPref -------------------------------------------------------------------------------------------------------

_OVERALL = re.compile(r"([AB])-is(?:-clearly|-slightly)?-better")
_GROUPS = ("normal_worker_annotations", "expert_worker_annotations")


def multipref(row: Row, kind: Kind) -> Candidate:
    return Candidate(
        prompt=read_prompt(reach(row, "text"), "text"),
        responses=(text_at(row, "completion_a"), text_at(row, "completion_b")),
        positioned=False,
        truth=_most_annotators(row) if kind != "pair" else None,
        id=given_id(row, "comparison_id"),
    )


def _most_annotators(row: Row) -> Truth:
    """The most frequent vote of all annotators, with crowd workers and experts counted alike: A, B or a tie.

    Clearly and slightly better count the same. If two of the three are equally frequent, it is a tie.
    """
    votes: Counter[Label | str] = Counter()
    for group in _GROUPS:
        annotations = reach(row, group)
        if not isinstance(annotations, list):
            raise RecordError(group, f"must be a list of annotations, got {got(annotations)}")
        for i in range(len(annotations)):
            votes[_overall(row, f"{group}.{i}.overall_pref")] += 1
    if not votes:
        raise RecordError(_GROUPS[0], f"is empty, and so is {_GROUPS[1]!r}: no annotator states which is better")
    (first, n), *others = votes.most_common(2)
    if first == "tie" or (others and others[0][1] == n):
        return "tie"
    return "A" if first == "A" else "B"


def _overall(row: Row, path: str) -> str:
    value = text_at(row, path)
    match = _OVERALL.fullmatch(value)
    if match is None and value != "Tie":
        raise RecordError(
            path,
            f'must be "A-is-clearly-better", "A-is-slightly-better", "A-is-better", the same for B, or "Tie", got {got(value)}',
        )
    return match[1] if match else "tie"


# ---- Unified-Feedback ------------------------------------------------------------------------------------------------


def unified_feedback(row: Row, kind: Kind) -> Candidate | Unusable:
    """Both conversations end with the response; the one with the higher rating is better, equal ratings are a tie."""
    (first_prompt, first), (second_prompt, second) = (split_side(row, side) for side in ("conv_A", "conv_B"))
    for side, turns in (("conv_A", first_prompt), ("conv_B", second_prompt)):
        if not turns:
            raise RecordError("prompt", f"is missing, and {side!r} is only an answer: the row {contents(row)}")
    differ = prompts_differ(("conv_A", "conv_B"), (first_prompt, second_prompt), None)
    if differ is not None:
        return differ
    truth: Truth = None
    if kind != "pair":
        truth = truth_of_scores(number_at(row, "conv_A_rating"), number_at(row, "conv_B_rating"))
    return Candidate(as_prompt(first_prompt, "conv_A"), (first, second), positioned=False, truth=truth)


# ---- Preference-Collection -------------------------------------------------------------------------------------------

_VERDICT = re.compile(r"\s*\[RESULT\]\s*[AB]?\s*\Z")


def preference_collection(row: Row, kind: Kind) -> Candidate:
    """Keeps the file's order, since the feedback refers to the responses by position."""
    truth: Truth = None
    if kind != "pair":
        value = reach(row, "orig_preference")
        if value not in ("A", "B"):
            raise RecordError("orig_preference", f'must be "A" or "B", got {got(value)}')
        truth = value
    return Candidate(
        prompt=read_prompt(reach(row, "orig_instruction"), "orig_instruction"),
        responses=(text_at(row, "orig_response_A"), text_at(row, "orig_response_B")),
        truth=truth,
        rationale=_graders_rationale(row, "A" if truth == "A" else "B") if kind == "rationale" else None,
    )


def _graders_rationale(row: Row, better: Label) -> str | None:
    """The grader's feedback on each response, and its comparison without the closing verdict."""
    of_a, of_b, both = (optional_text_at(row, f"orig_feedback{which}") for which in ("_A", "_B", ""))
    comparison = _VERDICT.sub("", both).strip().removeprefix("Feedback:")
    return rationale_of(of_a, of_b, comparison, better)


# ---- PKU-SafeRLHF ----------------------------------------------------------------------------------------------------


def pku_saferlhf(row: Row, kind: Kind) -> Candidate:
    """The more helpful response is better; which one is safer (`safer_response_id`) is not read."""
    truth: Truth = None
    if kind != "pair":
        better = reach(row, "better_response_id")
        if isinstance(better, bool) or better not in (0, 1):
            raise RecordError("better_response_id", f"must be 0 or 1, got {got(better)}")
        truth = "A" if better == 0 else "B"
    asked, responses = reach(row, "prompt"), (text_at(row, "response_0"), text_at(row, "response_1"))
    return Candidate(
        prompt=read_prompt(asked, "prompt"),
        responses=responses,
        positioned=False,
        truth=truth,
    )
