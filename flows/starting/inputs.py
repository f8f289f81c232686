"""What a recipe is made of: the files as they were found, the models, the machine; and what follows for its prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from flows.starting.files import Found, measured, shapes
from flows.starting.models import BaseModel, Machine
from flows.starting.scale import LARGE, heldout_share, weight_of
from prompts.catalog import JUDGE_PROMPTS
from prompts.judge import JudgePrompt
from tasks.describe.survey import TEXTS

Flow = Literal["self-train", "gram", "adapt", "benchmark"]
MOST_SHARED = 10
"""Fewer different prompts than these cannot be split into training and held-out ones."""
_MOST = 2000


@dataclass(frozen=True)
class Inputs:
    """Everything that was given or asked. `heldout` may have been split off by `flows.starting.setting_apart`."""

    name: str
    flow: Flow
    labeled: tuple[Found, ...]
    judge: BaseModel
    machine: Machine
    unlabeled: Found | None = None
    rationale: tuple[Found, ...] = ()
    heldout: Found | None = None
    prover: BaseModel | None = None

    @property
    def pairs(self) -> int:
        """The labeled pairs."""
        return sum(found.usable("preference") for found in self.labeled)

    @property
    def trained(self) -> int:
        """Those of the labeled pairs that are not held out."""
        return self.pairs if self.heldout else round(self.pairs * (1 - heldout_share(self.pairs).value))

    @property
    def prompts(self) -> int:
        """Different prompts among the labeled pairs, in each file."""
        return sum(found.prompts for found in self.labeled)

    @property
    def one_prompt(self) -> bool:
        """Whether the rows share their prompts, so that only whole pairs can be kept apart."""
        return self.prompts < MOST_SHARED

    @property
    def asking(self) -> str:
        """How few prompts there are, in words."""
        return (
            "all rows have the same prompt"
            if self.prompts == 1
            else f"the rows have only {self.prompts} different prompts"
        )


@dataclass(frozen=True)
class Asked:
    """The judge's prompt, the rationales in its form (None if there are none), and why it was chosen."""

    prompt: JudgePrompt
    rationales: int | None
    why: str


def choose_prompt(inputs: Inputs) -> tuple[Asked, list[str]]:
    """The prompt whose form the rationales have, or a label-only one; and what the user must know of it."""
    label_only = JUDGE_PROMPTS["gram" if weight_of(inputs.judge) >= LARGE else "compact-label"]
    if inputs.flow == "gram":
        return Asked(label_only, None, "GRAM's judge replies with the label alone"), []
    if not inputs.rationale:
        return Asked(label_only, None, "the reply is the label alone: there are no rationales to learn from"), [
            _NO_RATIONALE
        ]
    found = shapes(inputs.rationale)
    usable = sum(one.survey.usable["rationale"] for one in inputs.rationale)
    name, fitting = max(found.items(), key=lambda each: each[1])
    if not fitting:
        why = "the reply is the label alone: no rationale in the data has a form that a prover can learn"
        return Asked(label_only, None, why), [_NO_RATIONALE]
    part = "" if fitting == usable else (
        f"{usable - fitting:,} rationales do not conclude for their label in the form of "
        f"the prompt {name} and will be left out of the prover's training, counted"
    )  # fmt: skip
    why = (
        "the released checkpoints' own prompt"
        if name == "gram-r2"
        else "a short prompt, whose form the rationales have"
    )
    projected = round(fitting * sum(one.usable("rationale") for one in inputs.rationale) / max(usable, 1))
    return Asked(JUDGE_PROMPTS[name], projected, why), [part] if part else []


_NO_RATIONALE = (
    "There are no pairs with rationales, from which a prover would learn to write them (D_p of the method). So no rationales are "
    "written: the judge is trained to reply with the label alone, and labels unlabeled pairs by that label's probability. "
    "A few dozen pairs with a rationale (--rationale FILE) make it a judge that reasons."
)


@dataclass(frozen=True)
class Lengths:
    """In the judge's tokens: 99% of the prompts, and their mean; 99% of the rationales, and their mean (None: no rationales)."""

    prompt: int
    mean_prompt: float
    rationale: int | None = None
    mean_rationale: float = 0.0
    spelled: bool = False
    """Whether the model's vocabulary has no words for the rationales: it writes them letter by letter."""


def lengths(inputs: Inputs, asked: Asked) -> Lengths:
    """The lengths in the data: of all files whose pairs the judge will see."""
    tokens = inputs.judge.tokens()
    prompts: list[int] = []
    for found in (*inputs.labeled, inputs.unlabeled, *inputs.rationale):
        if found is not None:
            prompts += measured(found, asked.prompt, tokens).tokens[TEXTS[2]]
    if asked.rationales is None:
        return Lengths(_quantile(prompts), _mean(prompts))
    texts = [pair.rationale for found in inputs.rationale for pair in found.argued()][:_MOST]
    written = tokens(texts)
    spelled = 2 * sum(written) > sum(map(len, texts))
    return Lengths(_quantile(prompts), _mean(prompts), _quantile(written), _mean(written), spelled)


def _quantile(values: Sequence[int], share: float = 0.99) -> int:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.floor(share * len(ordered)))] if ordered else 0


def _mean(values: Sequence[int]) -> float:
    return sum(values) / max(len(values), 1)
