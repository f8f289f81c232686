"""Values scaled to the data, the models and the GPUs, each with its reason. They are ours where the paper states none.

Rates and batch sizes are those of the built-in recipes: of the small world for tiny models, of llama-3.2-3b and its LoRA
variant for large ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from flows.starting.models import BaseModel, Machine

TINY, LARGE = 50e6, 1e9
"""Parameters: up to TINY a model is one of the small world's kind, from LARGE on it is trained as the paper's are."""
_MOST_HELD_OUT = 2000
_BYTES_A_WEIGHT = 16
"""Of full fine-tuning: weights, gradients and AdamW's two moments in float32."""
_FULL_SHARE = 0.6
"""Of the memory that these may take; the rest is for activations."""
_FEW = 2000
_PAPER_PAIRS = 500_000
_LORA = {"r": 64, "alpha": 128}


@dataclass(frozen=True)
class Value:
    """A setting's value and why it is so."""

    value: Any
    why: str = ""


def weight_of(model: BaseModel) -> float:
    """The parameters of a model; one of unknown size is taken for a large one, which is safe."""
    return 8e9 if model.parameters is None else model.parameters


def heldout_share(pairs: int) -> Value:
    """The share of the labeled prompts to hold out: a fifth of few pairs, a tenth of more, about 2,000 of many."""
    wanted = min(0.2 * pairs, max(200, 0.1 * pairs), _MOST_HELD_OUT)
    share = wanted / max(pairs, 1) or 0.2
    n = max(1, round(share * pairs))
    return Value(
        float(f"{share:.2g}"),
        f"about {n:,} pairs, split by prompt: an accuracy near 80% is known to ±{_points(n)} points",
    )


def _points(n: int) -> str:
    """Half the 95% interval of an accuracy of 80% on so many pairs, in percentage points."""
    return f"{196 * math.sqrt(0.16 / n):.0f}" if n < 600 else f"{196 * math.sqrt(0.16 / n):.1f}"


