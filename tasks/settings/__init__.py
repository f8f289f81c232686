"""The settings that stages read, one section per concern. Values not marked "Paper:" in a description are our own choice.

The UI shows each section as a form: titles and descriptions are its help texts. Messages of cross-field rules give the reason.
"""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from prompts.catalog import JUDGE_PROMPTS
from prompts.judge import JudgePrompt
from tasks.settings.benchmarks import BenchmarkSet, BenchmarkSettings, JudgeSettings
from tasks.settings.data import DataSettings, RoundSettings
from tasks.settings.labeling import LabelSettings, ProofSettings
from tasks.settings.machines import GenerationSettings, RetentionSettings
from tasks.settings.mechanics import Mechanics
from tasks.settings.models import ModelSettings
from tasks.settings.section import Role, Section
from tasks.settings.task import TaskSettings
from tasks.settings.training import (
    BaselineSettings,
    EarlyStopping,
    LoraSettings,
    Optimization,
    TrainingSettings,
)

__all__ = [
    "LABEL_TOKENS",
    "BaselineSettings",
    "BenchmarkRunSettings",
    "BenchmarkSet",
    "BenchmarkSettings",
    "DataSettings",
    "EarlyStopping",
    "GenerationSettings",
    "JudgeSettings",
    "LabelSettings",
    "LoraSettings",
    "Mechanics",
    "ModelSettings",
    "Optimization",
    "ProofSettings",
    "RetentionSettings",
    "Role",
    "RoundSettings",
    "Section",
    "Settings",
    "TaskSettings",
    "TrainingSettings",
]


LABEL_TOKENS = 2
"""The longest reply of a label-only judge: the label and the end-of-turn token."""


class BenchmarkRunSettings(Section):
    """What is needed to benchmark an existing judge: the sections of `Settings` that benchmark stages read."""

    models: ModelSettings
    generation: GenerationSettings
    benchmarks: BenchmarkSettings
    retention: RetentionSettings

    @property
    def reply_tokens(self) -> int:
        """The longest reply in a benchmark."""
        return self.benchmarks.max_tokens or 1024

    def warnings(self) -> list[str]:
        """Settings that are allowed but probably unintended: none here."""
        return []


