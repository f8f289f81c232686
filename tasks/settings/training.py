"""How models are trained."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from tasks.settings.section import Section, Share


class EarlyStopping(Section):
    """When a training that has a validation part ends before its last step; its best checkpoint is then the result."""

    every: int = Field(
        20, ge=1, title="Evaluate every (steps)", description="Steps between two looks at the validation part."
    )
    patience: int = Field(
        3,
        ge=1,
        title="Patience",
        description="Evaluations in a row without a lower loss after which the training stops.",
    )


class LoraSettings(Section):
    """Low-rank adapters instead of full fine-tuning. The adapter is merged into the checkpoint when training ends."""

    r: int = Field(64, ge=1, title="Rank", description="Of the update matrices.")
    alpha: int = Field(128, ge=1, title="Alpha", description="Scale: the update is multiplied by alpha ÷ rank.")
    dropout: float = Field(0.0, ge=0, lt=1, title="Dropout", description="On the adapter's input.")
    target_modules: str = Field("all-linear", title="Target modules", description="As peft names them.")


class Optimization(Section):
    """One training. Either `epochs` or `max_steps` says how long."""

    learning_rate: float = Field(1e-5, gt=0, title="Learning rate", description="Peak of the schedule.")
    epochs: float | None = Field(
        None, gt=0, title="Epochs", description="Passes over the examples. Leave empty when steps are given."
    )
    max_steps: int | None = Field(
        None, ge=1, title="Steps", description="Optimizer steps. Leave empty when epochs are given."
    )
    batch_size: int = Field(
        64,
        ge=1,
        title="Batch size (examples)",
        description="Examples an optimizer step; with packing, packed sequences.",
    )
    micro_batch_size: int | None = Field(
        None,
        ge=1,
        title="Micro-batch (examples)",
        description="Examples held in memory at once; must divide the batch size. Empty: all.",
    )
    warmup_ratio: Share = Field(
        0.1, title="Warm-up", description="Share of the steps in which the learning rate rises."
    )
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = Field(
        "cosine", title="Schedule", description="After warm-up."
    )
    weight_decay: float = Field(0.0, ge=0, title="Weight decay", description="Of AdamW.")
    lora: LoraSettings | None = Field(None, title="LoRA", description="Empty: full fine-tuning.")
    # Left out of dumps where it is off: it came later than the others, and keys of older stages stay valid.
    early_stopping: EarlyStopping | None = Field(
        None,
        title="Early stopping",
        description="For trainings that have a validation part (the flow adapt). Empty: off.",
        exclude_if=lambda value: value is None,
    )

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.epochs is None) == (self.max_steps is None):
            raise ValueError("give either epochs or max_steps, not both and not neither")
        if self.micro_batch_size is not None and self.batch_size % self.micro_batch_size:
            raise ValueError(f"micro_batch_size {self.micro_batch_size} must divide batch_size {self.batch_size}")
        return self


class Mechanics(Section):
    """How any training is carried out."""

    packing: bool = Field(
        False,
        title="Packing",
        description="Several examples in one sequence, kept apart by the attention. For GPUs with FlashAttention. "
        "Discriminative models are not packed.",
    )
    attention: Literal["auto", "sdpa", "flash_attention_2", "eager"] = Field(
        "auto", title="Attention", description="auto: what transformers chooses for the device."
    )
    gradient_checkpointing: bool = Field(
        False, title="Gradient checkpointing", description="Less memory for about a third more time."
    )
    log_every: int = Field(
        10, ge=1, title="Log every (steps)", description="Steps between two lines of training metrics."
    )
    checkpoint_minutes: float = Field(
        30.0,
        ge=0,
        title="Checkpoint every (minutes)",
        description="A training that is stopped goes on from its last checkpoint. They are taken at logged steps, and "
        "removed when the training ends.",
    )
    in_pool: bool = Field(
        False,
        title="Train in the pool train",
        description="Trainings are runs of the deployment train/model, on a machine that has a worker in the pool train; "
        "else they run on the machine of the run.",
    )
    report_to: tuple[Literal["wandb", "tensorboard", "mlflow", "trackio"], ...] = Field(
        (),
        title="Also report to",
        description="The trainer's own switch; the service must be installed and configured.",
    )
    processes: int = Field(
        0,
        ge=0,
        le=64,
        title="Processes",
        description="Of one training, a GPU each: full fine-tuning is sharded over them (FSDP), LoRA is replicated (DDP). "
        "0: all visible GPUs. Without GPUs: processes on the CPU, 0 for one.",
    )

    def mechanics(self) -> dict[str, Any]:
        """These settings alone, without what a kind of run adds to them, as JSON."""
        return self.model_dump(mode="json", include=set(Mechanics.model_fields))


class TrainingSettings(Mechanics):
    """How prover and judge are trained, and on what mixture."""

    prover: Optimization = Field(Optimization(epochs=2), title="Prover", description="Eq. 4.")
    first_judge: Optimization = Field(
        Optimization(epochs=1), title="First judge", description="Eq. 2, on the labeled pairs."
    )
    judge: Optimization = Field(
        Optimization(epochs=1), title="Judge of each round", description="Eq. 2, on all examples so far."
    )
    final: Optimization | None = Field(
        None,
        title="Final fine-tuning",
        description="On the human rationales D_p, from the last round's judge (paper step 5). Empty: off.",
    )
    judge_start: Literal["base", "previous"] = Field(
        "base",
        title="Each round starts from",
        description="base: the base model again (the paper retrains). previous: the last round's judge.",
    )
    human_rationales: bool = Field(
        False,
        title="D_p in the judge's training",
        description="Add the pairs with human rationales to the judge's examples. The paper keeps them for the end.",
    )
    labeled_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        title="Least share of labeled examples",
        description="Labeled examples are repeated evenly until they are this share of the set. 0: as they are.",
    )
    pretraining: Optimization | None = Field(
        None,
        title="Pre-training",
        description="GRAM's: the judge's base model first learns to write both responses of the pairs in data.pretraining. "
        "Empty: off.",
    )
    label_loss: Literal["vocabulary", "labels"] = Field(
        "vocabulary",
        title="Loss of a label",
        description="Of a judge that gives the label alone. vocabulary: cross-entropy over all tokens (Eq. 1). labels: over the "
        "tokens A and B only (GRAM).",
    )
    label_smoothing: float = Field(
        0.1,
        ge=0,
        lt=1,
        title="Label smoothing (ε′)",
        description="Of label_loss = labels, in torch's convention: the optimum is P = 1 − ε′/2. Recommended: 0.05 to 0.15.",
    )


class BaselineSettings(Section):
    """The judges that self-training is held against, trained on the same labeled pairs."""

    discriminative: Optimization = Field(
        Optimization(epochs=1),
        title="Discriminative",
        description="A score for each response: a scalar head, Bradley-Terry's loss.",
    )
    label_only: Optimization = Field(
        Optimization(epochs=1), title="Label-only", description="The label as a reply, without a rationale (Eq. 1)."
    )
    gram: Optimization = Field(
        Optimization(epochs=1),
        title="GRAM, fine-tuning",
        description="Label smoothing over the two labels: training.label_smoothing.",
    )
    gram_pretraining: Optimization | None = Field(
        Optimization(epochs=1),
        title="GRAM, pre-training",
        description="On both responses of the unlabeled pairs of all rounds. Empty: off.",
    )
    label_prompt: Literal["gram", "gram-card", "compact-label"] = Field(
        "gram", title="Prompt", description="Of the judges that give the label alone."
    )
