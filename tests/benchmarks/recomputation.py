"""What gradient checkpointing costs and gives: ``python -m tests.benchmarks.recomputation 2048``.

A Llama of 9M weights (12 layers of 256) and one sequence of so many tokens, in float32 on one thread: seconds of CPU time
of a forward and a backward pass (the least of 3), and the most memory above weights and gradients. Each in its own fork.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any

WAYS: dict[str, Any] = {"off": False, "all": True, "selective": "selective", "half": 0.5}


def status_mib(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


def passes(way: str, tokens: int) -> dict[str, float]:
    """The figures of one way."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl.models import enable_selective_activation_checkpointing

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=256, intermediate_size=704, num_hidden_layers=12, num_attention_heads=4, num_key_value_heads=4,
        vocab_size=512, max_position_embeddings=tokens, use_cache=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config).train()
    if WAYS[way] == "selective":
        enable_selective_activation_checkpointing(model)
    if WAYS[way]:
        model.gradient_checkpointing_enable(every_n_layers=2 if WAYS[way] == 0.5 else 1)
    ids = torch.randint(512, (1, tokens))

    def run(length: int) -> float:
        began = time.process_time()
        model(input_ids=ids[:, :length], labels=ids[:, :length]).loss.backward()
        return time.process_time() - began

    run(16)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins again
    before = status_mib("VmRSS")
    seconds = min(run(tokens) for _ in range(3))
    return {"cpu_s": round(seconds, 2), "activations_mib": round(status_mib("VmHWM") - before)}


def main(tokens: int) -> dict[str, Any]:
    import torch
    import transformers  # noqa: F401
    import trl  # noqa: F401

    torch.set_num_threads(1)
    found: dict[str, Any] = {"tokens": tokens}
    for way in WAYS:
        with multiprocessing.get_context("fork").Pool(1) as pool:
            found[way] = pool.apply(passes, (way, tokens))
    return found


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
