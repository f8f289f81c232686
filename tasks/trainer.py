"""The child process that trains: TRL's SFTTrainer on examples encoded here, and a plain Hugging Face folder at the end.

``python -m tasks.trainer JOB.json`` is what `tasks.train` starts.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from data.artifacts import DONE, SCRATCH
from data.files import flush, json_line, read_jsonl, write_json
from data.records import parse_preference
from prompts.catalog import JUDGE_PROMPTS, prover_for
from tasks import child
from tasks.chat import DATE, ChatEncoder, Encoded
from tasks.gpus import claim_gpus
from tasks.settings import LoraSettings, ModelSettings, Optimization, Role, TrainingSettings

COMPLETE = f"all{DONE}"
"""Written last into a checkpoint of a training under way: the sizes of its files, and the seconds spent so far."""
RESULT = f".result{DONE}"
"""Written last of all: the names of the files that were made, the counts and the metrics."""


@dataclass(frozen=True)
class TrainingJob:
    """What a training child is told. `label` names the training in W&B and alike."""

    label: str
    role: Role
    examples: str
    base: str
    out: str
    models: Mapping[str, Any]
    training: Mapping[str, Any]
    optimization: Mapping[str, Any]
    reply_tokens: int
    seed: int


@dataclass
class ExampleCounts:
    """What became of the examples; filled while they are encoded."""

    rows_in: int = 0
    too_long: int = 0
    shortened: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    longest: int = 0


def encode_example(
    row: Mapping[str, Any], role: Role, encoder: ChatEncoder, models: ModelSettings, reply_tokens: int
) -> tuple[Encoded, list[int]] | None:
    """(prompt, completion ids) of one training example, or None where they do not fit the context.

    The prompt ids are exactly those that generation gives the engine for the same pair, which leaves `reply_tokens`
    of the context to the reply.
    """
    budget = models.max_tokens - reply_tokens
    judge = JUDGE_PROMPTS[models.judge_prompt]
    preference = parse_preference(row)
    if role == "judge":
        completion = encoder.completion_ids(judge.target(row["rationale"], preference.label))
        prompt = encoder.judge_ids(judge, preference.pair, budget, models.overlong)
    else:
        prover = prover_for(judge)
        completion = encoder.completion_ids(prover.to_proof(row["rationale"]))
        prompt = encoder.prover_ids(prover, preference, budget, models.overlong)
    if prompt is None or len(prompt.ids) + len(completion) > models.max_tokens:
        return None
    return prompt, completion


def encoded_examples(
    job: TrainingJob, encoder: ChatEncoder, models: ModelSettings, counts: ExampleCounts
) -> Iterator[dict[str, list[int]]]:
    """Token ids and labels of every example that fits; -100 marks the prompt, which the loss leaves out."""
    with (Path(job.out) / "dropped.jsonl").open("w", encoding="utf-8") as dropped:
        for row in read_jsonl(Path(job.examples)):
            counts.rows_in += 1
            encoded = encode_example(row, job.role, encoder, models, job.reply_tokens)
            if encoded is None:
                counts.too_long += 1
                dropped.write(json_line({"id": row["id"], "reason": "too_long", "origin": row.get("origin")}))
                continue
            prompt, completion = encoded[0].ids, encoded[1]
            counts.shortened += encoded[0].truncated
            counts.tokens += len(prompt) + len(completion)
            counts.trained_tokens += len(completion)
            counts.longest = max(counts.longest, len(prompt) + len(completion))
            yield {"input_ids": [*prompt, *completion], "labels": [-100] * len(prompt) + completion}


def run_training(job: TrainingJob) -> dict[str, Any]:
    """Trains and writes the checkpoint; returns counts and metrics. In the child."""
    import torch
    import transformers
    from datasets import Dataset, Features, List, Value, disable_progress_bars
    from trl import SFTTrainer

    from tasks.vllm_engine import engine_dtype

    models = ModelSettings.model_validate(job.models)
    training = TrainingSettings.model_validate(job.training)
    optimization = Optimization.model_validate(job.optimization)
    disable_progress_bars()
    transformers.logging.disable_progress_bar()
    transformers.set_seed(job.seed)
    if not torch.cuda.is_available():
        torch.use_deterministic_algorithms(True)
        # Filling every new tensor doubles the time of a step (24 s of CPU against 12 for 60 small ones).
        torch.utils.deterministic.fill_uninitialized_memory = False
    encoder = ChatEncoder.load(job.base, bool(models.trust_remote_code))
    counts = ExampleCounts()
    scratch = Path(job.out) / SCRATCH
    # What a killed attempt left there would be taken for this one's, and its examples not counted.
    shutil.rmtree(scratch / "cache", ignore_errors=True)
    dataset = Dataset.from_generator(
        lambda: encoded_examples(job, encoder, models, counts),
        features=Features({"input_ids": List(Value("int32")), "labels": List(Value("int64"))}),
        cache_dir=str(scratch / "cache"),
        keep_in_memory=False,
    )
    if len(dataset) == 0:
        raise ValueError(f"no example of {job.examples} fits models.max_tokens = {models.max_tokens}")
    print(f"{len(dataset)} examples, {counts.tokens} tokens, {counts.too_long} dropped as too long", flush=True)
    attention = {} if training.attention == "auto" else {"attn_implementation": training.attention}
    # Full fine-tuning keeps its weights in float32 and computes in bfloat16: at small learning rates, updates to
    # bfloat16 weights round away. With LoRA the base stays as it is and peft keeps the adapter in float32.
    stored = "float32" if optimization.lora is None else engine_dtype(models.dtype, torch.cuda.is_available())
    model = transformers.AutoModelForCausalLM.from_pretrained(
        job.base,
        dtype=getattr(torch, stored),
        trust_remote_code=bool(models.trust_remote_code),
        **attention,
    )
    trainer = SFTTrainer(
        model=model,
        args=sft_arguments(job, training, optimization, models, str(scratch / "trainer")),
        train_dataset=dataset,
        processing_class=encoder.tokenizer,
        peft_config=_lora(optimization.lora),
    )
    trainer.remove_callback(transformers.PrinterCallback)  # its lines would repeat those of ours
    checkpoint = last_checkpoint(scratch / "trainer")
    earlier_s = 0.0 if checkpoint is None else float(json.loads((checkpoint / COMPLETE).read_text())["seconds"])
    trainer.add_callback(_callback(transformers.TrainerCallback, training, earlier_s))
    if checkpoint is not None:
        print(f"resuming from {checkpoint.name}", flush=True)
        # TRL's own count of tokens is not among what the trainer restores.
        logged = json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]
        trainer._total_train_tokens = int(logged[-1]["num_tokens"])
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = earlier_s + time.monotonic() - started
    _save(trainer, encoder, Path(job.out), engine_dtype(models.dtype, torch.cuda.is_available()))
    return _result(job, counts, trainer, seconds)


def sft_arguments(
    job: TrainingJob,
    training: TrainingSettings,
    optimization: Optimization,
    models: ModelSettings,
    output_dir: str,
) -> Any:
    """The trainer's configuration. The examples are encoded already: TRL only batches, packs, and takes the loss."""
    import torch
    from trl import SFTConfig

    from tasks.vllm_engine import engine_dtype

    gpu = torch.cuda.is_available()
    micro = min(optimization.micro_batch_size or optimization.batch_size, optimization.batch_size)
    if training.packing and training.attention == "eager":
        raise ValueError("training.packing needs an attention that keeps examples apart: sdpa or flash_attention_2")
    return SFTConfig(
        output_dir=output_dir,
        learning_rate=optimization.learning_rate,
        num_train_epochs=optimization.epochs or 1,
        max_steps=optimization.max_steps or -1,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=optimization.batch_size // micro,
        warmup_steps=optimization.warmup_ratio,  # under 1 it is a share of the steps
        lr_scheduler_type=optimization.schedule,
        weight_decay=optimization.weight_decay,
        max_length=models.max_tokens,
        packing=training.packing,
        gradient_checkpointing=training.gradient_checkpointing,
        bf16=gpu and engine_dtype(models.dtype, gpu) == "bfloat16",
        fp16=gpu and engine_dtype(models.dtype, gpu) == "float16",
        use_cpu=not gpu,
        logging_steps=training.log_every,
        report_to=list(training.report_to) or "none",
        run_name=job.label,
        # Saving is asked for by a callback; two are kept, so that one is whole while the other is written.
        save_strategy="no",
        save_total_limit=2,
        seed=job.seed,
        data_seed=job.seed,
        disable_tqdm=True,
        dataloader_pin_memory=gpu,
        pad_to_multiple_of=None,
    )


