"""The parameters of the flows that people start, one class per flow: the sections of their recipes, validated together."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from data.store.run_folder import wrong_run_name
from flows.config.every_run import PlannedParameters, RunParameters, Seed
from prompts.catalog import JUDGE_PROMPTS
from prompts.gram import GRAM
from tasks.settings import (
    LABEL_TOKENS,
    BaselineSettings,
    BenchmarkRunSettings,
    BenchmarkSettings,
    DataSettings,
    EarlyStopping,
    GenerationSettings,
    JudgeSettings,
    LabelSettings,
    Mechanics,
    ModelSettings,
    Optimization,
    ProofSettings,
    RetentionSettings,
    RoundSettings,
    Settings,
    TaskSettings,
    TrainingSettings,
)


class SelfTrainConfig(PlannedParameters, Settings):
    """The parameters of the flow ``self-train``, one section per concern."""

    def settings(self) -> Settings:
        """The parameters as the settings of a run."""
        return self


class GramTraining(Mechanics):
    """The two trainings of GRAM."""

    pretraining: Optimization | None = Field(
        None,
        title="Pre-training",
        description="The model learns both responses of the pairs in data.pretraining. Paper: learning rate 1e-5, one epoch. "
        "Empty: off.",
    )
    fine_tuning: Optimization = Field(
        Optimization(learning_rate=2e-5, epochs=2),
        title="Fine-tuning",
        description="The model learns the labels of the pairs in data.labeled. Paper: learning rate 2e-5, two epochs.",
    )
    label_smoothing: float = Field(
        0.1,
        ge=0,
        lt=1,
        title="Label smoothing (ε′)",
        description="It follows torch's convention: the optimum is P = 1 − ε′/2. Paper: 0.1, recommended 0.05 to 0.15.",
    )


class GramConfig(PlannedParameters):
    """The parameters of the flow ``gram``."""

    models: ModelSettings
    data: DataSettings
    training: GramTraining = GramTraining()
    generation: GenerationSettings = GenerationSettings()
    benchmarks: BenchmarkSettings = BenchmarkSettings()
    retention: RetentionSettings = RetentionSettings()

    @model_validator(mode="after")
    def _all_of_it_is_used(self) -> Self:
        if JUDGE_PROMPTS[self.models.judge_prompt].has_rationale:
            raise ValueError(
                f'models.judge_prompt = "{self.models.judge_prompt}": GRAM outputs only the label; use "gram", or '
                '"compact-label" for small models'
            )
        not_read = ("rationale", "unlabeled", "calibration", "calibration_share")
        unused = [f"data.{name}" for name in not_read if getattr(self.data, name)]
        if unused:
            raise ValueError(f"{' and '.join(unused)}: not read by this flow; pre-training reads data.pretraining")
        if self.training.fine_tuning.early_stopping is not None:
            raise ValueError(
                "training.fine_tuning.early_stopping needs a validation set, which only the flow adapt has: leave it out"
            )
        self.settings()
        return self

    def settings(self) -> Settings:
        """The parameters as the settings of a run: a first judge, without rounds."""
        training = TrainingSettings(
            **self.training.mechanics(),
            pretraining=self.training.pretraining,
            first_judge=self.training.fine_tuning,
            label_loss="labels",
            label_smoothing=self.training.label_smoothing,
        )
        return Settings(
            models=self.models,
            data=self.data,
            labels=LabelSettings(max_tokens=LABEL_TOKENS),
            training=training,
            generation=self.generation,
            rounds=RoundSettings(count=0),
            benchmarks=self.benchmarks,
            retention=self.retention,
        )


class AdaptTraining(Mechanics):
    """How a judge is adapted."""

    optimization: Optimization = Field(
        Optimization(learning_rate=1e-5, epochs=3, early_stopping=EarlyStopping()),
        title="Training",
        description="How the judge is trained on each size. The defaults are ours: the paper gives none.",
    )
    label_loss: Literal["vocabulary", "labels"] = Field(
        "labels",
        title="Label loss",
        description="A judge that outputs only the label has this loss. labels: over the tokens A and B, as in GRAM. "
        "vocabulary: over all.",
    )
    label_smoothing: float = Field(
        0.1,
        ge=0,
        lt=1,
        title="Label smoothing (ε′)",
        description="It is used with label_loss = labels. The optimum is P = 1 − ε′/2.",
    )


class AdaptConfig(PlannedParameters):
    """The parameters of the flow ``adapt``."""

    judge: JudgeSettings
    task: TaskSettings
    training: AdaptTraining = AdaptTraining()
    proofs: ProofSettings = ProofSettings()
    generation: GenerationSettings = GenerationSettings()
    benchmarks: BenchmarkSettings = BenchmarkSettings()
    retention: RetentionSettings = RetentionSettings()

    @model_validator(mode="after")
    def _early_stopping_has_something_to_look_at(self) -> Self:
        if self.training.optimization.early_stopping is not None and self.task.validation_share == 0:
            raise ValueError(
                "training.optimization.early_stopping needs a validation part: set task.validation_share, or omit early_stopping"
            )
        if self.generation.workers:
            raise ValueError(
                "generation.workers: the judge to adapt is not in the store, so it is benchmarked on the run's own machine, with "
                "one engine per GPU; leave it at 0"
            )
        if self.proofs.audit_pairs:
            raise ValueError("proofs.audit_pairs: only the rounds of self-training are audited; leave it out")
        if self.judge.prompt:
            self.check_room(self.judge.prompt)
        return self

    def check_room(self, prompt: str) -> None:
        """Raises ValueError if a judge with this prompt cannot be adapted with these parameters."""
        self.settings(prompt)

    def settings(self, prompt: str) -> Settings:
        """The parameters as the settings of a run, for a judge with this prompt. Raises ValueError if they do not fit it."""
        judge = JUDGE_PROMPTS.get(prompt, GRAM)  # a scalar judge has no prompt: any without a rationale will do
        models = self.judge.as_models().model_copy(update={"judge_prompt": judge.name, "prover_base": self.task.prover})
        reply = (self.benchmarks.max_tokens or LabelSettings().max_tokens) if judge.has_rationale else LABEL_TOKENS
        self.judge.check_room(max(reply, self.benchmarks.max_tokens or 0))
        if self.task.prover:
            if not judge.has_rationale:
                raise ValueError(
                    f"task.prover: the judge {self.judge.path!r} writes no rationales, so a prover is of no use"
                )
            self.judge.check_room(self.proofs.max_tokens, "proofs.max_tokens")
        training = TrainingSettings(
            **self.training.mechanics(),
            label_loss="vocabulary" if judge.has_rationale else self.training.label_loss,
            label_smoothing=self.training.label_smoothing,
        )
        return Settings(
            models=models,
            data=self.task.as_data(with_rationales=judge.has_rationale and not self.task.prover),
            # An existing prover is not trained here.
            proofs=self.proofs.model_copy(update={"write_for": "nothing"}),
            labels=LabelSettings(max_tokens=reply),
            training=training,
            generation=self.generation,
            rounds=RoundSettings(count=0),
            benchmarks=self.benchmarks,
            retention=self.retention,
        )


class BaselinesConfig(PlannedParameters, Settings):
    """The parameters of the flow ``baselines``: those of self-training, and of the baselines it is compared with."""

    baselines: BaselineSettings = BaselineSettings()
    seeds: tuple[Seed, ...] = Field(
        (),
        title="Seeds",
        description="The comparison is run once per seed, and the report shows mean and standard deviation. {seed} in a data "
        "path is replaced by the seed. Empty: only the seed of the run.",
    )

    @model_validator(mode="after")
    def _the_methods_differ(self) -> Self:
        if not self.judge_prompt.has_rationale:
            raise ValueError(
                f'models.judge_prompt = "{self.models.judge_prompt}" has no rationale: the judges without rationales are '
                "the baselines, and their prompt is baselines.label_prompt"
            )
        early = [
            name for name, one in self.baselines if isinstance(one, Optimization) and one.early_stopping is not None
        ]
        if early:
            raise ValueError(
                f"baselines.{early[0]}.early_stopping needs a validation part, which only the flow adapt has"
            )
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must differ, got {list(self.seeds)}")
        for seed in self.seeds:
            if problem := wrong_run_name(self._run_name(seed)):
                raise ValueError(problem)
        return self

    def each_seed(self) -> list[Self]:
        """One configuration per seed, each with its own run name if there are several."""
        return [self._for_seed(seed) for seed in self.seeds or (self.seed,)]

    def _run_name(self, seed: int) -> str:
        return f"{self.run_name}-seed-{seed}" if len(self.seeds) > 1 else self.run_name

    def _for_seed(self, seed: int) -> Self:
        name = self._run_name(seed)
        data = DataSettings.model_validate_json(self.data.model_dump_json().replace("{seed}", str(seed)))
        return self.model_copy(update={"seed": seed, "seeds": (), "run_name": name, "data": data})


class BenchmarkConfig(RunParameters):
    """The parameters of the flow ``benchmark``, one section per concern."""

    judge: JudgeSettings
    benchmarks: BenchmarkSettings
    generation: GenerationSettings = GenerationSettings()
    retention: RetentionSettings = RetentionSettings()

    @model_validator(mode="after")
    def _something_is_played(self) -> Self:
        if not self.benchmarks.sets:
            raise ValueError("benchmarks.sets is empty: name at least one benchmark")
        if self.generation.workers:
            raise ValueError(
                "generation.workers: a judge that is not in the store is benchmarked on the run's own machine, with one engine "
                "per GPU; leave it at 0"
            )
        if self.judge.prompt:
            self.check_room(self.judge.prompt)
        return self

    def check_room(self, prompt: str) -> None:
        """Raises ValueError if a reply to this prompt leaves no room for the prompt itself."""
        if prompt in JUDGE_PROMPTS and JUDGE_PROMPTS[prompt].has_rationale:
            self.judge.check_room(self.settings().reply_tokens)

    def settings(self) -> BenchmarkRunSettings:
        """The parameters as the settings of a run."""
        return BenchmarkRunSettings(
            models=self.judge.as_models(),
            generation=self.generation,
            benchmarks=self.benchmarks,
            retention=self.retention,
        )


FLOWS: dict[str, type[RunParameters]] = {
    "self-train": SelfTrainConfig,
    "gram": GramConfig,
    "baselines": BaselinesConfig,
    "adapt": AdaptConfig,
    "benchmark": BenchmarkConfig,
}
"""The flows that have recipes, by name."""

ENTRYPOINTS: dict[str, str] = {
    "self-train": "flows.self_train.self_train",
    "gram": "flows.gram.train_gram",
    "baselines": "flows.baselines.compare_methods",
    "adapt": "flows.adapt.adapt_judge",
    "benchmark": "flows.benchmark.benchmark_judge",
}
"""Each flow's entrypoint. Module paths: a file path would load this package's classes a second time, under another name."""
