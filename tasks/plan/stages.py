"""What one stage costs, by its kind, in any flow: the formulas of a plan.

``FORMULAS`` shows them to readers of a plan, who can check any number of a stage by hand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tasks.plan.sizes import ModelSize
from tasks.run.space import BYTES_A_TOKEN, ENCODED_BYTES_A_TOKEN, adapter_bytes, checkpoint_bytes
from tasks.settings import Optimization

FORMULAS = """\
training    tokens = examples × mean length × passes; passes = epochs, or steps ÷ ⌈examples ÷ batch⌉
            FLOPs = 6·N·tokens; LoRA 4·N·tokens; plus 2·N·tokens with gradient checkpointing
            if only the share s of the layers is trained: (2 + 4·s)·N·tokens; plus 2·s·N·tokens
generation  prompt tokens = requests × mean prompt, each read once; generated = requests × replies × mean reply
            if votes may end early, each order has one request for the first of them, and one for each later vote
            FLOPs = 2·N·(prompt + generated); proofs whose Eq. 5 is used are read once more: 2·N·(prompt + 2·generated)
GPU time    tokens ÷ (tokens/s of one GPU) if a rate is known, else FLOPs ÷ (peak × utilization), separately for
            training, reading and writing. From FLOPs in any case: judge-proofs, in which the judge hardly writes.
            Startup of engines and trainers, loading and waiting are not included.
disk        checkpoint = N × bytes per weight, plus the adapter in fp32; completions = 4 bytes per token + 60 each, or
            120 if scored; rows as they are written. N counts all parameters; FLOPs omit attention over the context.
            While a training runs: encoded examples = 8 bytes per token of one pass, 16 if packed."""

_BYTES_A_COMPLETION = 60
"""Bytes of JSON per completion beside its text; twice as many with its two logprobs."""
BYTES_AN_EXAMPLE = 300
"""Bytes of an example's origin, beside its pair and its rationale."""


@dataclass(frozen=True)
class Place:
    """The place of a planned stage in the run: `parts` are the run's own stages that it sums up, in order.

    Rows enter the first of them and leave the last.
    """

    name: str
    kind: str
    round: int | None
    parts: tuple[str, ...]


@dataclass(frozen=True)
class PlannedStage:
    """What a stage is expected to do. Numbers are expected values, so they may be fractions of rows and tokens.

    `scratch_bytes` are written on top of `disk_bytes` while the stage runs, then removed.
    """

    place: Place
    rows_in: float
    rows_out: float
    prompt_tokens: float = 0.0
    generated_tokens: float = 0.0
    trained_tokens: float = 0.0
    flops: float = 0.0
    gpu_seconds: float = 0.0
    disk_bytes: float = 0.0
    scratch_bytes: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self.place), **{k: v for k, v in asdict(self).items() if k != "place"}}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> PlannedStage:
        place = Place(row["name"], row["kind"], row["round"], tuple(row["parts"]))
        return cls(place, **{k: v for k, v in row.items() if k not in ("name", "kind", "round", "parts")})


@dataclass(frozen=True)
class PlannedModel:
    """A model at work on one GPU. A rate in tokens/s is None if unknown: then the FLOP/s are used."""

    size: ModelSize
    bytes_a_weight: int
    training_flops_per_s: float
    reading_flops_per_s: float
    writing_flops_per_s: float
    training_tokens_per_s: float | None = None
    generated_tokens_per_s: float | None = None
    trained: float = 1.0
    """The share of its layers that is trained."""


# ---- training -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainingCost:
    """What a training costs: passes over its examples, tokens in all passes, and FLOPs."""

    passes: float
    tokens: float
    flops: float


def training_cost(
    n_examples: float,
    mean_tokens: float,
    optimization: Optimization,
    n_parameters: float,
    recomputed: float = 0.0,
    trained: float = 1.0,
) -> TrainingCost:
    """The cost of one training. `recomputed` is the share of activations that are computed again (gradient checkpointing).

    Where only the upper layers are trained, `trained` is their share: nothing is computed backwards for those below.

    With `max_steps`, the last batch of a pass is short, as in the trainer. If examples are packed, pass packed sequences.
    """
    if n_examples <= 0:
        return TrainingCost(0.0, 0.0, 0.0)
    if optimization.max_steps is not None:
        passes = optimization.max_steps / math.ceil(n_examples / optimization.batch_size)
    else:
        passes = float(optimization.epochs or 0)
    tokens = n_examples * mean_tokens * passes
    # Forward 2, activation gradients 2, weight gradients 2; LoRA has almost none of the last.
    flops_a_token = 2 + trained * ((4 if optimization.lora is None else 2) + 2 * recomputed)
    return TrainingCost(passes, tokens, flops_a_token * n_parameters * tokens)