class Settings(Section):
    """All settings of a run, section by section."""

    models: ModelSettings
    data: DataSettings
    proofs: ProofSettings = ProofSettings()
    labels: LabelSettings = LabelSettings()
    training: TrainingSettings = TrainingSettings()
    generation: GenerationSettings = GenerationSettings()
    rounds: RoundSettings = RoundSettings()
    benchmarks: BenchmarkSettings = BenchmarkSettings()
    retention: RetentionSettings = RetentionSettings()

    @property
    def judge_prompt(self) -> JudgePrompt:
        return JUDGE_PROMPTS[self.models.judge_prompt]

    @property
    def reply_tokens(self) -> int:
        """The longest reply in a benchmark."""
        return self.benchmarks.max_tokens or self.labels.max_tokens

    @property
    def judge_room(self) -> int:
        """The tokens of the context reserved for a judge's reply, the same in training and in generation."""
        return self.labels.max_tokens if self.judge_prompt.has_rationale else LABEL_TOKENS

    @model_validator(mode="after")
    def _replies_fit(self) -> Self:
        replies = {
            "proofs": self.proofs.max_tokens if self.writes_proofs() else 0,
            "labels": self.labels.max_tokens,
            "benchmarks": self.benchmarks.max_tokens or 0,
        }
        for section, tokens in replies.items():
            if tokens >= self.models.max_tokens:
                raise ValueError(
                    f"{section}.max_tokens = {tokens} leaves no room for a prompt in models.max_tokens = {self.models.max_tokens}"
                )
        return self

    @model_validator(mode="after")
    def _packed_sequences_hold_an_example(self) -> Self:
        self.training.packed_to(self.models.max_tokens)  # raises if it would cut one
        return self

    @model_validator(mode="after")
    def _dtype_is_given_to_workers(self) -> Self:
        if self.models.dtype == "auto" and (self.generation.workers or self.training.in_pool):
            raise ValueError(
                'models.dtype = "auto" depends on the GPUs of the run\'s own machine, but generation.workers or '
                'training.in_pool use other machines: set models.dtype explicitly, such as "bfloat16"'
            )
        return self

    @model_validator(mode="after")
    def _truth_is_given(self) -> Self:
        if self.labels.source == "truth" and not self.data.unlabeled_truth:
            raise ValueError('labels.source = "truth" needs unlabeled rows with true labels: set data.unlabeled_truth')
        return self

    @model_validator(mode="after")
    def _votes_can_be_remembered(self) -> Self:
        labels = self.labels
        if labels.memory and labels.source == "truth":
            raise ValueError(
                'labels.memory is about the judge\'s votes, and labels.source = "truth" has none: leave it out'
            )
        if labels.memory and labels.voting != "all" and self.judge_prompt.has_rationale:
            raise ValueError(
                f'labels.memory = {labels.memory:g} needs labels.voting = "all", not "{labels.voting}": later rounds remember '
                "a pair's share of all votes, which is not known if they end early"
            )
        if labels.memory and labels.target_precision is not None:
            raise ValueError(
                "labels.memory and labels.target_precision cannot be combined: thresholds are tested on votes without memory; "
                "leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _unlabeled_pairs_are_given(self) -> Self:
        if self.rounds.count and not self.data.unlabeled:
            raise ValueError(
                f"rounds.count = {self.rounds.count} needs data.unlabeled; set rounds.count = 0 to stop after the first judge"
            )
        return self

    @model_validator(mode="after")
    def _the_target_can_be_tested(self) -> Self:
        labels = self.labels
        if labels.target_precision is None or labels.source == "truth":
            return self
        if not self.data.calibrates:
            raise ValueError(
                f"labels.target_precision = {labels.target_precision:g} is tested on labeled pairs that no model is trained on: "
                "set data.calibration_share, such as 0.1, or give data.calibration a source"
            )
        if labels.voting == "beta":
            raise ValueError(
                'labels.voting = "beta" ends votes before it is known at which thresholds a label would be kept: set it to '
                '"exact", or leave out labels.target_precision'
            )
        return self

    @model_validator(mode="after")
    def _the_prover_has_what_it_needs(self) -> Self:
        if self.writes_proofs():
            if not self.models.prover_base:
                raise ValueError(
                    "models.prover_base: proofs are written by a prover; name the base model it is trained from"
                )
            if not self.data.rationale:
                raise ValueError(
                    "data.rationale: the prover learns from pairs with rationales; give at least one source"
                )
        if not self.data.rationale and (self.training.final is not None or self.training.human_rationales):
            raise ValueError(
                "training.final and training.human_rationales need data.rationale: give at least one source"
            )
        return self

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> Self:
        if self.training.label_loss == "labels" and self.judge_prompt.has_rationale:
            raise ValueError(
                f'training.label_loss = "labels" is for label-only judges, but models.judge_prompt = '
                f'"{self.models.judge_prompt}" asks for a rationale: leave label_loss out, or use the prompt "gram"'
            )
        if self.labels.grounded_votes:
            why = 'labels.source = "truth" takes labels from the data' if self.labels.source == "truth" else ""
            if not self.judge_prompt.has_rationale:
                why = f'the judge of models.judge_prompt = "{self.models.judge_prompt}" gives only the label'
            if why:
                raise ValueError(f"labels.grounded_votes reads the rationales of votes, but {why}: leave it out")
        for name, one in self.training:
            if isinstance(one, Optimization) and one.early_stopping is not None:
                raise ValueError(
                    f"training.{name}.early_stopping needs a validation set, which only the flow adapt has: leave it out"
                )
        return self

    @model_validator(mode="after")
    def _both_orders_are_proved(self) -> Self:
        if self.training.pair_orders and (self.proofs.orders == "one" or not self.proofs.both_orders):
            raise ValueError(
                'training.pair_orders needs pairs that are proved in both orders: set proofs.orders = "both" and '
                "proofs.both_orders = true, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _audited_proofs_are_written(self) -> Self:
        if self.proofs.audit_pairs and not self.writes_proofs():
            why = 'proofs.write_for = "nothing"'
            if not self.judge_prompt.has_rationale:
                why = f'the judge of models.judge_prompt = "{self.models.judge_prompt}" gives only the label'
            raise ValueError(
                f"proofs.audit_pairs = {self.proofs.audit_pairs}, but there are no proofs to audit: {why}. Leave it out"
            )
        return self

    @model_validator(mode="after")
    def _pretraining_has_pairs(self) -> Self:
        if (self.training.pretraining is None) != (not self.data.pretraining):
            given, missing = ("training.pretraining", "data.pretraining")
            if self.data.pretraining:
                given, missing = missing, given
            raise ValueError(f"{given} is given without {missing}: give both to pre-train, or neither")
        return self

    def with_label_judge(self, prompt: str, loss: str) -> Self:
        """A copy for a label-only judge with this prompt, trained with this loss."""
        return self.model_copy(
            update={
                "models": self.models.model_copy(update={"judge_prompt": prompt}),
                "labels": self.labels.model_copy(update={"max_tokens": LABEL_TOKENS}),
                "training": self.training.model_copy(update={"label_loss": loss}),
            }
        )

    def warnings(self) -> list[str]:
        """Settings that are allowed but probably unintended; reported when a run starts."""
        if self.labels.target_precision is not None:
            return []
        unread = [
            "data.calibration or data.calibration_share sets labeled pairs apart, but nothing is calibrated on them: set "
            "labels.target_precision, or train on them"
        ]
        return [*self._thresholds_out_of_reach(), *(unread if self.data.calibrates else ())]

    def _thresholds_out_of_reach(self) -> list[str]:
        if self.judge_prompt.has_rationale or self.training.label_loss != "labels" or not self.rounds.count:
            return []
        optimum = 1 - self.training.label_smoothing / 2
        if self.labels.min_confidence < optimum:
            return []
        return [
            f"labels.min_confidence = {self.labels.min_confidence:g} is at or above {optimum:g}, the probability that "
            f"training.label_smoothing = {self.training.label_smoothing:g} pulls the judge toward (1 − ε′/2): few or no "
            "pseudo-labels will be kept. Lower one of the two"
        ]

    def writes_proofs(self, round: int = 0) -> bool:
        """Whether a round's examples carry proofs; a label-only judge never uses them."""
        wanted = self.proofs.write_for == "all" or (self.proofs.write_for == "labeled" and round == 0)
        return wanted and self.judge_prompt.has_rationale
