"""A judge that plays a benchmark over a fake engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from data.benchmarks.items import Item
from data.store.artifacts import Artifact
from data.world import taste
from tasks.benchmark.play import game_requests
from tasks.benchmark.sets import prepare_heldout
from tasks.model.chat import ChatEncoder
from tasks.model.engine import Request
from tasks.model.judging import JudgeQuery
from tasks.run.stage import Run
from tests.conftest import artifact

PAIRS = taste.draw_pairs(6, 3)


ALWAYS_A = "<think> So A is better. </think><answer>A</answer>"


def judge_of(run: Run) -> Artifact:
    return artifact(run, "judge", {"checkpoint/weights.jsonl": []})


def heldout_of(run: Run) -> Artifact:
    return prepare_heldout(run, artifact(run, "data", {"heldout.jsonl": [pair.to_json() for pair in PAIRS]}))


def requests_of(item: Item, encoder: ChatEncoder, **query: Any) -> Sequence[Request]:
    made = game_requests(
        item.to_json(),
        JudgeQuery(**{"prompt": "compact", "max_tokens": 64, "context": 256, **query}).to_json(),
        encoder,
    )
    assert isinstance(made, list)
    return made
