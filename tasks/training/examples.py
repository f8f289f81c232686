"""Training examples as token ids: the prompt, and the tokens on which the loss is computed.

What a line of the examples file becomes, by the role that the model is trained for:

- ``prover``: the prover's prompt, and a proof (Eq. 4)
- ``judge``: the judge's prompt, and its reply: a rationale with a verdict (Eq. 2), or the label alone (Eq. 1)
- ``label-judge``: the judge's prompt, and the one token of the label (GRAM's fine-tuning)
- ``pretrained``: the question, and both responses (GRAM's pre-training)
- ``scalar``: the conversation with each response, the preferred one first (Bradley-Terry)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from data.records import parse_pair, parse_preference
from prompts.catalog import JUDGE_PROMPTS, pretraining_for, prover_for
from prompts.judge import JudgePrompt
from tasks.model.chat import ChatEncoder
from tasks.model.requests import REFUSED
from tasks.model.scalar import SCALAR
from tasks.settings import ModelSettings, Role
from tasks.training.job import TrainingJob

IGNORED = -100
"""Marks tokens that the loss ignores."""
TOO_LONG = "too_long"
"""Why an example is dropped: it does not fit the context."""


@dataclass(frozen=True)
class Encoded:
    """Prompt and completion as token ids; `truncated` is true if the pair had to be shortened."""

    prompt: list[int]
    completion: list[int]
    truncated: bool = False


@dataclass
class ExampleCounts:
    """What became of the examples; filled in while they are encoded. Tokens are those of one epoch."""

    rows_in: int = 0
    too_long: int = 0
    refused: int = 0
    shortened: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    longest: int = 0

    def add(self, other: ExampleCounts) -> None:
        """Counts other examples too."""
        self.rows_in += other.rows_in
        self.too_long += other.too_long
        self.refused += other.refused
        self.shortened += other.shortened
        self.tokens += other.tokens
        self.trained_tokens += other.trained_tokens
        self.longest = max(self.longest, other.longest)

    @property
    def dropped(self) -> dict[str, int]:
        """How many were dropped for each reason that there was."""
        reasons = {TOO_LONG: self.too_long, REFUSED: self.refused}
        return {reason: n for reason, n in reasons.items() if n}

    @property
    def kept(self) -> int:
        return self.rows_in - self.too_long - self.refused


def prompt_of(role: Role, judge: JudgePrompt) -> tuple[str, str]:
    """Name and digest of the prompt for a model of this role."""
    if role == "scalar":
        return SCALAR, SCALAR
    if role == "prover":
        prover = prover_for(judge)
        return prover.name, prover.digest
    prompt = pretraining_for(judge) if role == "pretrained" else judge
    return prompt.name, prompt.digest


def encode_example(
    row: Mapping[str, Any], role: str, encoder: ChatEncoder, models: ModelSettings, reply_tokens: int
) -> Encoded | None:
    """One training example of a generative model, or None if it does not fit the context.

    The prompt ids are exactly those that generation gives the engine for the same pair, which reserves `reply_tokens`
    of the context for the reply.
    """
    if role == "pretrained":
        return _encode_responses(row, encoder, models)
    budget = models.max_tokens - reply_tokens
    judge = JUDGE_PROMPTS[models.judge_prompt]
    preference = parse_preference(row)
    if role == "prover":
        prover = prover_for(judge)
        completion = encoder.completion_ids(prover.to_proof(row["rationale"]))
        prompt = encoder.prover_ids(prover, preference, budget, models.overlong)
    else:
        prompt = encoder.judge_ids(judge, preference.pair, budget, models.overlong)
        if role == "label-judge":
            completion = [encoder.label_ids[0 if preference.label == "A" else 1]]
        else:
            completion = encoder.reply_ids(judge.target(row["rationale"], preference.label))
    if prompt is None or len(prompt.ids) + len(completion) > models.max_tokens:
        return None
    return Encoded(prompt.ids, completion, prompt.truncated)


def _encode_responses(row: Mapping[str, Any], encoder: ChatEncoder, models: ModelSettings) -> Encoded | None:
    """An example of GRAM's pre-training. A pair that is too long is shortened as in a judge's prompt; None if it cannot be."""
    prompt = pretraining_for(JUDGE_PROMPTS[models.judge_prompt])
    fitted = encoder.fit_pair(
        lambda pair: encoder.prompt_ids(prompt.render(pair)) + encoder.completion_ids(prompt.target(pair)),
        parse_pair(row),
        models.max_tokens,
        models.overlong,
    )
    if fitted is None:
        return None
    pair, ids, truncated = fitted
    n_prompt = len(encoder.prompt_ids(prompt.render(pair)))
    return Encoded(ids[:n_prompt], ids[n_prompt:], truncated)


def _encode_chosen(
    row: Mapping[str, Any], encoder: ChatEncoder, models: ModelSettings
) -> tuple[list[int], list[int]] | None:
    """The conversations with the chosen and the rejected response; None if either does not fit, as neither is cut."""
    preference = parse_preference(row)
    pair = preference.pair
    a, b = (encoder.response_ids(pair.prompt, response) for response in (pair.response_a, pair.response_b))
    if max(len(a), len(b)) > models.max_tokens:
        return None
    return (a, b) if preference.label == "A" else (b, a)


def encode_rows(
    rows: Iterable[Mapping[str, Any]],
    job: TrainingJob,
    encoder: ChatEncoder,
    models: ModelSettings,
    counts: ExampleCounts,
) -> Iterator[dict[str, list[int]] | str]:
    """The features of each example, in the form TRL's trainers take; of one that is dropped, the reason.

    What becomes of them is added to `counts`.
    """
    for row in rows:
        counts.rows_in += 1
        try:
            features = _features(row, job, encoder, models, counts)
        except TemplateError:  # such as Gemma's, for a system turn or two turns of the user in a row
            counts.refused += 1
            yield REFUSED
            continue
        counts.too_long += features is None
        yield TOO_LONG if features is None else features


def _features(
    row: Mapping[str, Any], job: TrainingJob, encoder: ChatEncoder, models: ModelSettings, counts: ExampleCounts
) -> dict[str, list[int]] | None:
    if job.role == "scalar":
        pair = _encode_chosen(row, encoder, models)
        if pair is None:
            return None
        counts.tokens += len(pair[0]) + len(pair[1])
        counts.trained_tokens += 2  # the loss is on one number per response
        counts.longest = max(counts.longest, *map(len, pair))
        return {"chosen_ids": pair[0], "rejected_ids": pair[1]}
    encoded = encode_example(row, job.role, encoder, models, job.reply_tokens)
    if encoded is None:
        return None
    n_prompt, n_completion = len(encoded.prompt), len(encoded.completion)
    counts.shortened += encoded.truncated
    counts.tokens += n_prompt + n_completion
    counts.trained_tokens += n_completion
    counts.longest = max(counts.longest, n_prompt + n_completion)
    return {"input_ids": encoded.prompt + encoded.completion, "labels": [IGNORED] * n_prompt + encoded.completion}
