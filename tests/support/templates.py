"""The published chat templates, and pairs to show by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from data.benchmarks import preferences
from data.records import Message, PreferencePair, RationalePair, ResponsePair
from prompts.catalog import JUDGE_PROMPTS, PROVER_PROMPTS, prover_for
from prompts.judge import join_headings
from tasks.benchmark.play import game_requests
from tasks.label import vote_requests
from tasks.model.chat import ChatEncoder
from tasks.model.judging import JudgeQuery
from tasks.prove import proof_requests
from tasks.settings import ModelSettings, Optimization, Role
from tests.support.families import (
    FAMILIES,
    chat_template,
)
from tests.support.training_jobs import Setup

PAIR = ResponsePair(
    "p1", (Message("user", "Why is the sky blue?"),), "Rayleigh scattering.", "It reflects the sea.", "test"
)


SHORT = "A names the cause. So A is better."


LONG = join_headings("Response A names the cause.", "Only A is right.", "Response A is better.")


TEXTS = [
    *(f"{text}\n {text}\n" for text in (PAIR.prompt[0].content, PAIR.response_a, PAIR.response_b)),
    JUDGE_PROMPTS["compact"].target(SHORT, "A"),
    JUDGE_PROMPTS["gram-r2"].target(LONG, "A"),
    *(prompt.template.text for prompt in (*JUDGE_PROMPTS.values(), *PROVER_PROMPTS.values())),
    *(prover.opening for prover in PROVER_PROMPTS.values()),
    *(chat_template(family.template) for family in FAMILIES),
]
"""What the families' small tokenizers learn their words from."""


each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def shown(encoder: ChatEncoder, ids: Sequence[int]) -> str:
    """Every token as it is spelled, with a dot between two."""
    return "·".join(encoder.tokenizer.decode([token]) for token in ids)


@dataclass(frozen=True)
class Golden:
    """One training example: the tokens of the user's text, and those of the completion but for the one that ends the turn."""

    role: Role
    judge: str
    rationale: str
    user: str
    completion: str

    @property
    def row(self) -> dict[str, Any]:
        return RationalePair(PAIR, "A", self.rationale).to_json()

    def setup(self, models: dict[str, Any] | None = None) -> Setup:
        job: dict[str, Any] = {"judge_base": "none", "prover_base": "none", "max_tokens": 1024, **(models or {})}
        return Setup(ModelSettings(judge_prompt=self.judge, **job), Optimization(max_steps=1), role=self.role)  # type: ignore[arg-type]


_COMPACT = "Why· is· the· sky· blue·?\n·A·:· Rayleigh· scattering·.\n·B·:· It· reflects· the· sea·.\n·"


JUDGE = Golden(
    "judge",
    "compact",
    SHORT,
    _COMPACT + "Better·?",
    "<think>· A· names· the· cause·.· So· A· is· better·.· ·</think>·<·answer·>·A·</·answer·>",
)


PROVER = Golden(
    "prover",
    "compact",
    SHORT,
    _COMPACT + "A· is· better·.· Why·?",
    "Because· A· names· the· cause·.· So· A· is· better·.",
)


LABEL = Golden("judge", "compact-label", "", _COMPACT + "Better·?", "A")


def asked(golden: Golden, encoder: ChatEncoder, pair: ResponsePair = PAIR) -> list[int]:
    """The prompt that generation gives the engine for the same pair."""
    room = {"context": 1024, "overlong": "drop", "max_tokens": 64, "temperature": 1.0, "top_p": 1.0, "seed": 7}
    preference = PreferencePair(pair, "A")
    if golden.role == "prover":
        params = {"prompt": prover_for(JUDGE_PROMPTS[golden.judge]).name, "k": 2, **room}
        made = proof_requests(preference.to_json(), params, encoder)
    elif JUDGE_PROMPTS[golden.judge].has_rationale:
        made = vote_requests(pair.to_json(), {"prompt": golden.judge, "votes": 2, **room}, encoder)
    else:
        [item] = preferences.of_rows([preference.to_json()]).items
        made = game_requests(item.to_json(), JudgeQuery(golden.judge, 64, 1024).to_json(), encoder)
    assert isinstance(made, list)
    return list(made[0].prompt_ids)
