"""Rows with several responses to one prompt: StackExchange's answers, and CodeUltraFeedback.

Their rows, reduced to the columns that are read::

    {"question": "<p>Why?</p>", "answers": [{"text": "<p>…</p>", "pm_score": 5, "selected": true}, …]}
    {"instruction": "Sort a list.", "responses": [{"model": "m1", "response": "…"}, …],
     "annotations": [{"model": "m1", "rating": "4", "rationale": "…"}, …]}
"""

from __future__ import annotations

import re
from itertools import combinations

from data.records import RecordError
from data.sources.fields import Row, got, number_at, objects_at, reach, read_prompt, text_at
from data.sources.formats.candidate import Candidate, Kind, Truth, Unusable, truth_of_scores

_FEW = "the row has fewer than two responses to the prompt"


def stack_exchange(row: Row, kind: Kind) -> Candidate | Unusable:
    """One pair per question: its first two answers in file order. The others are not read.

    The answer with the higher `pm_score`, which is based on votes and acceptance, is better; equal scores are a tie.
    """
    prompt = read_prompt(reach(row, "question"), "question")
    if objects_at(row, "answers") < 2:
        return Unusable(None, "few_responses", _FEW)
    truth: Truth = None
    if kind != "pair":
        truth = truth_of_scores(number_at(row, "answers.0.pm_score"), number_at(row, "answers.1.pm_score"))
    responses = (text_at(row, "answers.0.text"), text_at(row, "answers.1.text"))
    return Candidate(prompt, responses, positioned=False, truth=truth)


def code_ultrafeedback(row: Row, kind: Kind) -> tuple[Candidate | Unusable, ...]:
    """Every pair of a row's responses, in file order: six for the set's four responses per row.

    The response with the higher rating is better, equal ratings are a tie; "N/A" leaves the pairs of its response unlabeled.
    """
    prompt = read_prompt(reach(row, "instruction"), "instruction")
    count = objects_at(row, "responses")
    if count < 2:
        return (Unusable(None, "few_responses", _FEW),)
    ratings: list[float | None] = _ratings(row, count) if kind != "pair" else [None] * count
    texts = [text_at(row, f"responses.{i}.response") for i in range(count)]
    pairs = []
    for i, j in combinations(range(count), 2):
        first, second = ratings[i], ratings[j]
        truth = None if first is None or second is None else truth_of_scores(first, second)
        pairs.append(Candidate(prompt, (texts[i], texts[j]), positioned=False, truth=truth))
    return tuple(pairs)


def _ratings(row: Row, count: int) -> list[float | None]:
    """The rating of each response, by the name of its model; None for "N/A"."""
    by_model: dict[str, float | None] = {}
    for i in range(objects_at(row, "annotations")):
        model, path = text_at(row, f"annotations.{i}.model"), f"annotations.{i}.rating"
        if model in by_model:
            raise RecordError(
                f"annotations.{i}.model", f"is rated twice: {got(model)}; it is unclear which rating counts"
            )
        by_model[model] = _rating(text_at(row, path), path)
    models = [text_at(row, f"responses.{i}.model") for i in range(count)]
    for i, model in enumerate(models):
        if model not in by_model:
            raise RecordError(f"responses.{i}.model", f"has no rating in 'annotations': {got(model)}")
    return [by_model[model] for model in models]


def _rating(text: str, path: str) -> float | None:
    if text.strip() == "N/A":
        return None
    if not re.fullmatch(r"\s*\d+(?:\.\d+)?\s*", text):
        raise RecordError(path, f'must be a number or "N/A", got {got(text)}')
    return float(text)