def rounds(unlabeled: int, judge: BaseModel, machine: Machine) -> tuple[Value, Value]:
    """The number of rounds, and the fresh pairs of each: all of them, up to what such machines do in two to three days."""
    if not unlabeled:
        return Value(0, "there are no unlabeled pairs: the run ends with the first judge"), Value(
            1, "not used without rounds"
        )
    count = 3 if unlabeled >= 90 else 2 if unlabeled >= 40 else 1
    why = "paper: 3" if count == 3 else f"only {unlabeled} unlabeled pairs; paper: 3"
    most, limit = _most_pairs(judge, machine)
    pairs = min(unlabeled // count, most)
    if pairs < unlabeled // count:
        return Value(count, why), Value(pairs, f"of {unlabeled:,} unlabeled pairs: {limit}; paper: 500,000")
    return Value(count, why), Value(pairs, f"all {unlabeled:,} unlabeled pairs are used; paper: 500,000")


def _most_pairs(judge: BaseModel, machine: Machine) -> tuple[int, str]:
    weights = weight_of(judge)
    if machine.gpus and weights < LARGE:
        return _PAPER_PAIRS, "as many as the paper's"
    if machine.gpus:  # llama-3.2-3b-lora: 30,000 pairs a round on one GPU
        most = min(_PAPER_PAIRS, float(f"{30_000 * machine.gpus * 3.2e9 / weights:.2g}"))
        return int(
            most
        ), f"what {machine.gpus} GPU{'s' * (machine.gpus > 1)} can do in two to three days (gram-r2 plan says more)"
    return (1000, "for CPUs") if weights <= TINY else (200, "for CPUs, on which a language model is slow")


# ---- training ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Training:
    """What a training is given: its model, the machine, its examples, and how long they are."""

    model: BaseModel
    machine: Machine
    examples: int
    mean_tokens: float
    context: int
    prover: bool = False
    spelled: bool = False

    @property
    def lora(self) -> bool:
        """Large models are fine-tuned in full where GPUs hold them and there are enough pairs."""
        return weight_of(self.model) >= LARGE and (self.examples < 2 * _FEW or not self.fits)

    @property
    def fits(self) -> bool:
        needed = _BYTES_A_WEIGHT * weight_of(self.model) / 1e9
        return needed <= _FULL_SHARE * self.machine.gpus * self.machine.memory_gb

    @property
    def packs(self) -> bool:
        """Whether packed sequences still are enough for a hundred steps."""
        sequences = self.examples * self.mean_tokens / self.context
        return bool(self.machine.gpus) and weight_of(self.model) >= LARGE and sequences >= 100 * 64


def optimization(training: Training, packed: bool) -> Value:
    """One training: its rate, its length, its batch, and LoRA where full fine-tuning does not fit or there is little data."""
    batch = _batch(training)
    given: dict[str, Any] = {"learning_rate": _rate(training), **_length(training, batch, packed), "batch_size": batch}
    micro = 1 if packed else _micro(training, batch)
    if micro < batch:
        given["micro_batch_size"] = micro
    if training.lora:
        given["lora"] = _LORA
    return Value(given, f"{training.examples:,} examples; {_how(training)}")


def _how(training: Training) -> str:
    size = training.model.size
    if weight_of(training.model) < LARGE:
        return f"a small model ({size}) is trained in full, at a higher rate"
    if not training.lora:
        return f"{size} is trained in full: {_BYTES_A_WEIGHT} bytes a weight fit the GPUs"
    if not training.machine.gpus:
        return f"LoRA: {size} without a GPU, which will take very long"
    return f"LoRA: {size} " + (
        "and few pairs, with which it forgets less" if training.fits else "in full does not fit the GPUs"
    )


def _rate(training: Training) -> float:
    weights = weight_of(training.model)
    if weights <= TINY:
        return 3e-4 if training.prover and not training.spelled else 1e-3
    if weights < LARGE:
        return 1e-4
    return 1e-4 if training.lora else 1e-5


def _batch(training: Training) -> int:
    """About a hundredth of the examples, between 8 and 128, a multiple of the GPUs; the small world's for tiny models."""
    size = 2 ** max(3, min(7, int(math.log2(max(training.examples / 100, 1)))))
    if weight_of(training.model) <= TINY:
        size = 2 ** max(2, min(5, int(math.log2(max(training.examples, 1)))))
    gpus = max(training.machine.gpus, 1)
    return int(math.ceil(size / gpus) * gpus)


def _micro(training: Training, batch: int) -> int:
    """Examples at once on each GPU: about 8,192 tokens, for tiny models more; divides the share of each."""
    tokens = 8192 if weight_of(training.model) > TINY else 65_536
    most, share = max(1, tokens // training.context), batch // max(training.machine.gpus, 1)
    return next(n for n in range(min(most, share), 0, -1) if share % n == 0)


def _length(training: Training, batch: int, packed: bool) -> dict[str, float]:
    """One pass where that is enough steps, else as many steps as a small set bears."""
    weights = weight_of(training.model)
    enough, most_passes = (200, 200) if weights <= TINY else (150, 10) if weights < LARGE else (100, 5)
    if training.prover and weights <= TINY and not training.spelled:
        enough = 30  # as in the small world, whose tastes it would forget
    sequences = training.examples * training.mean_tokens / training.context if packed else training.examples
    steps = sequences / batch
    if steps >= enough:
        return {"epochs": 1}
    return {"max_steps": max(10, min(enough, round(most_passes * steps)))}


# ---- lengths and engines ----------------------------------------------------------------------------------------------


def reply_tokens(rationale: int | None, tiny: bool) -> Value:
    """The longest proof and reply: half as long again as nearly all of the data's rationales."""
    if rationale is None:
        return Value(1024, "rationales of the built-in recipes rarely exceed 600")
    step = 32 if tiny else 128
    return Value(
        min(2048, _up(1.5 * rationale + 16, step)),
        f"99% of the rationales have at most {rationale:,} tokens; a longer one is dropped",
    )


def context(prompt: int, reply: int, models: list[BaseModel]) -> Value:
    """The context: nearly all prompts and a reply, within what the models can read."""
    wanted = _up(prompt + reply + 48, 64)
    limits = [(model.context, model.name) for model in models if model.context is not None]
    longest, whose = min(limits, default=(wanted, ""))
    if longest < wanted:
        return Value(
            longest,
            f"as much as {whose} can read; 99% of the prompts have at most {prompt:,} tokens, and longer ones are left out",
        )
    return Value(
        max(wanted, 64),
        f"99% of the prompts have at most {prompt:,} tokens, a reply {reply:,}; longer pairs are left out and counted",
    )


def tensor_parallel(models: list[BaseModel], machine: Machine) -> int:
    """GPUs an engine: the fewest, a power of two, that hold the largest model's weights in bfloat16 and room for its cache."""
    needed = max(2 * weight_of(model) / 1e9 for model in models)
    n = 1
    while n * 2 <= machine.gpus and machine.gpus % (n * 2) == 0 and needed > 0.65 * n * machine.memory_gb:
        n *= 2
    return n


def _up(number: float, step: int) -> int:
    return math.ceil(number / step) * step