def _lora(lora: LoraSettings | None) -> Any:
    if lora is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        task_type="CAUSAL_LM",
    )


def last_checkpoint(folder: Path) -> Path | None:
    """The latest checkpoint of a training under way that was written to its end, or None."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]), reverse=True)
    return next((path for path in found if _is_complete(path)), None)


def _is_complete(checkpoint: Path) -> bool:
    marker = checkpoint / COMPLETE
    if not marker.exists():
        return False
    sizes = json.loads(marker.read_text(encoding="utf-8"))["files"]
    return all((checkpoint / name).is_file() and (checkpoint / name).stat().st_size == n for name, n in sizes.items())


def _callback(base: Any, training: TrainingSettings, earlier_s: float) -> Any:
    """Reports progress, and has a checkpoint saved every so often: at logged steps, so that no loss is averaged anew."""
    started = saved = time.monotonic()

    class Progress(base):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            nonlocal saved
            child.report_progress(done=state.global_step, total=state.max_steps)
            due = time.monotonic() - saved >= 60 * training.checkpoint_minutes
            if due and state.global_step % args.logging_steps == 0 and state.global_step < state.max_steps:
                saved = time.monotonic()
                control.should_save = True

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            nonlocal saved
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            sizes = {p.relative_to(folder).as_posix(): p.stat().st_size for p in folder.rglob("*") if p.is_file()}
            seconds = earlier_s + time.monotonic() - started
            write_json(folder / COMPLETE, {"files": sizes, "seconds": round(seconds, 2)})
            saved = time.monotonic()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            shown = {key: value for key, value in (logs or {}).items() if key in ("loss", "grad_norm", "learning_rate")}
            if shown:
                print(f"step {state.global_step} of {state.max_steps}: {shown}", flush=True)

    return Progress()


def _save(trainer: Any, encoder: ChatEncoder, out: Path, dtype: str) -> None:
    """A plain folder: full weights (an adapter is merged, and kept beside), tokenizer, and generation settings."""
    import torch

    model = trainer.accelerator.unwrap_model(trainer.model)
    if hasattr(model, "merge_and_unload"):
        model.save_pretrained(out / "adapter", safe_serialization=True)
        model = model.merge_and_unload()
    # Whatever the base says, the token that training taught as the end of a turn ends generation.
    known = model.generation_config.eos_token_id
    known = [known] if isinstance(known, int) else list(known or [])
    model.generation_config.eos_token_id = sorted({encoder.end_id, *known})
    model.to(getattr(torch, dtype)).save_pretrained(out / "checkpoint")
    if "date_string" in encoder.tokenizer.chat_template:  # whoever serves the checkpoint must send the day it learned
        fixed = f'{{%- set date_string = "{DATE}" -%}}'
        encoder.tokenizer.chat_template = fixed + encoder.tokenizer.chat_template.removeprefix(fixed)
    encoder.tokenizer.save_pretrained(out / "checkpoint")


def _result(job: TrainingJob, counts: ExampleCounts, trainer: Any, seconds: float) -> dict[str, Any]:
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    with (Path(job.out) / "steps.jsonl").open("w", encoding="utf-8") as stream:
        stream.writelines(json_line(entry) for entry in history)
    # Each logged loss is the mean since the one before.
    spans = [b - a for a, b in pairwise([0, *(entry["step"] for entry in history)])]
    train_loss = sum(e["loss"] * n for e, n in zip(history, spans, strict=True)) / sum(spans) if history else None
    # With steps instead of epochs the examples pass several times.
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
    }
    kept = counts.rows_in - counts.too_long
    dropped = {"too_long": counts.too_long} if counts.too_long else {}
    return {"counts": {"rows_in": counts.rows_in, "kept": kept, "dropped": dropped}, "metrics": metrics}


def main() -> None:
    """The child: ``python -m tasks.trainer JOB.json``."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("job", type=Path)
    arguments = parser.parse_args()
    child.die_with_parent()
    locks = claim_gpus(1)
    job = TrainingJob(**json.loads(arguments.job.read_text(encoding="utf-8")))
    out = Path(job.out)
    result = run_training(job)
    made = sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file() and path.name[0] != ".")
    files = [path.as_posix() for path in made if path.parts[0] != SCRATCH]
    for name in files:
        flush(out / name)
    # The result is what says that the training is over; until then it can go on from its checkpoints.
    write_json(out / RESULT, {"files": files, **result})
    shutil.rmtree(out / SCRATCH, ignore_errors=True)  # which whoever waited for the result may be doing too
    del locks


if __name__ == "__main__":
    # Run as a script this module is `__main__`, and its classes are not those that other modules import from here.
    from tasks.trainer import main as run_main

    run_main()
