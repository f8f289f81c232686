"""Training examples as token ids: the prompt, and the tokens on which the loss is computed.

What a line of the examples file becomes, by the role that the model is trained for:

- ``prover``: the prover's prompt, and a proof (Eq. 4)
- ``judge``: the judge's prompt, and its reply: a rationale with a verdict (Eq. 2), or the label alone (Eq. 1)
- ``label-judge``: the judge's prompt, and the one token of the label (GRAM's fine-tuning)
- ``pretrained``: the question, and both responses (GRAM's pre-training)
- ``scalar``: the conversation with each response, the preferred one first (Bradley-Terry)
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data.files import json_line, read_jsonl, write_json
from data.records import parse_pair, parse_preference
from prompts.catalog import JUDGE_PROMPTS, pretraining_for, prover_for
from tasks.model.chat import ChatEncoder
from tasks.settings import ModelSettings
from tasks.training.job import TrainingJob

IGNORED = -100
"""Marks tokens that the loss ignores."""


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
    shortened: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    longest: int = 0


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


def encoded_examples(
    job: TrainingJob, encoder: ChatEncoder, models: ModelSettings, counts: ExampleCounts, dropped: Path
) -> Iterator[dict[str, list[int]]]:
    """The features of every example that fits, in the form TRL's trainers take; the others are written to `dropped`."""
    with dropped.open("w", encoding="utf-8") as stream:
        for row in read_jsonl(Path(job.examples)):
            counts.rows_in += 1
            features = _features(row, job, encoder, models, counts)
            if features is None:
                counts.too_long += 1
                stream.write(json_line({"id": row["id"], "reason": "too_long", "origin": row.get("origin")}))
            else:
                yield features


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


# ---- on disk, where every process of a training reads them ----------------------------------------------------------


@dataclass(frozen=True)
class EncodedSet:
    """Encoded examples as Arrow files, and what became of the rows that they were made from."""

    files: list[str]
    counts: ExampleCounts

    def load(self) -> Any:
        """The examples as a `datasets.Dataset`, mapped from disk."""
        from datasets import Dataset, concatenate_datasets

        return concatenate_datasets([Dataset.from_file(file) for file in self.files])

    @classmethod
    def read(cls, path: Path) -> EncodedSet:
        """The set in a file written by `write`."""
        stored = json.loads(path.read_text(encoding="utf-8"))
        return cls(stored["files"], ExampleCounts(**stored["counts"]))

    def write(self, path: Path) -> None:
        write_json(path, {"files": self.files, "counts": asdict(self.counts)})


def encode_set(job: TrainingJob, cache: Path, dropped: Path) -> EncodedSet:
    """Encodes all examples into `cache`. Raises ValueError if none fits the context."""
    from datasets import Dataset, Features, List, Value, disable_progress_bars

    disable_progress_bars()
    models, _, _ = job.settings()
    encoder = ChatEncoder.load(job.base, bool(models.trust_remote_code), models.system)
    counts = ExampleCounts()
    ids = List(Value("int32"))
    features = (
        {"chosen_ids": ids, "rejected_ids": ids}
        if job.role == "scalar"
        else {"input_ids": ids, "labels": List(Value("int64"))}
    )
    dataset = Dataset.from_generator(
        lambda: encoded_examples(job, encoder, models, counts, dropped),
        features=Features(features),
        cache_dir=str(cache),
        keep_in_memory=False,
    )
    if len(dataset) == 0:
        raise ValueError(f"no example of {job.examples} fits models.max_tokens = {models.max_tokens}")
    print(f"{len(dataset)} examples, {counts.tokens} tokens, {counts.too_long} dropped as too long", flush=True)
    return EncodedSet([one["filename"] for one in dataset.cache_files], counts)
