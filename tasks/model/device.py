"""What a model runs on: whether there is a GPU, the number format that "auto" stands for, and an engine's environment."""

from __future__ import annotations

import os
from typing import Literal

from tasks.machine.gpus import visible_gpus


def has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def engine_dtype(dtype: str, gpu: bool) -> Literal["bfloat16", "float16", "float32"]:
    """The number format that "auto" stands for on this device."""
    if dtype == "auto":
        return "bfloat16" if gpu else "float32"
    return dtype  # type: ignore[return-value]


def resolved_dtype(dtype: str) -> str:
    """The number format that "auto" stands for on this machine: what a result depends on, so it goes into keys."""
    if dtype == "auto":
        return "bfloat16" if visible_gpus() else "float32"
    return dtype


def engine_environment(on_gpus: bool) -> dict[str, str]:
    """What vLLM and torch read from the environment as they are imported, so it must be there before. The user's stays."""
    wanted = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    if on_gpus:
        # The engine looks for GPUs before it forks workers for tensor parallelism: CUDA must not be started by that,
        # and workers must start afresh.
        wanted |= {"PYTORCH_NVML_BASED_CUDA_CHECK": "1", "VLLM_WORKER_MULTIPROC_METHOD": "spawn"}
    else:
        # One thread: 4,915 tokens/s were measured on 2 cores with a small model, 473 with two.
        # No compilation: the first logprob call would take 25 s and a C++ compiler.
        wanted |= {"OMP_NUM_THREADS": "1", "TORCHDYNAMO_DISABLE": "1"}
    return {name: value for name, value in wanted.items() if name not in os.environ}
