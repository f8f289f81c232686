"""How every training is run: memory, speed, checkpoints, and processes."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from tasks.settings.section import Section

ATTENTIONS = (
    "auto", "eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3", "flash_attention_4",
)  # fmt: skip
"""The names that transformers takes, besides those of kernels on the hub."""
KERNELS = "kernels-community/"
"""Whose kernels transformers loads without being told to trust their code."""


_ROUNDED = 0.005
"""How far a share of layers may be from 1 ÷ n: 0.33 is a third."""


def _recomputed(value: object) -> object:
    """The setting `gradient_checkpointing` with "all" and "off" as true and false. Raises ValueError for what it cannot be."""
    names = {"all": True, "off": False}
    if isinstance(value, str):
        value = names.get(value, value)
    if isinstance(value, bool) or value == "selective":
        return value
    if not isinstance(value, int | float):
        raise ValueError(
            f'must be true or "all", false or "off", "selective", or the share of the layers such as 0.5, got {value!r}'
        )
    if value in (0, 1):
        return bool(value)
    if not 0 < value < 1 or abs(1 / round(1 / value) - value) > _ROUNDED:
        raise ValueError(
            f"every n-th layer can be recomputed, a share of 0.5, 0.33, 0.25, 0.2 and so on; got {value:g}"
        )
    return float(value)


Recomputed = Annotated[
    bool | Literal["selective"] | float,
    BeforeValidator(
        _recomputed,
        json_schema_input_type=bool | Literal["all", "off", "selective"] | Annotated[float, Field(ge=0, le=1)],
    ),
]


class Mechanics(Section):
    """How every training is run."""

    packing: bool = Field(
        False,
        title="Packing",
        description="Several examples share one sequence and are kept separate in the attention. It is for GPUs with "
        "FlashAttention. "
        "Discriminative models are not packed.",
    )
    pack_tokens: int | None = Field(
        None,
        ge=64,
        title="Packed length (tokens)",
        description="With packing: the length of a packed sequence. Longer ones are fuller and fewer, and need more memory; "
        "each of batch_size is one of them. 8,192 instead of 4,096 gave a 3B on an H100 13% more tokens/s for 2 GiB. Empty: "
        "models.max_tokens, which is the least.",
        exclude_if=lambda value: value is None,
    )
    attention: str = Field(
        "auto",
        title="Attention",
        description="auto: the implementation that transformers chooses for the device (sdpa). Or one by its name: "
        + ", ".join(ATTENTIONS[1:])
        + ', or a kernel of the hub such as "kernels-community/flash-attn2" (pip install kernels; downloaded when a training '
        "starts). With packing, sdpa computes the whole square of a sequence, flash attention only its examples: at 4,096 "
        "tokens on an H100, sdpa reaches 68% (3B) and 75% (8B, LoRA) of its tokens/s.",
    )
    gradient_checkpointing: Recomputed = Field(
        False,
        title="Gradient checkpointing",
        description="Activations are computed again instead of kept. true or all: those of all layers. selective: all but the "
        "output of the attention. A share, such as 0.5: those of every second layer. false or off: none. Of a step on a CPU "
        "with sequences of 2,048 tokens: all takes 23% more time and 43% of the memory of activations, selective 8% and 41%, "
        "0.5 6% and 66%. On an H100 with packs of 4,096 tokens, for a 3B and an 8B with LoRA: off 1.34 and 1.46 times the "
        "tokens/s of all, with 19 and 36 GiB more; 0.5 1.16 and 1.23 times, with 9 and 17 GiB more; selective only 0.77 and "
        "0.87 times (with packs of 8,192 as fast as all).",
    )
    trainable_layers: int | None = Field(
        None,
        ge=1,
        title="Trainable layers",
        description="Only this many of the upper layers are trained; those below, embeddings, final norm and output head stay as "
        "they are in the base model, and need neither gradients nor moments. It takes the place of LoRA. Empty: all weights.",
        exclude_if=lambda value: value is None,
    )
    pair_orders: bool = Field(
        False,
        title="Both orders in one batch",
        description="A judge's batch holds both orders of a pair side by side, so that no step is pulled to the first or "
        "the second response. It needs pairs that are proved in both orders, an even batch size, and no packing; human "
        "rationales, which have one order, come two by two. Off: examples are shuffled one by one. Provers and discriminative "
        "models have one example a pair.",
        exclude_if=lambda value: not value,
    )
    compile: bool = Field(
        False,
        title="Compile",
        description="torch.compile: minutes at the start, then fused kernels; needs a C++ compiler. torchtitan reports 16% more "
        "tokens/s and 7% less memory for an 8B model on 8 H100; a 3B on one H100 had 5% fewer tokens/s and the same memory here. "
        "Results differ by rounding.",
        exclude_if=lambda value: not value,
    )
    liger_kernels: bool = Field(
        False,
        title="Liger kernels",
        description="Fused norms, rotary embeddings and feed-forward layers, for GPUs (pip install liger-kernel). On an H100 "
        "26% more tokens/s for a 3B and 19% for an 8B with LoRA, in the same memory. Its own loss is left out: TRL's keeps no "
        "logits either. Results differ by rounding.",
        exclude_if=lambda value: not value,
    )
    log_every: int = Field(
        10,
        ge=1,
        title="Log every (steps)",
        description="A line of training metrics is logged each time after this many steps.",
    )
    checkpoint_minutes: float = Field(
        30.0,
        ge=0,
        title="Checkpoint every (minutes)",
        description="A stopped training resumes from its last checkpoint. Checkpoints are written at logged steps and "
        "removed when the training ends.",
    )
    in_pool: bool = Field(
        False,
        title="Train in the work pool train",
        description="On: trainings are runs of the deployment train/model, on any machine that has a worker in the work pool "
        "train. Off: they run on the run's own machine.",
    )
    report_to: tuple[Literal["wandb", "tensorboard", "mlflow", "trackio"], ...] = Field(
        (),
        title="Also report to",
        description="Metrics of trainings are also sent to these services, which must be installed and configured.",
    )
    processes: int = Field(
        0,
        ge=0,
        le=64,
        title="Processes",
        description="A training on one machine has this many processes, one GPU each: full fine-tuning is sharded over them "
        "(FSDP), LoRA is replicated (DDP). 0: one for each visible GPU, or one where there is no GPU.",
    )
    nodes: int = Field(
        1,
        ge=1,
        le=64,
        title="Machines",
        description="With in_pool, one training takes this many workers of the pool train, with the store in a folder that all "
        "see. "
        "Full fine-tuning is sharded over the GPUs of each machine and replicated across machines (HSDP); LoRA is replicated "
        "(DDP). The batch is split over all processes.",
        exclude_if=lambda value: value == 1,
    )

    @field_validator("attention")
    @classmethod
    def _attention_is_known(cls, name: str) -> str:
        if name not in ATTENTIONS and not re.fullmatch(rf"{KERNELS}[\w.-]+(@[\w.-]+)?(:[\w.-]+)?", name):
            raise ValueError(
                f'"{name}" is no attention that is known: {", ".join(ATTENTIONS)}, or a kernel of the hub such as '
                f'"{KERNELS}flash-attn2"'
            )
        return name

    @model_validator(mode="after")
    def _packed_examples_stay_separate(self) -> Self:
        if self.packing and self.attention not in ("auto", "sdpa") and "flash" not in self.attention:
            raise ValueError(
                f"packing needs an attention that keeps examples separate, sdpa or flash_attention_2, not {self.attention}"
            )
        if self.pack_tokens is not None and not self.packing:
            raise ValueError("pack_tokens is the length of packed sequences: set packing = true, or leave it out")
        return self

    @model_validator(mode="after")
    def _pairs_stay_together(self) -> Self:
        if self.pair_orders and self.packing:
            raise ValueError(
                "pair_orders keeps both orders of a pair in one batch, but packing sorts examples by length: leave one out"
            )
        return self

    @model_validator(mode="after")
    def _machines_are_workers(self) -> Self:
        if self.nodes > 1 and not self.in_pool:
            raise ValueError(
                f"nodes = {self.nodes}: the machines of a training are workers of the pool train: set in_pool = true"
            )
        return self

    @property
    def recomputed_share(self) -> float:
        """The share of the layers whose activations are computed again (attention alone is no FLOP that a plan counts)."""
        return 1.0 if self.gradient_checkpointing == "selective" else float(self.gradient_checkpointing)

    def packed_to(self, context: int) -> int | None:
        """The length of packed sequences in tokens for models with this context; None if examples are not packed.

        Raises ValueError if an example as long as the context would be cut.
        """
        if not self.packing:
            return None
        if self.pack_tokens is not None and self.pack_tokens < context:
            raise ValueError(
                f"training.pack_tokens = {self.pack_tokens} is less than the context of {context} tokens, and would cut "
                "examples: raise it, or leave it out"
            )
        return self.pack_tokens or context

    def mechanics(self) -> dict[str, Any]:
        """These settings as JSON, without the fields that subclasses add."""
        return self.model_dump(mode="json", include=set(Mechanics.model_fields))
