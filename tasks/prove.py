"""Proofs: the prover writes k justifications of a known label for each order of the pair, or for one (METHOD 2, 4c).

Eq. 5 scores them, see `tasks.model.proofs`. That costs a pass over each proof: only what the rules leave is scored, and
nothing if the settings do not use the score.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from data.files import json_line, read_jsonl
from data.records import parse_preference
from data.seeds import derive_seed
from data.store.artifacts import WARNINGS, Artifact, Counts, FileRef, Input, Outcome, StageError
from prompts.catalog import PROVER_PROMPTS, prover_for
from prompts.judge import JudgePrompt
from prompts.quotes import RULE
from tasks.machine.parallel import over_blocks
from tasks.model.chat import ChatEncoder
from tasks.model.device import head_facts, resolved_dtype
from tasks.model.engine import Request, Sampling
from tasks.model.location import Checkpoint
from tasks.model.orders import ORDERS, orders_of, requests_in_orders, shown
from tasks.model.proofs import Proof, read_proofs, uses_score
from tasks.model.requests import PROMPT_TOO_LONG, Skip
from tasks.run.rows import GeneratedBlock, generate_rows, generated_blocks
from tasks.run.sorting import SortedRows, written
from tasks.run.stage import Context, Run
from tasks.settings import ProofSettings


def proof_requests(row: Mapping[str, Any], params: Mapping[str, Any], encoder: ChatEncoder) -> list[Request] | Skip:
    """One request per order that is proved, each with n = k."""
    preference, prompt = parse_preference(row), PROVER_PROMPTS[params["prompt"]]
    room = params["context"] - params["max_tokens"]
    return requests_in_orders(
        orders_of(params.get("orders", "both"), params["seed"], preference.pair.id),
        lambda order: encoder.prover_ids(prompt, shown(preference, order), room, params["overlong"]),
        lambda order: Sampling(
            n=params["k"],
            temperature=params["temperature"],
            top_p=params["top_p"],
            max_tokens=params["max_tokens"],
            seed=derive_seed(params["seed"], preference.pair.id, order),
            logprobs=True,
        ),
    )


# ---- stages -----------------------------------------------------------------------------------------------------------


def prove(run: Run, round: int, prover: Artifact | None, labeled: FileRef) -> Artifact:
    """Labeled pairs with the rationales that the judge will learn, or with empty ones if no proofs are to be written."""
    if prover is None or not run.settings.writes_proofs(round):
        return _select_without_proofs(run, round, labeled)
    return select_proofs(run, round, write_proofs(run, round, prover, labeled), labeled)


def proof_params(run: Run, round: int) -> dict[str, Any]:
    """The parameters of a round's `proof_requests`."""
    models, proofs = run.settings.models, run.settings.proofs
    return {
        "prompt": prover_for(run.settings.judge_prompt).name,
        "k": proofs.k,
        "temperature": proofs.temperature,
        "top_p": proofs.top_p,
        "max_tokens": proofs.max_tokens,
        "context": models.max_tokens,
        "overlong": models.overlong,
        "seed": derive_seed(run.seed, "prove", round),
        **({"orders": proofs.orders} if proofs.orders != "both" else {}),
    }


def generate_proofs(context: Context, params: Mapping[str, Any], rows: Path, scored: bool) -> Outcome:
    """Has the input "prover" prove labeled pairs; what the rules leave is scored by Eq. 5 if it is to be `scored`."""
    judge, proofs = context.run.settings.judge_prompt, context.run.settings.proofs
    alone = [message.to_json() for message in prover_for(judge).render_unconditional()]
    return generate_rows(
        context,
        "tasks.prove:proof_requests",
        {**params, "judge_prompt": judge.name, "grounded_quotes": proofs.grounded_quotes},
        rows,
        context.model("prover"),
        "prover",
        score_against=alone if scored else None,
        score_if="tasks.model.proofs:worth_scoring",
    )


