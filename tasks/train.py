"""Training of prover and judge: supervised fine-tuning on completions (Eq. 2 and Eq. 4), by TRL, in a process of its own.

The artifact holds ``checkpoint/``, a plain Hugging Face folder that transformers and vLLM load; ``steps.jsonl``, the
trainer's metrics; and ``dropped.jsonl``, examples that were too long.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from data.artifacts import Artifact, Counts, Outcome
from data.files import write_json
from prompts.catalog import prover_for
from tasks import child
from tasks.gpus import visible_gpus
from tasks.seeds import derive_seed
from tasks.settings import Optimization, Role
from tasks.space import check_room, training_bytes
from tasks.stage import Context, Run, find_model, resolved_dtype
from tasks.trainer import TrainingJob


def train_prover(run: Run, human: Artifact) -> Artifact:
    """The stage "train-prover" (Eq. 4), on the pairs with human rationales."""
    settings = run.settings
    return _train(run, "prover", "prover", human, settings.models.prover_base, settings.training.prover, None)


def train_judge(run: Run, round: int, examples: Artifact, previous: Artifact | None = None) -> Artifact:
    """The stage "train-judge" of a round (Eq. 2): from the base model again, or from the previous round's judge."""
    settings = run.settings
    optimization = settings.training.first_judge if round == 0 else settings.training.judge
    start: str | Artifact = settings.models.judge_base
    if previous is not None and settings.training.judge_start == "previous":
        start = previous
    return _train(run, f"round-{round}/judge", "judge", examples, start, optimization, round)


def fine_tune_judge(run: Run, round: int, human: Artifact, previous: Artifact, optimization: Optimization) -> Artifact:
    """The final fine-tuning on human rationales (METHOD 5), from the last round's judge."""
    return _train(run, f"round-{round}/judge", "judge", human, previous, optimization, round)


def _train(
    run: Run,
    name: str,
    role: Role,
    examples: Artifact,
    base: str | Artifact,
    optimization: Optimization,
    round: int | None,
) -> Artifact:
    models, training, judge = run.settings.models, run.settings.training, run.settings.judge_prompt
    prompt = judge if role == "judge" else prover_for(judge)
    # Generation leaves this much room for a reply; a prompt must be cut, or dropped, alike in both.
    reply_tokens = run.settings.labels.max_tokens if role == "judge" else run.settings.proofs.max_tokens
    # From the base, every round draws alike, so that runs that differ elsewhere share what they have in common; a
    # judge that is trained on goes on with a seed of its own.
    seed = derive_seed(run.seed, "train", role, *([round] if isinstance(base, Artifact) else []))
    config = {
        "role": role,
        "prompt": prompt.name,
        "prompt_digest": prompt.digest,
        "context": models.max_tokens,
        "overlong": models.overlong,
        "reply_tokens": reply_tokens,
        "dtype": resolved_dtype(models.dtype),
        "optimization": optimization.model_dump(),
        "packing": training.packing,
        "attention": training.attention,
        "seed": seed,
    }
    if isinstance(base, Artifact):
        known = {"base": base.content}
    else:
        folder, known = find_model(base)

    def body(context: Context) -> Outcome:
        start = str(base.folder("checkpoint")) if isinstance(base, Artifact) else folder
        room = training_bytes(Path(start), optimization)
        check_room(context.work, f"training the {role}", room, run.settings.retention.reserve_gib)
        job = TrainingJob(
            f"{run.store.run_name}/{name}",
            role,
            str(examples.file("examples.jsonl")),
            start,
            str(context.work),
            models.for_role(role).model_dump(mode="json"),
            training.model_dump(mode="json"),
            optimization.model_dump(mode="json"),
            reply_tokens,
            seed,
        )
        return _train_in_child(context, job)

    inputs = {"examples": examples.ref("examples.jsonl").sha256, **known}
    return run.do(name, f"train-{role}", config, inputs, body, round)


def _train_in_child(context: Context, job: TrainingJob) -> Outcome:
    result_file = context.work / ".result.json"
    if result_file.exists():
        context.watch.log("the training had ended; only its commit was missing")
        return _outcome(result_file)
    job_file = context.log_file.with_suffix(".job.json")
    write_json(job_file, {**asdict(job), "result": str(result_file)})
    # On a CPU whose cores others use too, threads that spin while they wait collapse the training's speed.
    environment = {} if visible_gpus() else {"OMP_WAIT_POLICY": "PASSIVE"}
    if "TENSORBOARD_LOGGING_DIR" not in os.environ:
        environment["TENSORBOARD_LOGGING_DIR"] = str(context.log_file.parent / "tensorboard" / context.log_file.stem)
    command = child.Command("tasks.trainer", [str(job_file)], environment, "train")
    child.run_children(
        [command],
        context.log_file,
        context.watch.log,
        lambda _, facts: context.progress(facts["done"], facts["total"]),
    )
    return _outcome(result_file)


def _outcome(result_file: Path) -> Outcome:
    result = json.loads(result_file.read_text(encoding="utf-8"))
    return Outcome(Counts(**result["counts"]), result["metrics"])
