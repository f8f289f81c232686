"""What a user of TRL would write for one training: messages in, `SFTTrainer`, the loss on the completion only.

``python -m tests.benchmarks.plain_training JOB.json``; the last line of its output is its figures.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def train(job: dict[str, Any]) -> dict[str, Any]:
    import torch
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    if job["deterministic"]:
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(job["base"], dtype=torch.float32),
        args=SFTConfig(output_dir=job["out"], completion_only_loss=True, **job["arguments"]),
        train_dataset=load_dataset("json", data_files=job["rows"], split="train", cache_dir=job["cache"]),
        processing_class=AutoTokenizer.from_pretrained(job["base"]),
    )
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    trainer.save_model()
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    return {
        "seconds": seconds,
        "tokens": logged[-1]["num_tokens"],
        "losses": [entry["loss"] for entry in logged],
    }


if __name__ == "__main__":
    print(json.dumps(train(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
