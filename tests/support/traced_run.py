"""A short self-training over fakes in which a judge errs and proofs are rejected, to be traced."""

from __future__ import annotations

from pathlib import Path

from data.store.store import RunStore
from data.world import taste
from flows.config.recipes import load_recipe, with_overrides
from flows.self_train import self_training
from prompts.prove import PROVE_COMPACT
from tasks.model.chat import ChatEncoder
from tasks.model.engine import FakeEngine, Request
from tasks.report.self_training import write_metrics
from tasks.run.stage import Run
from tests.conftest import InProcess, shown_pair, true_judge
from tests.support.playing import ALWAYS_A
from tests.support.short_run import short_run
from tests.tasks.test_interrupted_run import copies

NO_PROOF = "Hm."


def _draw(request: Request, encoder: ChatEncoder) -> int:
    """A number from the words that a request shows, in whichever order."""
    pair = shown_pair(encoder, request)
    return sum(map(ord, pair.response_a + pair.response_b))


def erring_engine(encoder: ChatEncoder) -> FakeEngine:
    """A judge that answers A to a third of the pairs, in both orders; a prover whose first proof is none, for some pairs all."""
    judged = true_judge(encoder)

    def reply(request: Request, j: int) -> str:
        text = encoder.tokenizer.decode(list(request.prompt_ids))
        if "Why?" in text:
            if j == 0 or _draw(request, encoder) % 5 < 2:
                return NO_PROOF
            return PROVE_COMPACT.to_proof(taste.rationale(shown_pair(encoder, request)))
        return ALWAYS_A if _draw(request, encoder) % 3 == 0 else judged(request, j)

    return FakeEngine(reply)


def traced_run(folder: Path, encoder: ChatEncoder) -> Run:
    """A run with one round of 20 pairs and a final fine-tuning, gone through to its end."""
    sizes = {"rounds.pairs": 20, "generation.shard_rows": 5, "proofs.k": 3}
    short = {**short_run(folder / "world"), **sizes, "training.labeled_share": 0.8}  # labeled examples are repeated
    config = with_overrides(load_recipe("demo").model_dump(), short)
    engine = InProcess(erring_engine(encoder), encoder)
    run = Run(RunStore(folder / "runs", "run"), config, 0, generator=engine, trainer=copies, on_finished=write_metrics)
    self_training(run)
    write_metrics(run, ended=True)
    return run
