"""The settings that stages read, one section a concern. What is not "paper:" in a description is a choice of ours.

A section is what the UI shows as a form: titles and descriptions are its help texts. Cross-field rules say why.
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
from tasks.settings.models import ModelSettings
from tasks.settings.section import Role, Section
from tasks.settings.task import TaskSettings
from tasks.settings.training import (
    BaselineSettings,
    EarlyStopping,
    LoraSettings,
    Mechanics,
    Optimization,
    TrainingSettings,
)

__all__ = [
    "LABEL_TOKENS",
    "BaselineSettings",
    "BenchmarkSet",
    "BenchmarkSettings",
    "DataSettings",
    "EarlyStopping",
    "GenerationSettings",
    "JudgeSettings",
    "LabelSettings",
    "LoraSettings",
    "Measuring",
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
"""The longest reply of a judge that gives the label alone: the label, and the end of its turn."""


class BenchmarkRunSettings(Section):
    """What it takes to measure a judge that is there: the sections of `Settings` that the stages of benchmarks read."""

    models: ModelSettings
    generation: GenerationSettings
    benchmarks: BenchmarkSettings
    retention: RetentionSettings

    @property
    def reply_tokens(self) -> int:
        """The longest reply in a benchmark."""
        return self.benchmarks.max_tokens or 1024

    def warnings(self) -> list[str]:
        """What is allowed, and yet hardly meant: nothing here."""
        return []


class Settings(Section):
    """All sections together: what a run is carried out with."""

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
        """The tokens of the context that a judge's prompt leaves to its reply, in training and in generation alike."""
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
    def _number_format_is_given_to_workers(self) -> Self:
        if self.models.dtype == "auto" and (self.generation.workers or self.training.in_pool):
            raise ValueError(
                'models.dtype = "auto" is decided by the GPUs of the machine of the run, and generation.workers or '
                'training.in_pool have others do the work: give models.dtype, such as "bfloat16"'
            )
        return self

    @model_validator(mode="after")
    def _truth_is_there(self) -> Self:
        if self.labels.source == "truth" and not self.data.unlabeled_truth:
            raise ValueError('labels.source = "truth" needs unlabeled rows with true labels: set data.unlabeled_truth')
        return self

    @model_validator(mode="after")
    def _unlabeled_pairs_are_given(self) -> Self:
        if self.rounds.count and not self.data.unlabeled:
            raise ValueError(
                f"rounds.count = {self.rounds.count} needs data.unlabeled; set rounds.count = 0 to stop after the first judge"
            )
        return self

    @model_validator(mode="after")
    def _the_prover_has_what_it_needs(self) -> Self:
        if self.writes_proofs():
            if not self.models.prover_base:
                raise ValueError(
                    "models.prover_base: proofs are written by a prover; name the model it is trained from"
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
                f'training.label_loss = "labels" is for judges that give the label alone, and models.judge_prompt = '
                f'"{self.models.judge_prompt}" asks for a rationale: leave label_loss out, or take "gram"'
            )
        for name, one in self.training:
            if isinstance(one, Optimization) and one.early_stopping is not None:
                raise ValueError(
                    f"training.{name}.early_stopping needs a validation part, which only the flow adapt has: leave it out"
                )
        return self

    @model_validator(mode="after")
    def _pretraining_has_pairs(self) -> Self:
        if (self.training.pretraining is None) != (not self.data.pretraining):
            given, missing = ("training.pretraining", "data.pretraining")
            if self.data.pretraining:
                given, missing = missing, given
            raise ValueError(f"{given} is given without {missing}: give both for a pre-training, or neither")
        return self

    def with_label_judge(self, prompt: str, loss: str) -> Self:
        """The same with a judge that gives the label alone, by this prompt, trained with this loss."""
        return self.model_copy(
            update={
                "models": self.models.model_copy(update={"judge_prompt": prompt}),
                "labels": self.labels.model_copy(update={"max_tokens": LABEL_TOKENS}),
                "training": self.training.model_copy(update={"label_loss": loss}),
            }
        )

    def warnings(self) -> list[str]:
        """What is allowed, and yet hardly meant; said when a run starts."""
        if self.judge_prompt.has_rationale or self.training.label_loss != "labels" or not self.rounds.count:
            return []
        optimum = 1 - self.training.label_smoothing / 2
        if self.labels.min_confidence < optimum:
            return []
        return [
            f"labels.min_confidence = {self.labels.min_confidence:g} is at or above {optimum:g}, the probability that "
            f"training.label_smoothing = {self.training.label_smoothing:g} draws the judge to (1 − ε′/2): few pseudo-labels, "
            "or none, will be kept. Lower one of the two"
        ]

    def writes_proofs(self, round: int = 0) -> bool:
        """Whether a round's examples carry proofs; a label-only judge has no use for any."""
        wanted = self.proofs.write_for == "all" or (self.proofs.write_for == "labeled" and round == 0)
        return wanted and self.judge_prompt.has_rationale
