"""Proofs as they are read from a prover's completions: the rules that reject one, and its score.

Eq. 5: ``Score(s, l, ẑ) = −log π(ẑ | s, l) ÷ log π(ẑ)``, in (−∞, 0]; higher is better: likely given the pair and its label,
unlikely on its own. Both terms are sums over all tokens of the proof, its end-of-turn token included.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from data.records import PreferencePair, parse_preference
from prompts.catalog import JUDGE_PROMPTS, PROVER_PROMPTS, prover_for
from prompts.judge import JudgePrompt
from prompts.prove import ProverPrompt
from tasks.model.orders import shown
from tasks.settings import ProofSettings

_WORST = -1e9
"""Stands for −∞, which JSON cannot represent."""


@dataclass(frozen=True)
class Proof:
    """One candidate: its rationale, its Eq. 5 score if it has one, and why it is rejected, if it is."""

    rationale: str
    score: float | None
    candidate: int
    n_tokens: int
    logprob: float
    logprob_alone: float | None
    rejected: str | None = None


def score(logprob: float, logprob_alone: float) -> float:
    """Eq. 5 from the two sums of natural logs, both ≤ 0. A proof that is certain on its own is uninformative: worst score."""
    if logprob_alone == 0.0:
        return _WORST
    return max(-logprob / logprob_alone, _WORST)


def broken_rule(
    completion: Mapping[str, Any],
    preference: PreferencePair,
    judge: JudgePrompt,
    prover: ProverPrompt,
    grounded_quotes: bool,
    most_tokens: int | None = None,
) -> str | None:
    """Why METHOD 4d's rules reject a completion as a proof of the label of the pair as shown; None if they do not."""
    if not completion["finished"]:
        return "truncated"
    rationale = prover.to_rationale(completion["text"])
    if rationale is None:
        return "no_opening"
    if most_tokens is not None and completion["n_tokens"] > most_tokens:
        return "too_long"
    rejected = judge.check_rationale(rationale, preference.label)
    if rejected is None and grounded_quotes and judge.ungrounded_quote(rationale, preference.pair) is not None:
        return "ungrounded_quote"
    return rejected


def worth_scoring(row: Mapping[str, Any], params: Mapping[str, Any], order: str, completion: Mapping[str, Any]) -> bool:
    """Whether a completion may become a proof (the `score_if` of a generation job).

    A bound on its length is not looked at: it can be raised later without writing the proofs anew.
    """
    judge, prover = JUDGE_PROMPTS[params["judge_prompt"]], PROVER_PROMPTS[params["prompt"]]
    seen = shown(parse_preference(row), order)
    return broken_rule(completion, seen, judge, prover, params["grounded_quotes"]) is None


def uses_score(proofs: ProofSettings) -> bool:
    """Whether anything depends on the proofs' scores under these settings."""
    return proofs.min_score is not None or (proofs.choose == "best" and proofs.k > 1)


def read_proof(
    completion: Mapping[str, Any],
    candidate: int,
    preference: PreferencePair,
    judge: JudgePrompt,
    prover: ProverPrompt,
    proofs: ProofSettings,
) -> Proof:
    """One completion as a proof of the label of the pair as shown, checked by the rules and the settings' bounds.

    One without a score is rejected if scores are used.
    """
    alone = completion.get("logprob_alone")
    value = None if alone is None else score(completion["logprob"], alone)
    rejected = broken_rule(completion, preference, judge, prover, proofs.grounded_quotes, proofs.max_rationale_tokens)
    if rejected is None and value is None and uses_score(proofs):
        rejected = "not_scored"
    if rejected is None and value is not None and proofs.min_score is not None and value < proofs.min_score:
        rejected = "low_score"
    return Proof(
        (prover.to_rationale(completion["text"]) or "").strip(),
        value,
        candidate,
        completion["n_tokens"],
        completion["logprob"],
        alone,
        rejected,
    )


def read_proofs(
    row: Mapping[str, Any], line: Mapping[str, Any], judge: JudgePrompt, proofs: ProofSettings
) -> Iterator[tuple[str, str, Proof]]:
    """Every proof generated for a labeled pair: the order in which the pair was shown, the completion's text, the proof."""
    preference, prover = parse_preference(row), prover_for(judge)
    for request in line.get("requests", ()):
        seen = shown(preference, request["name"])
        for j, completion in enumerate(request["completions"]):
            yield request["name"], completion["text"], read_proof(completion, j, seen, judge, prover, proofs)
