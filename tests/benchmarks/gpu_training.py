"""Training, label scoring and rationales on one GPU at the shapes of the paper's judges, with random weights.

``python -m tests.benchmarks.gpu_training FOLDER``: FOLDER receives the bases (16 and 6.4 GB; best in memory, /dev/shm).
``--tiny`` tries the script itself on small shapes, even without a GPU. Of the trainings, each line is one way of training
(`WAYS`); a second "all" at the end shows how far the machine drifts.

A training's seconds are those between the ends of the first measured step and of the last: the first two, in which memory
is allocated and kernels are chosen or compiled, are left out. The trained weights are not written.

It has run on an H100 but for the generation of the 3B, with `torch_flash` in place of flash-attn.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

from data.records import parse_preference
from prompts.judge import COMPACT
from tasks.machine.gpus import claim_gpus, visible_gpus
from tasks.model.chat import ChatEncoder
from tasks.model.device import engine_environment
from tasks.model.engine import Request, Sampling
from tasks.settings import GenerationSettings, Optimization, TrainingSettings
from tests.benchmarks.gpu_shapes import SHAPES, TINY, Shape, example_rows, new_base, settings
from tests.support.training_jobs import Setup

MODULE = "tests.benchmarks.gpu_training"
UNMEASURED = 2
"""The first steps, which are slower than the others."""
WAYS: dict[str, dict[str, Any]] = {
    "all": {},
    "sdpa": {"attention": "sdpa"},
    "selective": {"gradient_checkpointing": "selective"},
    "half": {"gradient_checkpointing": 0.5},
    "off": {"gradient_checkpointing": False},
    "liger": {"liger_kernels": True},
    "compile": {"compile": True},
    "long": {"pack_tokens": 8192},
}
"""Settings of a training, over those of "all": packed to the context, every layer recomputed, FlashAttention if installed.

Joined with a plus, as in "off+liger", several apply.
"""


class StepTimes(io.TextIOBase):
    """Standard output that goes to standard error, and notes when each step is logged: the GPU has finished it by then."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def write(self, text: str) -> int:
        if text.startswith("step "):
            self.at.append(time.perf_counter())
        return sys.stderr.write(text)


def train(shape: Shape, base: Path, folder: Path, way: str, peak_tflops: float) -> dict[str, Any]:
    """Figures of one training; `peak_gib` is what the GPU's driver reports, `allocated_gib` what torch has allocated."""
    flash = bool(visible_gpus()) and importlib.util.find_spec("flash_attn") is not None
    switches: dict[str, Any] = {"attention": "flash_attention_2" if flash else "sdpa", "gradient_checkpointing": True}
    for name in way.split("+"):
        switches |= WAYS[name]
    optimization = Optimization(
        max_steps=shape.steps, batch_size=shape.batch, micro_batch_size=1, learning_rate=1e-5, lora=shape.lora
    )
    training = TrainingSettings(packing=True, log_every=1, **switches)
    how = Setup(settings(shape, base), optimization, training, reply_tokens=2 * shape.words)
    packed = switches.get("pack_tokens", shape.context)
    needed = shape.steps * shape.batch * packed // (3 * shape.words) + 1
    times = StepTimes()
    not_written = patch("tasks.training.rank._save")  # 16 GB a training
    with peak_memory() as peak, contextlib.redirect_stdout(times), not_written:
        metrics, steps = how.train(folder, example_rows(shape, needed))
    seconds = times.at[-1] - times.at[UNMEASURED - 1]
    tokens = steps[-1]["num_tokens"] - steps[UNMEASURED - 1]["num_tokens"]
    mean_length = metrics["tokens"] / needed  # with so few words, none is too long
    return {
        "attention": switches["attention"],
        "tokens_per_s": round(tokens / seconds, 1),
        "mfu": round(tokens / seconds * shape.flops_a_token(mean_length) / (peak_tflops * 1e12), 4),
        "peak_gib": round(max(peak) / 2**30, 1) if peak else None,
        "allocated_gib": metrics.get("peak_memory_gib"),
        "seconds": [round(b - a, 2) for a, b in pairwise(times.at)],
        "first_steps_s": round(metrics["train_seconds"] - seconds, 1),
        "tokens": tokens,
        "mean_length": round(mean_length),
        "losses": [step["loss"] for step in steps],
    }


def in_fork(*arguments: Any) -> dict[str, Any]:
    """What `train` returns, in a process of its own, which has the libraries loaded; or why there is none."""
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as process:
            return process.submit(train, *arguments).result()
    except Exception as error:  # a way of training that does not fit ends none of the others
        return {"failed": f"{type(error).__name__}: {error}"[:300]}