@dataclass(frozen=True)
class Examples:
    """Training examples: how many, the share that fits, the mean tokens of those that fit, and the bytes of one on disk.

    `packed_to` is the length of packed sequences, None if examples are not packed.
    """

    n: float
    fits: float
    tokens: float
    row_bytes: float
    packed_to: int | None = None

    def plus(self, other: Examples) -> Examples:
        """Both combined."""
        n, fitting = self.n + other.n, self.n * self.fits + other.n * other.fits
        if not fitting:
            return self
        tokens = (self.n * self.fits * self.tokens + other.n * other.fits * other.tokens) / fitting
        row_bytes = (self.n * self.row_bytes + other.n * other.row_bytes) / n
        return Examples(n, fitting / n, tokens, row_bytes, self.packed_to)


def sequences(examples: Examples) -> tuple[float, float]:
    """How many sequences the trainer gets (packed if examples are packed), and the mean tokens of one."""
    n, tokens = examples.n * examples.fits, examples.tokens
    if examples.packed_to is None or not n:
        return n, tokens
    packed = math.ceil(n * tokens / examples.packed_to)
    return packed, n * tokens / packed


def planned_training(
    place: Place, examples: Examples, optimization: Optimization, model: PlannedModel, recomputed: float = 0.0
) -> PlannedStage:
    """A training, including writing its examples."""
    n, tokens = sequences(examples)
    cost = training_cost(n, tokens, optimization, model.size.parameters, recomputed, model.trained)
    weights = model.size.parameters * model.bytes_a_weight
    adapter = adapter_bytes(model.size.linear, optimization)
    rate = model.training_tokens_per_s
    # A packed set is a second copy.
    encoded = n * tokens * ENCODED_BYTES_A_TOKEN * (1 if examples.packed_to is None else 2)
    return PlannedStage(
        place,
        examples.n,
        examples.n * examples.fits,
        trained_tokens=cost.tokens,
        flops=cost.flops,
        gpu_seconds=cost.tokens / rate if rate else cost.flops / model.training_flops_per_s,
        disk_bytes=weights + adapter + examples.n * (examples.row_bytes + BYTES_AN_EXAMPLE),
        scratch_bytes=checkpoint_bytes(weights, model.size.linear, optimization, model.trained) + encoded,
    )


# ---- generation -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GenerationLoad:
    """What is generated for rows: `requests` for each row that fits, and `replies` to each request.

    `kept` is the share of the rows with replies that is kept in the end; `row_bytes` is what is written again for each row.
    `scored` means that the replies are read once more, on their own.
    """

    rows: float
    fits: float
    requests: float
    replies: float
    prompt_tokens: float
    reply_tokens: float
    kept: float = 1.0
    row_bytes: float = 0.0
    scored: bool = False


def planned_generation(place: Place, load: GenerationLoad, model: PlannedModel) -> PlannedStage:
    """A generation and what is kept of it: votes and their labels, proofs and their selection, a benchmark."""
    answered = load.rows * load.fits
    requests = answered * load.requests
    completions = requests * load.replies
    prompt, generated = requests * load.prompt_tokens, completions * load.reply_tokens
    read = prompt + (generated if load.scored else 0.0)
    beside = completions * _BYTES_A_COMPLETION * (2 if load.scored else 1)
    flops_a_token, rate = 2 * model.size.parameters, model.generated_tokens_per_s
    reading, writing = read * flops_a_token, generated * flops_a_token
    estimated = reading / model.reading_flops_per_s + writing / model.writing_flops_per_s
    return PlannedStage(
        place,
        load.rows,
        answered * load.kept,
        prompt_tokens=prompt,
        generated_tokens=generated,
        flops=reading + writing,
        gpu_seconds=generated / rate if rate else estimated,
        disk_bytes=generated * BYTES_A_TOKEN + beside + load.rows * load.row_bytes,
    )
