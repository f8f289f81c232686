"""Rounds whose strictness is tested on calibration pairs of the small world, by a judge of known accuracy."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from data.records import PreferencePair
from data.store.artifacts import Artifact
from data.world import taste
from tasks.label import label
from tasks.model.chat import ChatEncoder
from tasks.model.engine import Request
from tasks.run.stage import Run
from tasks.trust.threshold import set_strictness
from tests.conftest import Reply, artifact, run_with, shown_pair, true_judge

EASY, HARD = "easy", "hard"


def pairs_of(n: int, seed: int, source: str) -> list[PreferencePair]:
    return [replace(p, pair=replace(p.pair, source=source)) for p in taste.draw_pairs(n, seed)]


def judge_of(encoder: ChatEncoder, accuracy: Callable[[frozenset[str]], float]) -> Reply:
    """Each vote is right with the probability that belongs to the pair's words."""
    right, known = true_judge(encoder), dict[tuple[int, ...], tuple[frozenset[str], str]]()

    def reply(request: Request, j: int) -> str:
        shown = tuple(request.prompt_ids)
        if shown not in known:
            known[shown] = frozenset(chain(*taste.words_of(shown_pair(encoder, request)))), right(request, j)
        words, whole = known[shown]
        text, verdict = whole.removesuffix("</answer>").rsplit(">", 1)
        draw = random.Random(f"{request.sampling.seed + j} {sorted(words)} {request.name}").random()
        said = verdict if draw < accuracy(words) else "AB"[verdict == "A"]
        return f"{text}>{said}</answer>"

    return reply


class Round:
    """One round's data, and a run for it. The judge's votes are right with the probability of the pair's domain."""

    def __init__(
        self,
        folder: Path,
        encoder: ChatEncoder,
        accuracy: Mapping[str, float],
        calibration: Sequence[PreferencePair],
        batch: Sequence[PreferencePair],
        overlap: str = "pair",
        **labels: Any,
    ) -> None:
        domains = {frozenset(chain(*taste.words_of(p.pair))): p.pair.source for p in (*calibration, *batch)}
        settings = {"max_tokens": 64, "target_precision": 0.95, "max_one_sided": 1.0, **labels}
        self.run: Run = run_with(
            folder,
            encoder,
            judge_of(encoder, lambda words: accuracy[domains[words]]),
            labels=settings,
            data={"calibration_share": 0.1, "overlap": overlap},
            generation={"shard_rows": 100},
        )
        files = {
            "calibration.jsonl": [p.to_json() for p in calibration],
            "batch-1.jsonl": [p.pair.to_json() for p in batch],
        }
        truth = [{"id": p.pair.id, "label": p.label} for p in batch]
        self.data = artifact(self.run, "data", {**files, "truth.jsonl": truth})
        self.judge = artifact(self.run, "judge", {"checkpoint/weights.jsonl": []})

    def strictness(self, stricter: int = 0) -> Any:
        return set_strictness(self.run, 1, self.judge, self.data, self.data.ref("batch-1.jsonl"), stricter)

    def label(self, stricter: int = 0) -> Artifact:
        batch, truth = self.data.ref("batch-1.jsonl"), self.data.ref("truth.jsonl")
        return label(self.run, 1, self.judge, batch, truth, self.strictness(stricter))

    def stage(self, kind: str) -> Artifact:
        found = self.run.finished_stage(kind, 1)
        assert found is not None
        return found