def load_libraries() -> None:
    """Loads what a training needs, without touching the GPU: forks could not use it then."""
    import datasets  # noqa: F401
    import peft  # noqa: F401
    import torch
    from trl import RewardTrainer, SFTTrainer  # noqa: F401

    import tasks.training.__main__  # noqa: F401

    assert not torch.cuda.is_initialized()


@contextlib.contextmanager
def peak_memory() -> Iterator[list[int]]:
    """Bytes in use on the first visible GPU, twice a second: as reported by its driver, including caches of the allocator."""
    seen: list[int] = []
    over = threading.Event()

    def look() -> None:
        query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", f"--id={visible_gpus()[0]}"]
        while not over.wait(0.5):
            seen.append(int(subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]) << 20)

    watcher = threading.Thread(target=look, daemon=True)
    if visible_gpus():
        watcher.start()
    try:
        yield seen
    finally:
        over.set()


def generate(shape: Shape, base: Path) -> dict[str, Any]:
    """Scores labels without a rationale, and generates rationales, which random weights write to full length."""
    from tasks.model.vllm import VLLMEngine

    locks = claim_gpus(1)
    encoder = ChatEncoder.load(str(base))
    engine = VLLMEngine(str(base), settings(shape, base), GenerationSettings(), encoder.end_id)
    pairs = [parse_preference(row).pair for row in example_rows(shape, shape.pairs)]
    prompts = [encoder.prompt_ids(COMPACT.render(pair)) for pair in pairs]
    label = Sampling(max_tokens=1, logprob_ids=encoder.label_ids)
    rationale = Sampling(n=8, temperature=1.0, max_tokens=shape.rationale_tokens)
    figures = {}
    for name, sampling in (("labels", label), ("rationales", rationale)):
        written: list[int] = []

        def count(i: int, answer: Any, written: list[int] = written) -> None:
            written.extend(len(completion.token_ids) for completion in answer)

        engine.generate([Request("ab", prompts[0], sampling)], lambda i, answer: None)  # warms up
        engine.llm.reset_prefix_cache()
        started = time.perf_counter()
        engine.generate([Request("ab", prompt, sampling) for prompt in prompts], count)
        seconds = time.perf_counter() - started
        figures[name] = {
            "pairs_per_s": round(len(prompts) / seconds, 1),
            "tokens_read_per_s": round(sum(map(len, prompts)) / seconds, 1),
            "tokens_written_per_s": round(sum(written) / seconds, 1),
        }
    del locks
    return figures


def in_child(*arguments: str) -> dict[str, Any]:
    """Runs a part of this script in its own process, so that its GPU memory is freed; returns its figures."""
    environment = {**os.environ, **engine_environment(on_gpus=bool(visible_gpus()))}
    command = [sys.executable, "-m", MODULE, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tiny", action="store_true", help="small shapes, to try the script")
    parser.add_argument(
        "--peak-tflops", type=float, default=989.0, help="of the GPU, dense bfloat16 (989, H100 and H200)"
    )
    parser.add_argument("--shapes", nargs="+", default=[], help=f"of {', '.join(SHAPES)}; all if none is given")
    parser.add_argument("--ways", nargs="+", default=[*WAYS, "all"], help="of training, see WAYS")
    parser.add_argument("--steps", type=int, help="of a training")
    parser.add_argument("--training-only", action="store_true", help="no generation, which needs vLLM")
    parser.add_argument("--part", nargs=2, metavar=("WHAT", "SHAPE"), help="for the script's own use")
    job = parser.parse_args()
    if job.part:
        what, name = job.part
        shape, base = {**SHAPES, **TINY}[name], job.folder / name / "base"
        print(json.dumps(generate(shape, base) if what == "generate" else new_base(shape, base)))
        return
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # a forked process cannot use CUDA if this one has
    load_libraries()
    shapes = TINY if job.tiny else SHAPES
    for name in job.shapes or shapes:
        shape = replace(shapes[name], steps=job.steps or shapes[name].steps)
        measure(name, shape, job)


def measure(name: str, shape: Shape, job: argparse.Namespace) -> None:
    """Prints the figures of a shape, a line of JSON each."""
    base = job.folder / name / "base"
    if not (base / "tokenizer.json").exists():  # written last
        in_child(str(job.folder), "--part", "base", name)
    for i, way in enumerate(job.ways):
        folder = job.folder / name / f"{i}-{way}"
        figures = in_fork(shape, base, folder, way, job.peak_tflops)
        print(json.dumps({"shape": name, "training": way, **figures}), flush=True)
    if not job.training_only:
        figures = in_child(str(job.folder), "--part", "generate", name)
        print(json.dumps({"shape": name, "generation": figures}), flush=True)


if __name__ == "__main__":
    main()
