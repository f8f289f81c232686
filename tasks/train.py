"""Training of prover and judge: supervised fine-tuning on completions (Eq. 2 and Eq. 4), by TRL, in a process of its own.

The artifact holds ``checkpoint/``, a plain Hugging Face folder that transformers and vLLM load; ``steps.jsonl``, the
trainer's metrics; and ``dropped.jsonl``, examples that were too long.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data.artifacts import DONE, SCRATCH, Artifact, Counts, Outcome
from data.files import write_json
from prompts.catalog import prover_for
from tasks import child
from tasks.gpus import visible_gpus
from tasks.pool import Part, see_through
from tasks.seeds import derive_seed
from tasks.settings import Optimization, Role
from tasks.space import check_room, training_bytes
from tasks.stage import Context, Run, find_model, resolved_dtype
from tasks.trainer import RESULT, TrainingJob

DEPLOYMENT = "train/model"
STEPS = f".steps{DONE}"
"""How far a training on another machine has come."""


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
        if (context.work / RESULT).exists():
            context.watch.log("the training had ended; only its commit was missing")
        elif training.in_pool:
            _train_in_pool(context, job, None if isinstance(base, Artifact) else base_model(base, known))
        else:
            reserve = run.settings.retention.reserve_gib
            run.store.refresh(context.work)
            train_in_child(job, context.log_file, reserve, context.watch.log, context.progress)
        return _outcome(context.work)

    inputs = {"examples": examples.ref("examples.jsonl").sha256, **known}
    return run.do(name, f"train-{role}", config, inputs, body, round)


def train_in_child(
    job: TrainingJob,
    log_file: Path,
    reserve_gib: float,
    on_line: Callable[[str], None],
    on_progress: Callable[[int, int], None],
) -> None:
    """Trains in a process of its own on this machine, and waits for it; its result is then in the job's folder.

    Raises ChildError where the process fails, StageError where the disk has no room for what it writes.
    """
    room = training_bytes(Path(job.base), Optimization.model_validate(job.optimization))
    check_room(Path(job.out), f"training the {job.role}", room, reserve_gib)
    job_file = log_file.with_suffix(".job.json")
    write_json(job_file, asdict(job))
    # On a CPU whose cores others use too, threads that spin while they wait collapse the training's speed.
    environment = {} if visible_gpus() else {"OMP_WAIT_POLICY": "PASSIVE"}
    if "TENSORBOARD_LOGGING_DIR" not in os.environ:
        environment["TENSORBOARD_LOGGING_DIR"] = str(log_file.parent / "tensorboard" / log_file.stem)
    command = child.Command("tasks.trainer", [str(job_file)], environment, "train")
    child.run_children([command], log_file, on_line, lambda _, facts: on_progress(facts["done"], facts["total"]))


def base_model(model: str, known: Mapping[str, str]) -> dict[str, Any]:
    """A base model as another machine finds it, with what says that it is the same one."""
    pinned = f"{known['hub']}@{known['commit']}" if "hub" in known else model
    return {"model": pinned, "known": dict(known)}


def _train_in_pool(context: Context, job: TrainingJob, model: dict[str, Any] | None) -> None:
    """Has a worker of the pool ``train`` do it, and waits; `model` is the base where that is no file of the store."""
    store, work = context.run.store, context.work
    here = {"examples": job.examples, "out": job.out, **({} if model else {"base": job.base})}
    told = {name: Path(path).relative_to(store.root).as_posix() for name, path in here.items()}
    parameters = {
        "job": {**asdict(job), "base": "", **told},
        "store": store.url,
        "base_model": model,
        "reserve_gib": context.run.settings.retention.reserve_gib,
    }

    def left() -> str:
        return "" if (work / RESULT).exists() else "the training"

    def look() -> None:
        context.raise_if_lost()
        store.refresh(work, lambda name: name in (RESULT, STEPS))
        if (work / STEPS).exists():
            steps = json.loads((work / STEPS).read_text(encoding="utf-8"))
            context.progress(steps["done"], steps["total"])

    see_through(DEPLOYMENT, store, work, [Part("training", parameters, left)], look, context.watch.log)


def _outcome(work: Path) -> Outcome:
    """What a training that has ended reports."""
    shutil.rmtree(work / SCRATCH, ignore_errors=True)  # a kill may have come before the child did it
    result = json.loads((work / RESULT).read_text(encoding="utf-8"))
    return Outcome(Counts(**result["counts"]), result["metrics"])
