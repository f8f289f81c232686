"""What a model runs on: whether there is a GPU, the dtype that "auto" stands for, and an engine's environment variables."""

from __future__ import annotations

import os
from typing import Literal

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
        wanted |= {"OMP_NUM_THREADS": "1", "TORCHDYNAMO_DISABLE": "1"}
    return {name: value for name, value in wanted.items() if name not in os.environ}
