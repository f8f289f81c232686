"""The prompts that a recipe chooses by name, and the prover and pre-training prompts that go with each judge."""

from __future__ import annotations

from typing import Literal

from prompts.gram import COMPACT_PRETRAINING, GRAM, GRAM_CARD, GRAM_PRETRAINING, PretrainingPrompt
from prompts.judge import COMPACT, COMPACT_LABEL, GRAM_R2, JudgePrompt
from prompts.prove import PROVE, PROVE_COMPACT, ProverPrompt

JudgePromptName = Literal["gram-r2", "compact", "compact-label", "gram", "gram-card"]
JUDGE_PROMPTS: dict[str, JudgePrompt] = {p.name: p for p in (GRAM_R2, COMPACT, COMPACT_LABEL, GRAM, GRAM_CARD)}
PROVER_PROMPTS: dict[str, ProverPrompt] = {p.name: p for p in (PROVE, PROVE_COMPACT)}


def digests() -> dict[str, str]:
    """The digest of every prompt, by what it is for and its name."""
    return {
        **{f"judge {name}": prompt.digest for name, prompt in JUDGE_PROMPTS.items()},
        **{f"prover {name}": prompt.digest for name, prompt in PROVER_PROMPTS.items()},
        **{f"pretraining {prompt.name}": prompt.digest for prompt in (GRAM_PRETRAINING, COMPACT_PRETRAINING)},
    }


def prover_for(judge: JudgePrompt) -> ProverPrompt:
    """The prover prompt whose proofs have the shape that this judge's rationales must have."""
    return PROVE_COMPACT if judge.shape == "compact" else PROVE


def pretraining_for(judge: JudgePrompt) -> PretrainingPrompt:
    """The pre-training prompt that formats question and responses as this judge's prompt does."""
    return COMPACT_PRETRAINING if judge.name.startswith("compact") else GRAM_PRETRAINING
