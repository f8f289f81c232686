"""A discriminative reward model: it gives each response a score of its own, from a head with one output on a transformer.

Two scores make a game: the probability that the first response is better is σ(first − second), Bradley-Terry's, and is the
same in both orders.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from tasks.model.engine import Completion, OnAnswer, Request

SCALAR = "scalar"
"""Stands for a prompt where a judge has none: it is shown the conversation with the response, and nothing else."""

_BATCH_TOKENS = 16_384


def is_scalar(model: str) -> bool:
    """Whether a checkpoint's folder holds a model with one output, by its own configuration."""
    config = Path(model) / "config.json"
    if not config.is_file():
        return False
    kinds = json.loads(config.read_text(encoding="utf-8")).get("architectures") or ()
    return any(str(kind).endswith("ForSequenceClassification") for kind in kinds)


class ScalarEngine:
    """An `Engine` whose completions have no text but a `score`. It reads prompts, in batches of like length."""

    def __init__(
        self,
        model: str,
        dtype: Literal["auto", "bfloat16", "float16", "float32"],
        end_id: int,
        trust_remote_code: bool = False,
    ) -> None:
        """Loads the model. `end_id` ends every conversation. Raises ValueError where the model has more outputs than one."""
        import torch
        from transformers import AutoModelForSequenceClassification

        from tasks.model.device import engine_dtype, has_gpu

        self.device = "cuda" if has_gpu() else "cpu"
        loaded: Any = AutoModelForSequenceClassification.from_pretrained(
            model, dtype=getattr(torch, engine_dtype(dtype, has_gpu())), trust_remote_code=trust_remote_code
        )
        if loaded.config.num_labels != 1:
            raise ValueError(f"{model}: a reward model has one output, this has {loaded.config.num_labels}")
        # The head reads the last token that is not padding: a tokenizer that pads with the end of a turn would hide it.
        self.pad_id = loaded.config.pad_token_id = 0 if end_id != 0 else 1
        self.model = loaded.to(self.device).eval()

    def generate(self, requests: Sequence[Request], on_answer: OnAnswer) -> None:
        """See `Engine.generate`: tells each request's score. Nothing is ever asked again."""
        order = sorted(range(len(requests)), key=lambda i: len(requests[i].prompt_ids))
        batch: list[int] = []
        for i in order:
            # Sorted by length: the newest is the longest, to which all are padded.
            if batch and (len(batch) + 1) * len(requests[i].prompt_ids) > _BATCH_TOKENS:
                self._tell(batch, requests, on_answer)
                batch = []
            batch.append(i)
        if batch:
            self._tell(batch, requests, on_answer)

    def _tell(self, batch: Sequence[int], requests: Sequence[Request], on_answer: OnAnswer) -> None:
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

    def score(self, texts: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[float]:
        """Not to be had: there are no token probabilities."""
        raise NotImplementedError("a discriminative model has no probabilities of texts")
