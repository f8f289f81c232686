"""How models are trained."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from tasks.settings.mechanics import Mechanics
from tasks.settings.section import Section


class EarlyStopping(Section):
    """When a training with a validation set stops before its last step; its best checkpoint is then the result."""

    every: int = Field(
        20,
        ge=1,
        title="Evaluate every (steps)",
        description="The validation set is evaluated each time after this many steps. At 1, only a new best is a checkpoint that "
        "a stopped training can resume from.",
    )
    patience: int = Field(
        3,
        ge=1,
        title="Patience",
        description="The training stops after this many evaluations in a row without a lower loss.",
    )


class LoraSettings(Section):
    """Low-rank adapters instead of full fine-tuning. The adapter is merged into the checkpoint when training ends."""

    r: int = Field(64, ge=1, title="Rank", description="The update matrices have this rank.")
    alpha: int = Field(128, ge=1, title="Alpha", description="The update is multiplied by alpha ÷ rank.")
    dropout: float = Field(
        0.0, ge=0, lt=1, title="Dropout", description="This share of the adapter's input is set to zero in training."
    )
    target_modules: str = Field(
        "all-linear", title="Target modules", description="The layers that get an adapter, by their names in peft."
    )


class Optimization(Section):
    """One training. Either `epochs` or `max_steps` sets its length."""

    learning_rate: float = Field(
        1e-5, gt=0, title="Learning rate", description="This is the highest rate of the schedule."
    )
    epochs: float | None = Field(
        None,
        gt=0,
        title="Epochs",
        description="The training makes this many passes over the examples. Leave it empty if steps are given.",
    )
    max_steps: int | None = Field(
        None,
        ge=1,
        title="Steps",
        description="The training takes this many optimizer steps. Leave it empty if epochs are given.",
    )
    batch_size: int = Field(
        64,
        ge=1,
        title="Batch size (examples)",
        description="Each optimizer step takes this many examples or, with packing, packed sequences.",
    )
    micro_batch_size: int | None = Field(
        None,
        ge=1,
        title="Micro-batch (examples)",
        description="This many examples are held in memory at once; it must divide the batch size. Empty: the whole batch.",
    )
    warmup_ratio: float = Field(
        0.1, ge=0, lt=1, title="Warm-up", description="The learning rate rises over this share of the steps."
    )
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = Field(
        "cosine", title="Schedule", description="The learning rate follows this curve after warm-up."
    )
    weight_decay: float = Field(
        0.0,
        ge=0,
        title="Weight decay",
        description="AdamW shrinks the weights by this much in each step, times the learning rate.",
    )
    lora: LoraSettings | None = Field(
        None, title="LoRA", description="Low-rank adapters are trained instead of all weights. Empty: full fine-tuning."
    )
    # Left out of dumps when off: it was added later, and the keys of older stages must stay valid.
    early_stopping: EarlyStopping | None = Field(
        None,
        title="Early stopping",
        description="A training with a validation set, which the flow adapt has, stops when it no longer improves. Empty: off.",
        exclude_if=lambda value: value is None,
    )

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.epochs is None) == (self.max_steps is None):
            raise ValueError("give either epochs or max_steps: exactly one of the two")
        if self.micro_batch_size is not None and self.batch_size % self.micro_batch_size:
            raise ValueError(f"micro_batch_size {self.micro_batch_size} must divide batch_size {self.batch_size}")
        return self


class TrainingSettings(Mechanics):
    """How prover and judge are trained, and on which mixture."""

    prover: Optimization = Field(
        Optimization(epochs=2),
        title="Prover",
        description="The prover is trained on the pairs with rationales (Eq. 4).",
    )
    first_judge: Optimization = Field(
        Optimization(epochs=1),
        title="First judge",
        description="The judge of round 0 is trained on the labeled pairs (Eq. 2).",
    )
    judge: Optimization = Field(
        Optimization(epochs=1),
        title="Judge of each round",
        description="Each round's judge is trained on all examples so far (Eq. 2).",
    )
    final: Optimization | None = Field(
        None,
        title="Final fine-tuning",
        description="The last round's judge is trained on the human rationales D_p (paper step 5). Empty: off.",
    )
    judge_start: Literal["base", "previous"] = Field(
        "base",
        title="Each round starts from",
        description="base: the base model (as in the paper). previous: the previous round's judge.",
    )
    human_rationales: bool = Field(
        False,
        title="D_p in the judge's training",
        description="Add the human-rationale pairs to the judge's examples. The paper keeps them for the final fine-tuning.",
    )
    labeled_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        title="Minimum share of labeled examples",
        description="Labeled examples are repeated evenly until they make up this share of the set. 0: no repetition.",
    )
    pretraining: Optimization | None = Field(
        None,
        title="Pre-training",
        description="As in GRAM: the judge's base model first learns to write both responses of the pairs in data.pretraining. "
        "Empty: off.",
    )
    label_loss: Literal["vocabulary", "labels"] = Field(
        "vocabulary",
        title="Label loss",
        description="A label-only judge is trained with this loss. vocabulary: cross-entropy over all tokens (Eq. 1). labels: "
        "over the tokens A and B "
        "only (GRAM).",
    )
    label_smoothing: float = Field(
        0.1,
        ge=0,
        lt=1,
        title="Label smoothing (ε′)",
        description="It is used with label_loss = labels, in torch's convention: the optimum is P = 1 − ε′/2. Recommended: "
        "0.05 to 0.15.",
    )


class BaselineSettings(Section):
    """The judges that self-training is compared with, trained on the same labeled pairs."""

    discriminative: Optimization = Field(
        Optimization(epochs=1),
        title="Discriminative",
        description="This judge gives each response a score, with a scalar head and the Bradley-Terry loss.",
    )
    label_only: Optimization = Field(
        Optimization(epochs=1),
        title="Label-only",
        description="This judge replies with the label alone, without a rationale (Eq. 1).",
    )
    gram: Optimization = Field(
        Optimization(epochs=1),
        title="GRAM, fine-tuning",
        description="This judge is trained with training.label_smoothing over the two labels.",
    )
    gram_pretraining: Optimization | None = Field(
        Optimization(epochs=1),
        title="GRAM, pre-training",
        description="It is trained before on both responses of the unlabeled pairs of all rounds. Empty: off.",
    )
    label_prompt: Literal["gram", "gram-card", "compact-label"] = Field(
        "gram",
        title="Prompt",
        description="The judges whose reply is the label alone (label-only and GRAM) are prompted with it.",
    )
