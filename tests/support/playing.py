"""Models over a fake engine: a judge that plays a benchmark, and whatever a run in the world needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from data.benchmarks.items import Item
from data.store.artifacts import Artifact
from data.world import taste
from prompts.prove import PROVE_COMPACT
from tasks.benchmark.play import game_requests
from tasks.benchmark.sets import prepare_heldout
from tasks.model.chat import ChatEncoder
from tasks.model.engine import FakeEngine, Request
from tasks.model.judging import JudgeQuery
from tasks.run.stage import Run
from tests.conftest import artifact, shown_pair, true_judge

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


def world_engine(encoder: ChatEncoder) -> FakeEngine:
    """Stands in for every model: judges that are right, a prover that writes true proofs."""
    judged = true_judge(encoder)

    def reply(request: Request, j: int) -> str:
        text = encoder.tokenizer.decode(list(request.prompt_ids))
        if "Why?" in text:
            return PROVE_COMPACT.to_proof(taste.rationale(shown_pair(encoder, request)))
        return judged(request, j) if "Better?" in text else ""

    def logprobs(request: Request) -> tuple[float, float]:
        return (-0.1, -2.0) if taste.verdict(shown_pair(encoder, request)) == "A" else (-2.0, -0.1)

    def score(request: Request) -> float:
        text = encoder.tokenizer.decode(list(request.prompt_ids))
        return float(sum(map(taste.likes, text.replace("<|", " ").replace("|>", " ").split())))

    return FakeEngine(reply, id_logprobs=logprobs, scores=score)
