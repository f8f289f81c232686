"""A discriminative reward model: a transformer with a one-output head that scores each response on its own.

Two scores make a comparison: the probability that the first response is better is Bradley-Terry's σ(first − second), the
same in both orders.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, Literal

from tasks.model.engine import Completion, OnAnswer, Request, Requests

SCALAR = "scalar"
"""Takes the place of a prompt's name for a judge without one: it sees only the conversation with the response."""

_AT_ONCE = 1024
"""Requests that are sorted by length together."""
_BATCH_TOKENS = 16_384


def is_scalar(model: str) -> bool:
    """Whether a checkpoint's folder holds a model with a scoring head, according to its config.json."""
    config = Path(model) / "config.json"
    if not config.is_file():
        return False
    kinds = json.loads(config.read_text(encoding="utf-8")).get("architectures") or ()
    return any(str(kind).endswith("ForSequenceClassification") for kind in kinds)


class ScalarEngine:
    """An `Engine` whose completions have a `score` and no text. It processes prompts in batches of similar length."""

    def __init__(
        self,
        model: str,
        dtype: Literal["auto", "bfloat16", "float16", "float32"],
        end_id: int,
        trust_remote_code: bool = False,
    ) -> None:
        """Loads the model. `end_id` ends every conversation. Raises ValueError if the model has more than one output."""
        import torch
        from transformers import AutoModelForSequenceClassification

        from tasks.model.device import compute_head_in_float32, engine_dtype, has_gpu

        self.device = "cuda" if has_gpu() else "cpu"
        loaded: Any = AutoModelForSequenceClassification.from_pretrained(
            model, dtype=getattr(torch, engine_dtype(dtype, has_gpu())), trust_remote_code=trust_remote_code
        )
        if loaded.config.num_labels != 1:
            raise ValueError(
                f"{model}: a reward model must have one output, but this one has {loaded.config.num_labels}"
            )
        if loaded.dtype != torch.float32:  # a score in bfloat16 has 8 significant bits: others would be equal to it
            compute_head_in_float32(loaded.score)
        # The head reads the last token that is not padding: padding with the end-of-turn token would hide it.
        self.pad_id = loaded.config.pad_token_id = 0 if end_id != 0 else 1
        self.model = loaded.to(self.device).eval()

    def generate(self, requests: Requests, on_answer: OnAnswer) -> None:
        """See `Engine.generate`: reports each request's score."""
        pulled, first = iter(requests), 0
        while some := list(takewhile(lambda request: request is not None, islice(pulled, _AT_ONCE))):
            self._score_all({i: request for i, request in enumerate(some, first) if request is not None}, on_answer)
            first += len(some)

    def _score_all(self, requests: Mapping[int, Request], on_answer: OnAnswer) -> None:
        order = sorted(requests, key=lambda i: len(requests[i].prompt_ids))
        batch: list[int] = []
        for i in order:
            # Sorted by length: the newest is the longest, and all are padded to its length.
            if batch and (len(batch) + 1) * len(requests[i].prompt_ids) > _BATCH_TOKENS:
                self._score_batch(batch, requests, on_answer)
                batch = []
            batch.append(i)
        if batch:
            self._score_batch(batch, requests, on_answer)

    def _score_batch(self, batch: Sequence[int], requests: Mapping[int, Request], on_answer: OnAnswer) -> None:
        import torch

        longest = max(len(requests[i].prompt_ids) for i in batch)
        ids_BT = torch.full((len(batch), longest), self.pad_id, device=self.device)
        mask_BT = torch.zeros_like(ids_BT)
        for row, i in enumerate(batch):
            ids = torch.tensor(list(requests[i].prompt_ids), device=self.device)
            ids_BT[row, : len(ids)], mask_BT[row, : len(ids)] = ids, 1
        with torch.inference_mode():
            scores_B = self.model(input_ids=ids_BT, attention_mask=mask_BT).logits[:, 0].float().tolist()
        for i, score in zip(batch, scores_B, strict=True):
            on_answer(i, [Completion("", [], finished=True, score=score)])
