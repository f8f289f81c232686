"""An engine that is a prover and a judge of the small world, each as the test wants it; and a round whose proofs are audited."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.records import Label, PreferencePair
from data.seeds import derive_seed
from data.world.taste import verdict
from tasks.model.chat import ChatEncoder
from tasks.model.engine import Completion, OnAnswer, Request, Requests
from tasks.run.stage import Run
from tasks.trust.audit_proofs import audit_proofs
from tests.conftest import Rows, artifact, run_with, shown_pair

Argues = Callable[[bool, Request, int], tuple[str, float]]
"""(label concluded with: "asked" or "other", logprob) of a proof, given whether the label to be proved is the true one."""


@dataclass
class Arguing:
    """Every proof's logprob alone is −100, so that Eq. 5 gives logprob ÷ 100.

    `odds` are the judge's log odds of the label that a proof concludes with, `reply` its mean logprob of the proof; both are told
    whether that label is the true one.
    """

    encoder: ChatEncoder
    argues: Argues
    odds: Callable[[bool], float] = lambda true: 1.0
    reply: Callable[[bool], float] = lambda true: -2.0
    seen: list[Request] = field(default_factory=list)

    def generate(self, requests: Requests, on_answer: OnAnswer) -> None:
        for i, request in enumerate(one for one in requests if one is not None):
            self.seen.append(request)
            on_answer(i, self._answer(request))

    def _answer(self, request: Request) -> list[Completion]:
        if request.name in ("label", "reply"):
            return [self._reading(request)]
        if request.score_from is not None:
            return [Completion("", [], finished=True, sum_logprob=-100.0)]
        return [self._proof(request, j) for j in range(request.sampling.n)]

    def _proof(self, request: Request, j: int) -> Completion:
        text = self.encoder.tokenizer.decode(list(request.prompt_ids))
        asked: Label = "A" if text.rpartition(" is better. Why?")[0][-1] == "A" else "B"
        said, logprob = self.argues(verdict(shown_pair(self.encoder, request)) == asked, request, j)
        concluded = asked if said == "asked" else "B" if asked == "A" else "A"
        proof = f"Because number {j}. So {concluded} is better."
        return Completion(proof, [*range(1, 21)], finished=True, sum_logprob=logprob)

    def _reading(self, request: Request) -> Completion:
        text = self.encoder.tokenizer.decode(list(request.prompt_ids))
        concluded = text.rpartition(" is better.")[0][-1]
        true = verdict(shown_pair(self.encoder, request)) == concluded
        if request.score_from is not None:
            scored = len(request.prompt_ids) - request.score_from
            return Completion("", [], finished=True, sum_logprob=scored * self.reply(true))
        odds = self.odds(true) if concluded == "A" else -self.odds(true)
        return Completion("A", [1], finished=True, id_logprobs=[odds - 5.0, -5.0])


def only_truths(true: bool, request: Request, j: int) -> tuple[str, float]:
    """Of a wrong label, only the first of an order's proofs concludes for it, and scores lower."""
    return ("asked", -40.0) if true else ("asked" if j == 0 else "other", -80.0)


def anything(true: bool, request: Request, j: int) -> tuple[str, float]:
    """Its proofs of right and of wrong labels look the same."""
    return "asked", -40.0 - derive_seed(0, list(request.prompt_ids), j) % 20


@dataclass
class Audit:
    """What the stages of an audit have reported, by kind."""

    run: Run
    engine: Arguing

    def __getitem__(self, kind: str) -> Any:
        found = self.run.finished_stage(kind, self.run_round)
        assert found is not None
        return found.manifest

    @property
    def run_round(self) -> int:
        return max(a.manifest.round for a in self.run.finished if a.manifest.round is not None)


def audited(
    folder: Path,
    engine: Arguing,
    pairs: Sequence[PreferencePair],
    round: int = 0,
    truth: Rows | None = None,
    wrap: Callable[[Run], Run] = lambda run: run,
    context: int = 256,
    reply: int = 50,
    **proofs: Any,
) -> Audit:
    """The audit of these labeled pairs, all of them unless `audit_pairs` says otherwise."""
    settings = {"max_tokens": 64, "audit_pairs": 100, **proofs}
    sections = {"models": {"max_tokens": context}, "labels": {"max_tokens": reply}, "proofs": settings}
    run = wrap(run_with(folder, engine.encoder, engine, **sections))
    prover, judge = (artifact(run, name, {"checkpoint/weights.jsonl": []}) for name in ("prover", "judge"))
    data = {"labeled.jsonl": [one.to_json() for one in pairs], "truth.jsonl": truth or []}
    files = artifact(run, "data", data)
    known = files.ref("truth.jsonl") if truth is not None else None
    audit_proofs(run, round, prover, judge, files.ref("labeled.jsonl"), known)
    return Audit(run, engine)
