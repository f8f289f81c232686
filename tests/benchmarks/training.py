"""Tokens per second of the training child ÷ a plain script with TRL's own `SFTTrainer`: same model, examples, settings.

Each side runs in its own process. They take turns, and each pair gives a ratio, as the machine may be shared. A check
that their losses are equal shows that both train on the same tokens. The plain script runs twice in a pair, as it is and
with PyTorch's deterministic algorithms, which the child enables if there is no GPU.
"""

from __future__ import annotations

import json
import math
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from data.files import write_json, write_jsonl
from data.records import RationalePair, ResponsePair, parse_preference
from data.world import taste
from data.world.tokenizer import build_tokenizer
from prompts.judge import COMPACT
from tasks.settings import ModelSettings, Optimization, TrainingSettings
from tests.support.training_jobs import Setup

STEPS, BATCH, PAIRS = 40, 4, 5
CONTEXT = 512
SIDES = ("ours", "plain", "plain_deterministic")

Figures = dict[str, Any]


def new_base(folder: Path) -> None:
    """A Llama of 5.0M random parameters with the tokenizer of the world."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = build_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=256, intermediate_size=704, num_hidden_layers=6, num_attention_heads=8,
        num_key_value_heads=8, max_position_embeddings=CONTEXT, tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder, save_jinja_files=False)


def example_rows() -> list[dict[str, Any]]:
    """Examples of 250 to 500 tokens from seeded words."""
    rng = random.Random(7)

    def text(fewest: int, most: int) -> str:
        return " ".join(rng.choice(taste.WORDS) for _ in range(rng.randint(fewest, most)))

    rows = []
    for i in range(STEPS * BATCH):
        pair = ResponsePair(str(i), taste.draw_pairs(1, seed=i)[0].pair.prompt, text(80, 160), text(80, 160))
        rows.append(RationalePair(pair, "A", text(60, 120) + " So A is better.").to_json())
    return rows


def setup(base: Path) -> Setup:
    models = ModelSettings(
        judge_base=str(base), prover_base=str(base), judge_prompt="compact", max_tokens=CONTEXT, dtype="float32"
    )
    optimization = Optimization(max_steps=STEPS, batch_size=BATCH, learning_rate=1e-4)
    return Setup(models, optimization, TrainingSettings(log_every=10), reply_tokens=130)


def ours(folder: Path, how: Setup, rows: list[dict[str, Any]]) -> Figures:
    # As `tasks.train` starts it if there is no GPU.
    metrics, steps = how.train(folder, rows, {"OMP_WAIT_POLICY": "PASSIVE"})
    losses = [step["loss"] for step in steps]
    return {"seconds": metrics["train_seconds"], "tokens": steps[-1]["num_tokens"], "losses": losses}


def plain(folder: Path, how: Setup, rows: list[dict[str, Any]], deterministic: bool) -> Figures:
    """The same training by the plain script, which is given messages."""
    folder.mkdir(parents=True)
    messages = []
    for row in rows:
        preference = parse_preference(row)
        prompt = [message.to_json() for message in COMPACT.render(preference.pair)]
        reply = COMPACT.target(row["rationale"], preference.label)
        messages.append({"prompt": prompt, "completion": [{"role": "assistant", "content": reply}]})
    write_jsonl(folder / "rows.jsonl", messages)
    optimization = how.optimization
    arguments = {
        "learning_rate": optimization.learning_rate, "max_steps": STEPS, "per_device_train_batch_size": BATCH,
        "warmup_steps": optimization.warmup_ratio, "lr_scheduler_type": optimization.schedule,
        "weight_decay": optimization.weight_decay, "max_length": CONTEXT, "packing": how.training.packing,
        "gradient_checkpointing": False, "bf16": False, "use_cpu": True, "logging_steps": how.training.log_every,
        "report_to": "none", "save_strategy": "no", "seed": 3, "data_seed": 3,
    }  # fmt: skip
    job = {
        "base": how.models.judge_base, "out": str(folder / "out"), "rows": str(folder / "rows.jsonl"),
        "cache": str(folder / "cache"), "arguments": arguments, "deterministic": deterministic,
    }  # fmt: skip
    write_json(folder / "told.json", job)
    command = [sys.executable, "-m", "tests.benchmarks.plain_training", str(folder / "told.json")]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    figures: Figures = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def measured(name: str, folder: Path, how: Setup, rows: list[dict[str, Any]]) -> Figures:
    """The figures of one side's process, with the wall-clock and CPU seconds of the whole process."""
    started, cpu_before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    figures = ours(folder, how, rows) if name == "ours" else plain(folder, how, rows, name == "plain_deterministic")
    process_s, cpu = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = cpu.ru_utime + cpu.ru_stime - cpu_before.ru_utime - cpu_before.ru_stime
    return {**figures, "process_s": process_s, "cpu_s": cpu_s}


def main() -> dict[str, Any]:
    runs: dict[str, list[Figures]] = {name: [] for name in SIDES}
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch) / "base"
        new_base(base)
        rows, how = example_rows(), setup(base)
        for pair in range(PAIRS):
            for name in SIDES if pair % 2 else SIDES[::-1]:
                runs[name].append(measured(name, Path(scratch) / f"{name}-{pair}", how, rows))
                print(name, runs[name][-1], file=sys.stderr)
    check_same(runs)
    return {
        "tokens": runs["ours"][0]["tokens"],
        "our_tokens_per_s": round(statistics.median(one["tokens"] / one["seconds"] for one in runs["ours"])),
        "training": {name: ratios(runs, name, "seconds") for name in SIDES[1:]},
        "whole_process": {name: ratios(runs, name, "process_s") for name in SIDES[1:]},
        "whole_process_cpu": {name: ratios(runs, name, "cpu_s") for name in SIDES[1:]},
    }


def check_same(runs: dict[str, list[Figures]]) -> None:
    """Checks that all sides trained on the same tokens, to the same losses."""
    first = runs["ours"][0]
    for figures in (one for several in runs.values() for one in several):
        assert figures["tokens"] == first["tokens"]
        for ours, theirs in zip(first["losses"], figures["losses"], strict=True):
            assert math.isclose(ours, theirs, abs_tol=1e-3), (first["losses"], figures["losses"])


def ratios(runs: dict[str, list[Figures]], name: str, seconds: str) -> str:
    """Our speed ÷ that side's, pair by pair."""
    values = [theirs[seconds] / ours[seconds] for ours, theirs in zip(runs["ours"], runs[name], strict=True)]
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f} over {len(values)} pairs)"


if __name__ == "__main__":
    print(json.dumps(main()))
