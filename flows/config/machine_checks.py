"""What a run wants of this machine and cannot get: packages and GPUs. On another machine it may be there."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from flows.config.every_run import RunParameters
from flows.config.trainings import batch_problems
from tasks.machine.gpus import visible_gpus
from tasks.settings import GenerationSettings, Mechanics
from tasks.settings.mechanics import KERNELS


def package_problems(config: RunParameters) -> Iterator[str]:
    """Services that the trainings report to on this machine, and that are not installed."""
    training: Mechanics = getattr(config, "training", Mechanics())
    for service in () if training.in_pool else training.report_to:
        modules = ("tensorboard", "tensorboardX") if service == "tensorboard" else (service,)
        if not any(map(importlib.util.find_spec, modules)):
            package = service if service == "trackio" else f'-e ".[{service}]"'
            yield f"training.report_to names {service}, which is not installed: pip install {package}, or leave it out"


def gpu_problems(config: RunParameters) -> Iterator[str]:
    """What the run wants of this machine's GPUs and cannot get."""
    training: Mechanics = getattr(config, "training", Mechanics())
    generation: GenerationSettings = getattr(config, "generation", GenerationSettings())
    gpus = visible_gpus()
    in_fp8 = {"kv_cache_dtype": generation.kv_cache_dtype, "quantization": generation.quantization}
    for name, value in in_fp8.items() if not gpus and not generation.workers else ():
        if value not in ("auto", None):
            yield f'generation.{name} = "{value}" needs a GPU that computes in fp8, but no GPU is visible: leave it out'
    if gpus and not training.in_pool and training.processes > len(gpus):
        yield f"training.processes = {training.processes}, but {len(gpus)} GPUs are visible: {', '.join(gpus)}"
    if gpus and not training.in_pool and not training.processes:
        for problem in batch_problems(config, len(gpus)):
            yield f"{problem} (training.processes = 0 is one for each visible GPU)"
    if not generation.workers and generation.tensor_parallel > max(len(gpus), 1):
        visible = f"{len(gpus)} GPUs are visible: {', '.join(gpus)}" if gpus else "no GPU is visible"
        yield f"generation.tensor_parallel = {generation.tensor_parallel}, but {visible}"
    yield from () if training.in_pool else _kernels(training)


_FLASH = {
    "flash_attention_2": "flash_attn",
    "flash_attention_3": "flash_attn_interface",
    "flash_attention_4": "flash_attn",
}
"""The modules of what transformers finds under these names; where one is missing, it takes a kernel of the hub."""


def _kernels(training: Mechanics) -> Iterator[str]:
    """Faster kernels that trainings are to use, and that are not installed."""
    from_hub = importlib.util.find_spec("kernels") is not None
    if training.attention.startswith(KERNELS) and not from_hub:
        yield f'training.attention = "{training.attention}" is a kernel of the hub: pip install "kernels>=0.17,<0.18"'
    module = _FLASH.get(training.attention)
    if module is not None and not from_hub and not importlib.util.find_spec(module):
        yield (
            f'training.attention = "{training.attention}" needs flash-attn: pip install flash-attn --no-build-isolation; or a '
            'kernel of the hub: pip install "kernels>=0.17,<0.18"'
        )
    if training.liger_kernels and not importlib.util.find_spec("liger_kernel"):
        yield "training.liger_kernels needs liger-kernel: pip install liger-kernel, or leave it out"