def write_proofs(run: Run, round: int, prover: Artifact | Checkpoint, labeled: FileRef) -> Artifact:
    """The stage "prove" of a round: k proofs for each order of each labeled pair that is proved, with both terms of Eq. 5."""
    proofs, params = run.settings.proofs, proof_params(run, round)
    digest = prover_for(run.settings.judge_prompt).digest
    dtype, scored = resolved_dtype(run.settings.models.dtype), uses_score(proofs)
    config = {**params, "prompt_digest": digest, "dtype": dtype, **(head_facts(dtype) if scored else {})}
    config |= run.settings.generation.facts_in_keys()
    if not scored:
        config["scored"] = "nothing"
    elif not proofs.grounded_quotes:
        config["scored"] = "with any quotes"

    def body(context: Context) -> Outcome:
        return generate_proofs(context, params, context.file("labeled"), scored)

    inputs: dict[str, Input] = {"prover": prover, "labeled": labeled}
    return run.find_or_make(f"round-{round}/proofs", "prove", config, inputs, body, round)


def select_proofs(run: Run, round: int, proofs_made: Artifact, labeled: FileRef) -> Artifact:
    """The stage "select": the best valid proof for each order of a pair that was proved; a pair without one is dropped.

    The rules are applied before the score, so a pair is not lost to one bad proof with a high score. A later round than the first
    may keep none: then it is the last (`tasks.label.none_kept`). Raises StageError if an earlier one keeps none.
    """
    judge, proofs = run.settings.judge_prompt, run.settings.proofs
    seed = derive_seed(run.seed, "select", round) if proofs.choose == "random" else None
    config = {
        "prompt": judge.digest,
        "prover_prompt": prover_for(judge).digest,
        "choose": proofs.choose,
        "min_score": proofs.min_score,
        "max_rationale_tokens": proofs.max_rationale_tokens,
        "both_orders": proofs.both_orders,
        "seed": seed,
        **({"quotes": RULE} if proofs.grounded_quotes else {}),
    }

    def body(context: Context) -> Outcome:
        blocks = generated_blocks(context.artifact("proofs"), context.file("labeled"))
        outcome = _select(context.work, blocks, judge, proofs, seed)
        if outcome.counts.kept:
            return outcome
        nothing = _why_nothing(outcome)
        if round > 1:
            return outcome.warning([f"{nothing}. There are no further rounds"])
        raise StageError(nothing + "".join(f"\n{line}" for line in outcome.metrics.get(WARNINGS, ())))

    return run.find_or_make(
        f"round-{round}/selected", "select", config, {"proofs": proofs_made, "labeled": labeled}, body, round
    )


def _why_nothing(outcome: Outcome) -> str:
    """Why no pair was kept, and what helps: rules that reject, or prompts for which no proof was written at all."""
    counts, rejected = outcome.counts, outcome.metrics["rejected"]
    if rejected:
        return (
            f"no pair has a valid proof: {counts.rows_in} pairs, rejected proofs {rejected}. "
            "Train the prover longer, raise proofs.k, or relax the rule that rejects the most"
        )
    said = f"no pair has a proof: {counts.rows_in} pairs, dropped {dict(counts.dropped)}, failed {dict(counts.failed)}"
    if PROMPT_TOO_LONG in counts.dropped:
        said += ". A prompt must fit into the context beside a proof: raise the context, or lower proofs.max_tokens"
    return said


@dataclass
class _Selected(SortedRows):
    """`valid` has the score, if there is one, and the tokens of each valid proof, in order."""

    candidates: int = 0
    valid: list[tuple[float | None, int]] = field(default_factory=list)


def _select(
    work: Path, blocks: Iterable[GeneratedBlock], judge: JudgePrompt, proofs: ProofSettings, seed: int | None
) -> Outcome:
    total, stats = SortedRows(), _ProofStats()
    for made in written(work, "selected.jsonl", over_blocks(partial(_selected_of, judge, proofs, seed), blocks)):
        total.include(made)
        stats.add(made.candidates, made.valid)
    metrics = {**stats.to_json(), "rejected": dict(total.useless.reasons.most_common())}
    return Outcome(total.counts, metrics).warning(total.useless.warnings(stats.candidates, "proofs"))


