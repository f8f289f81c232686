"""The parameters of the flows that people start, one class a flow: the sections of their recipes, checked together."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

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
    Section,
    Settings,
    TaskSettings,
    TrainingSettings,
)


class RunParameters(Section):
    """What every run has: its name, its place, its seed."""

    run_name: str = Field(title="Run name", description="Names the run folder. The same name again resumes the run.")
    store: str = Field(
        default="runs",
        title="Store",
        description="The folder that holds run folders, or a URL such as s3://bucket/runs.",
    )
    seed: int = Field(default=0, ge=0, title="Seed", description="Everything random is derived from it.")
    on_change: Literal["redo", "refuse"] = Field(
        default="redo",
        title="When settings or data have changed",
        description="Since the run was begun. redo: the stages that read them, and what follows, are made again. refuse: the "
        "run does not start. Both say what would be redone. refuse also leaves failed rows of finished stages alone, "
        "which are otherwise tried again.",
    )


class PlannedParameters(RunParameters):
    """What a run has too that can be planned before it is started."""

    dry_run: bool = Field(
        default=False,
        title="Only plan",
        description="The run only plans: rows, tokens, FLOPs, GPU time and disk of every stage, from a sample of its data. It "
        "shows the plan, writes plan.json into the run folder, and ends.",
    )


class SelfTrainConfig(PlannedParameters, Settings):
    """The parameters of the flow ``self-train``, one section a concern."""

    def settings(self) -> Settings:
        """The same as settings of a run."""
        return self


class GramTraining(Mechanics):
    """The two trainings of GRAM."""

    pretraining: Optimization | None = Field(
        None,
        title="Pre-training",
        description="On both responses of the pairs in data.pretraining. Paper: learning rate 1e-5, one epoch. Empty: off.",
    )
    fine_tuning: Optimization = Field(
        Optimization(learning_rate=2e-5, epochs=2),
        title="Fine-tuning",
        description="On the labels of the pairs in data.labeled. Paper: learning rate 2e-5, two epochs.",
    )
    label_smoothing: float = Field(
        0.1,
        ge=0,
        lt=1,
        title="Label smoothing (ε′)",
        description="In torch's convention: the optimum is P = 1 − ε′/2. Paper: 0.1, recommended 0.05 to 0.15.",
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
                f'models.judge_prompt = "{self.models.judge_prompt}": GRAM gives the label alone; take "gram", or '
                '"compact-label" for small models'
            )
        unused = [f"data.{name}" for name in ("rationale", "unlabeled") if getattr(self.data, name)]
        if unused:
            raise ValueError(f"{' and '.join(unused)}: this flow does not read it; pre-training reads data.pretraining")
        self.settings()
        return self

    def settings(self) -> Settings:
        """The same as settings of a run: a first judge, without rounds."""
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
        description="Of the judge on each size. Its settings are ours: the paper gives none.",
    )
    label_loss: Literal["vocabulary", "labels"] = Field(
        "labels",
        title="Loss of a label",
        description="Of a judge that gives the label alone. labels: over the tokens A and B only, as GRAM. vocabulary: over all.",
    )
    label_smoothing: float = Field(
        0.1,
        ge=0,
        lt=1,
        title="Label smoothing (ε′)",
        description="Of label_loss = labels. The optimum is P = 1 − ε′/2.",
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
                "training.optimization.early_stopping needs a validation part: set task.validation_share, or leave it out"
            )
        if self.generation.workers:
            raise ValueError(
                "generation.workers: the judge as it was is not in the store, and is played on the machine of the run, by an "
                "engine for each of its GPUs; leave it at 0"
            )
        return self

    def settings(self, prompt: str) -> Settings:
        """The same as settings of a run, for a judge that is asked by this prompt."""
        judge = JUDGE_PROMPTS.get(prompt, GRAM)  # a discriminative model is shown none: any without a rationale will do
        models = self.judge.as_models().model_copy(update={"judge_prompt": judge.name, "prover_base": self.task.prover})
        reply = (self.benchmarks.max_tokens or LabelSettings().max_tokens) if judge.has_rationale else LABEL_TOKENS
        training = TrainingSettings(
            **self.training.mechanics(),
            label_loss="vocabulary" if judge.has_rationale else self.training.label_loss,
            label_smoothing=self.training.label_smoothing,
        )
        return Settings(
            models=models,
            data=self.task.as_data(with_rationales=judge.has_rationale and not self.task.prover),
            # A prover that is there is not trained here.
            proofs=self.proofs.model_copy(update={"write_for": "nothing"}),
            labels=LabelSettings(max_tokens=reply),
            training=training,
            generation=self.generation,
            rounds=RoundSettings(count=0),
            benchmarks=self.benchmarks,
            retention=self.retention,
        )


class BaselinesConfig(PlannedParameters, Settings):
    """The parameters of the flow ``baselines``: those of self-training, and of what it is held against."""

    baselines: BaselineSettings = BaselineSettings()
    seeds: tuple[int, ...] = Field(
        (),
        title="Seeds",
        description="Everything is done once for each, and the report shows mean and standard deviation. {seed} in a path of "
        "the data stands for the seed. Empty: seed alone.",
    )

    @model_validator(mode="after")
    def _the_methods_differ(self) -> Self:
        if not self.judge_prompt.has_rationale:
            raise ValueError(
                f'models.judge_prompt = "{self.models.judge_prompt}" has no rationale: the judges without one are the '
                "baselines, and baselines.label_prompt is theirs"
            )
        early = [
            name for name, one in self.baselines if isinstance(one, Optimization) and one.early_stopping is not None
        ]
        if early:
            raise ValueError(
                f"baselines.{early[0]}.early_stopping needs a validation part, which only the flow adapt has"
            )
        if len(set(self.seeds)) < len(self.seeds) or any(seed < 0 for seed in self.seeds):
            raise ValueError(f"seeds must differ and not be negative, got {list(self.seeds)}")
        return self

    def each_seed(self) -> list[Self]:
        """One configuration for each seed, with a run name of its own where there are several."""
        return [self._for_seed(seed) for seed in self.seeds or (self.seed,)]

    def _for_seed(self, seed: int) -> Self:
        name = f"{self.run_name}-seed-{seed}" if len(self.seeds) > 1 else self.run_name
        data = DataSettings.model_validate_json(self.data.model_dump_json().replace("{seed}", str(seed)))
        return self.model_copy(update={"seed": seed, "seeds": (), "run_name": name, "data": data})


class BenchmarkConfig(RunParameters):
    """The parameters of the flow ``benchmark``, one section a concern."""

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
                "generation.workers: a judge that is not in the store is played on the machine of the run, by an engine "
                "for each of its GPUs; leave it at 0"
            )
        return self

    def settings(self) -> BenchmarkRunSettings:
        """The same as settings of a run."""
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
"""Where each flow is. Module paths: a file path would load the classes of this package a second time, by another name."""


def parameters_of(kind: type[RunParameters], given: dict[str, Any]) -> dict[str, Any]:
    """Of a flow function's local variables, those that are parameters of the flow."""
    return {name: given[name] for name in kind.model_fields}
