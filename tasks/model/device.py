"""What a model runs on: whether there is a GPU, in which dtype it and its head compute, and an engine's environment variables."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

from tasks.machine.gpus import visible_gpus


def has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def engine_dtype(dtype: str, gpu: bool) -> Literal["bfloat16", "float16", "float32"]:
    """The dtype that "auto" stands for on this device."""
    if dtype == "auto":
        return "bfloat16" if gpu else "float32"
    return dtype  # type: ignore[return-value]


def resolved_dtype(dtype: str) -> str:
    """The dtype that "auto" stands for on this machine. Results depend on it, so it goes into keys."""
    if dtype == "auto":
        return "bfloat16" if visible_gpus() else "float32"
    return dtype


def head_facts(dtype: str) -> dict[str, str]:
    """What goes into the key of a stage that reads probabilities or scores, besides the dtype of `resolved_dtype`.

    A head that computes in bfloat16 rounds logits to steps of 0.125: 43 of 286 games of a label judge were exact ties, and
    none with a head in float32, which costs about 5% of the time.
    """
    return {} if dtype == "float32" else {"head_dtype": "float32"}


def compute_head_in_float32(head: Any, rows: Sequence[int] | None = None) -> bool:
    """Has a model's output layer compute in float32, whatever the model and autocast do; only these `rows` of it, if given.

    The weights keep their dtype. Returns whether the layer is one that this can be done to.
    """
    import torch

    def forward_of(linear: Any) -> Any:
        def forward(hidden: Any) -> Any:
            weight, bias = linear.weight, linear.bias
            if rows is not None:
                weight, bias = weight[list(rows)], None if bias is None else bias[list(rows)]
            with torch.autocast(hidden.device.type, enabled=False):
                return torch.nn.functional.linear(
                    hidden.float(), weight.float(), None if bias is None else bias.float()
                )

        return forward

    # With an adapter, a layer that is trained in full is kept twice: as it was, and as it is trained.
    linears = [part for part in head.modules() if type(part) is torch.nn.Linear]
    for linear in linears:
        linear.forward = forward_of(linear)
    return bool(linears)


def engine_environment(on_gpus: bool) -> dict[str, str]:
    """Variables that vLLM and torch read on import, so they must be set before it. Those set by the user are left alone."""
    wanted = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    if on_gpus:
        # The engine looks for GPUs before it starts workers for tensor parallelism: the check must not initialize
        # CUDA, and workers must be spawned instead of forked.
        wanted |= {"PYTORCH_NVML_BASED_CUDA_CHECK": "1", "VLLM_WORKER_MULTIPROC_METHOD": "spawn"}
    else:
        # One thread: a small model on 2 cores was measured at 4,915 tokens/s with one, and at 473 with two.
        # No compilation: the first logprob call would take 25 s and need a C++ compiler.
        # Threads that wait must not spin: with two on two shared cores, 3,660 tokens/s instead of 259.
        wanted |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "TORCHDYNAMO_DISABLE": "1"}
    return {name: value for name, value in wanted.items() if name not in os.environ}