def _selected_of(judge: JudgePrompt, proofs: ProofSettings, seed: int | None, block: GeneratedBlock) -> _Selected:
    made = _Selected()
    for row, line in block.pairs():
        if "requests" not in line:
            made.leave_out(row, line)
            continue
        found = list(read_proofs(row, line, judge, proofs))
        for _, text, proof in found:
            if proof.rejected:
                made.useless.add(proof.rejected, text)
        valid = [(order, proof) for order, _, proof in found if proof.rejected is None]
        made.candidates += len(found)
        made.valid += [(proof.score, proof.n_tokens) for _, proof in valid]
        chosen: dict[str, Any] = {}
        for order in ORDERS:
            if of_order := [proof for shown_in, proof in valid if shown_in == order]:
                chosen[order] = vars(_choose(of_order, seed, row["id"], order))
        proved = {order for order, _, _ in found}
        if chosen and (len(chosen) == len(proved) or not proofs.both_orders):
            made.keep({**row, "proofs": chosen})
        else:
            reason = "no_valid_proof" if not chosen else "no_valid_proof_in_one_order"
            made.drop(row, reason, candidates=[{"order": order, **vars(proof)} for order, _, proof in found])
    return made


def _choose(valid: list[Proof], seed: int | None, identity: str, order: str) -> Proof:
    if seed is not None:
        return random.Random(derive_seed(seed, identity, order)).choice(valid)
    return max(valid, key=lambda proof: (0.0 if proof.score is None else proof.score, -proof.candidate))


class _ProofStats:
    """Running means over valid proofs, and over those of them that have a score; no lists, so memory does not grow."""

    def __init__(self) -> None:
        self.candidates = self.valid = self.scored = self.tokens = 0
        self.total = 0.0
        self.lowest, self.highest = 0.0, float("-inf")

    def add(self, candidates: int, valid: Iterable[tuple[float | None, int]]) -> None:
        """Some candidates, of which the valid ones have these scores and tokens."""
        self.candidates += candidates
        for score, n_tokens in valid:
            self.valid += 1
            self.tokens += n_tokens
            if score is not None:
                self.scored += 1
                self.total += score  # one by one: sums of blocks would round otherwise
                self.lowest, self.highest = min(self.lowest, score), max(self.highest, score)

    def to_json(self) -> dict[str, Any]:
        if not self.valid:
            return {"candidates": self.candidates, "valid": 0}
        scores = (
            {
                "mean_score": round(self.total / self.scored, 6),
                "min_score": round(self.lowest, 6),
                "max_score": round(self.highest, 6),
            }
            if self.scored
            else {}
        )
        return {
            "candidates": self.candidates,
            "valid": self.valid,
            "scored": self.scored,
            **scores,
            "mean_tokens": round(self.tokens / self.valid, 2),
        }


def _select_without_proofs(run: Run, round: int, labeled: FileRef) -> Artifact:
    """The stage "select" when no proofs are written: every labeled pair is kept, with an empty rationale in each order."""
    orders, seed = run.settings.proofs.orders, derive_seed(run.seed, "prove", round)
    config = {"proofs": False, **({"orders": orders, "seed": seed} if orders != "both" else {})}

    def body(context: Context) -> Outcome:
        n_rows = 0
        with (context.work / "selected.jsonl").open("w", encoding="utf-8") as stream:
            for row in read_jsonl(context.file("labeled")):
                n_rows += 1
                proofs = {order: {"rationale": ""} for order in orders_of(orders, seed, str(row["id"]))}
                stream.write(json_line({**row, "proofs": proofs}))
        return Outcome(Counts(n_rows, n_rows), {"candidates": 0})

    return run.find_or_make(f"round-{round}/selected", "select", config, {"labeled": labeled}, body, round)
