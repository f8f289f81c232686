"""One process of a training: it does everything if it is the only one, or a part of each batch if there are several.

``python -m tasks.training.rank JOB.json`` is one of several, which are connected by torch's environment variables (RANK,
WORLD_SIZE, MASTER_ADDR, MASTER_PORT); accelerate reads them. The first one writes the result.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from data.files import flush, json_line, write_json
from data.store.artifacts import SCRATCH
from tasks.machine import child
from tasks.model.chat import DATE, ChatEncoder, prefixed
from tasks.model.saving import copy_processor
from tasks.training.distributed import leave, world_size
from tasks.training.encoded import TRAIN, VALIDATION, EncodedSet
from tasks.training.examples import ExampleCounts
from tasks.training.job import COMPLETE, RESULT, TrainingJob
from tasks.training.objectives import build_trainer
from tasks.training.progress import last_checkpoint, progress_callback
from tasks.training.sides import TWO_ORDERS, keep_orders_together


def train_part(job: TrainingJob) -> dict[str, Any]:
    """Trains, and writes the checkpoint and ``steps.jsonl``; returns the metrics. Every process calls it."""
    import torch
    import transformers
    from datasets import disable_progress_bars

    from tasks.model.device import engine_dtype

    models, mechanics, optimization = job.settings()
    disable_progress_bars()
    transformers.logging.disable_progress_bar()
    transformers.set_seed(job.seed)
    if not torch.cuda.is_available():
        torch.use_deterministic_algorithms(True)
        # Filling every new tensor doubles the time of a step (24 s of CPU against 12 for 60 small ones).
        torch.utils.deterministic.fill_uninitialized_memory = False
    encoder = ChatEncoder.load(job.base, bool(models.trust_remote_code), models.system)
    scratch = Path(job.out) / SCRATCH
    encoded = EncodedSet.read(scratch / TRAIN)
    validation = EncodedSet.read(scratch / VALIDATION).load() if job.validation else None
    trainer = build_trainer(job, encoder, encoded.load(), validation, str(scratch / "trainer"))
    if mechanics.pair_orders and job.role in TWO_ORDERS:
        keep_orders_together(trainer, job)
    trainer.remove_callback(transformers.PrinterCallback)  # its lines would repeat our own
    checkpoint = last_checkpoint(scratch / "trainer", trainer.is_fsdp_enabled)
    earlier_s = 0.0 if checkpoint is None else float(json.loads((checkpoint / COMPLETE).read_text())["seconds"])
    if trainer.args.load_best_model_at_end and optimization.early_stopping is not None:
        trainer.add_callback(transformers.EarlyStoppingCallback(optimization.early_stopping.patience))
    trainer.add_callback(progress_callback(mechanics, earlier_s))
    if checkpoint is not None:
        print(f"resuming from {checkpoint.name}", flush=True)
        # The trainer does not restore TRL's own token count.
        logged = json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]
        trainer._total_train_tokens = int(next(e["num_tokens"] for e in reversed(logged) if "num_tokens" in e))
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = earlier_s + time.monotonic() - started
    # Loaded anew: the trainer has changed its own, and may have made an ordinary token one of padding, which is special.
    encoder = ChatEncoder.load(job.base, bool(models.trust_remote_code), models.system)
    _save(trainer, encoder, Path(job.out), engine_dtype(models.dtype, torch.cuda.is_available()))
    if trainer.accelerator.is_main_process:
        copy_processor(Path(job.base), Path(job.out) / "checkpoint")
    return _metrics(job, encoded.counts, trainer, seconds)


def _save(trainer: Any, encoder: ChatEncoder, out: Path, dtype: str) -> None:
    """Writes a plain folder: full weights (an adapter is merged, and also kept beside), tokenizer, generation settings."""
    import torch

    model = _whole_model(trainer)
    if model is None:
        return
    if hasattr(model, "merge_and_unload"):
        model.save_pretrained(out / "adapter", safe_serialization=True)
        model = model.merge_and_unload()
    if model.can_generate():
        # Whatever the base specifies, the end-of-turn token that was trained ends generation.
        known = model.generation_config.eos_token_id
        known = [known] if isinstance(known, int) else list(known or [])
        model.generation_config.eos_token_id = sorted({encoder.end_id, *known})
    model.to(getattr(torch, dtype)).save_pretrained(out / "checkpoint")
    if "date_string" in encoder.tokenizer.chat_template:  # prompts must have the date of training wherever it is served
        template = encoder.tokenizer.chat_template
        encoder.tokenizer.chat_template = prefixed(template, f'{{%- set date_string = "{DATE}" -%}}')
    encoder.tokenizer.save_pretrained(out / "checkpoint")


def _whole_model(trainer: Any) -> Any:
    """The trained model in the process that writes it, assembled if it was sharded; None in the others."""
    import torch

    model = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
    if not trainer.is_fsdp_enabled:
        return model if trainer.accelerator.is_main_process else None
    weights = trainer.accelerator.get_state_dict(model)  # all processes take part
    if not trainer.accelerator.is_main_process:
        return None
    with torch.device("meta"):
        whole = type(model)(model.config)
    whole.load_state_dict(weights, assign=True)
    whole.tie_weights()
    if whole.can_generate():
        whole.generation_config = model.generation_config
    return whole


def _metrics(job: TrainingJob, counts: ExampleCounts, trainer: Any, seconds: float) -> dict[str, Any]:
    import torch

    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    if trainer.accelerator.is_main_process:
        with (Path(job.out) / "steps.jsonl").open("w", encoding="utf-8") as stream:
            stream.writelines(json_line(e) for e in trainer.state.log_history if "loss" in e or "eval_loss" in e)
    # Each logged loss is the mean since the previous one.
    spans = [b - a for a, b in pairwise([0, *(entry["step"] for entry in history)])]
    train_loss = sum(e["loss"] * n for e, n in zip(history, spans, strict=True)) / sum(spans) if history else None
    # With steps instead of epochs, the examples may be passed several times.
    passes = float(trainer.state.epoch or 0.0)
    metrics = {
        "steps": trainer.state.global_step,
        "epochs": round(passes, 4),
        "first_loss": history[0]["loss"] if history else None,
        "last_loss": history[-1]["loss"] if history else None,
        "train_loss": train_loss,
        "tokens": counts.tokens,
        "completion_tokens": counts.trained_tokens,
        "longest_example": counts.longest,
        "shortened": counts.shortened,
        "train_seconds": round(seconds, 2),
        "train_tokens_per_s": round(counts.tokens * passes / seconds, 1) if seconds else None,
        "processes": world_size(),
    }
    if trainer.args.load_best_model_at_end:
        metrics["validation_loss"] = trainer.state.best_metric
        metrics["best_step"] = trainer.state.best_global_step
    if torch.cuda.is_available():
        metrics["peak_memory_gib"] = round(torch.cuda.max_memory_allocated() / (1 << 30), 2)
    return metrics


def finish(job: TrainingJob, metrics: Mapping[str, Any]) -> None:
    """Writes the result of a training into its folder, last of all."""
    out = Path(job.out)
    counts = EncodedSet.read(out / SCRATCH / TRAIN).counts
    rows = {"rows_in": counts.rows_in, "kept": counts.kept, "dropped": counts.dropped}
    made = sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file() and path.name[0] != ".")
    files = [path.as_posix() for path in made if path.parts[0] != SCRATCH]
    for name in files:
        flush(out / name)
    metrics = {**metrics, "trainer_memory_mib": child.peak_memory_mib()}
    # The result marks the training as finished; until then it can be resumed from its checkpoints.
    write_json(out / RESULT, {"files": files, "counts": rows, "metrics": metrics})
    shutil.rmtree(out / SCRATCH, ignore_errors=True)  # the process that waited for the result may be doing this too


def take_part(job: TrainingJob) -> NoReturn:
    """Trains as one of the processes that are connected, and ends this one; when any of them ends, the result is written."""
    import torch.distributed as dist

    metrics = train_part(job)
    if dist.get_rank() == 0:
        finish(job, metrics)
    dist.barrier()
    leave()


def main() -> None:
    """One of several training processes: ``python -m tasks.training.rank JOB.json``."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("job", type=Path)
    arguments = parser.parse_args()
    child.die_with_parent()
    child.expect_many_objects()
    take_part(TrainingJob.read(arguments.job))


if __name__ == "__main__":
    main()
