"""The training stages, each in its own process: prover (Eq. 4), judges (Eq. 1 and 2), GRAM's two steps, and
discriminative models.

The artifact holds ``checkpoint/``, a plain Hugging Face folder that transformers and vLLM load; ``steps.jsonl``, the
trainer's metrics; and ``dropped.jsonl``, examples that were too long.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data.files import write_json
from data.seeds import derive_seed
from data.store.artifacts import DONE, SCRATCH, Artifact, Counts, FileRef, Input, Outcome
from tasks.machine import child
from tasks.machine.gpus import visible_gpus
from tasks.machine.remote_runs import Part, run_parts
from tasks.model.device import head_facts, resolved_dtype
from tasks.model.folder import trained_share
from tasks.model.location import Checkpoint
from tasks.run.base_models import base_for_workers, find_base
from tasks.run.space import check_room, encoding_bytes, training_bytes
from tasks.run.stage import Context, Run
from tasks.settings import Optimization, Role
from tasks.training.examples import prompt_of
from tasks.training.job import CACHE, COMPLETE, RESULT, TrainingJob
from tasks.training.sides import TWO_ORDERS

DEPLOYMENT = "train/model"
STEPS = f".steps{DONE}"
"""Progress of a training on another machine."""


def pretrain(run: Run, data: Artifact) -> Artifact | None:
    """The stage "pretrain" (METHOD 0): the judge's base learns to write both responses of a pair; None if it is off."""
    optimization = run.settings.training.pretraining
    if optimization is None:
        return None
    spec = TrainingSpec("pretrained", "pretrained", data.ref("pretraining.jsonl"), optimization)
    return train(run, spec, run.settings.models.judge_base)


def train_prover(run: Run, human: Artifact) -> Artifact:
    """The stage "train-prover" (Eq. 4), on the pairs with human rationales."""
    spec = TrainingSpec("prover", "prover", human.ref("examples.jsonl"), run.settings.training.prover)
    return train(run, spec, run.settings.models.prover_base)


def train_judge(
    run: Run, round: int, examples: Artifact, base: Artifact | None = None, previous: Artifact | None = None
) -> Artifact:
    """The stage "train-judge" of a round: from the base model (pre-trained or not), or from the previous round's judge."""
    training = run.settings.training
    start: str | Artifact = base or run.settings.models.judge_base
    if previous is not None and training.judge_start == "previous":
        start = previous
    optimization = training.first_judge if round == 0 else training.judge
    spec = TrainingSpec(f"round-{round}/judge", judge_role(run), examples.ref("examples.jsonl"), optimization, round)
    return train(run, spec, start)


def fine_tune_judge(run: Run, round: int, human: Artifact, previous: Artifact, optimization: Optimization) -> Artifact:
    """The final fine-tuning on human rationales (METHOD 5), from the last round's judge."""
    spec = TrainingSpec(f"round-{round}/judge", judge_role(run), human.ref("examples.jsonl"), optimization, round)
    return train(run, spec, previous)


def judge_role(run: Run) -> Role:
    """The role that the run's judges are trained for: writing replies or, as in GRAM, choosing between the two labels."""
    by_label = not run.settings.judge_prompt.has_rationale and run.settings.training.label_loss == "labels"
    return "label-judge" if by_label else "judge"


@dataclass(frozen=True)
class TrainingSpec:
    """One training: the stage's name, the model's role, its training data, and the optimization."""

    name: str
    role: Role
    examples: FileRef
    optimization: Optimization
    round: int | None = None
    validation: FileRef | None = None

    @property
    def kind(self) -> str:
        """The stage's kind, as metrics and the UI show it."""
        return {"prover": "train-prover", "pretrained": "pretrain"}.get(self.role, "train-judge")


def train(run: Run, spec: TrainingSpec, base: str | Artifact) -> Artifact:
    """The stage of one training, from a named base model or from another stage's checkpoint."""
    role = spec.role
    seed_parts = [spec.round] if spec.round is not None and isinstance(base, Artifact) else []
    # From the base, every round uses the same seed, so runs that differ elsewhere share their common stages; a judge
    # that continues from a checkpoint gets a seed per round.
    seed = derive_seed(run.seed, "train", role, *seed_parts)
    config = _config(run, spec, seed)
    inputs: dict[str, Input] = {"examples": spec.examples}
    if isinstance(base, Artifact):
        inputs["base"] = base
    else:
        folder, known = find_base(run.store, base)
        inputs |= {name: Checkpoint(value, folder) for name, value in known.items()}
    if spec.validation is not None:
        inputs["validation"] = spec.validation

    def body(context: Context) -> Outcome:
        job = _job(run, spec, context, seed)
        if (context.work / RESULT).exists():
            context.watch.log("the training had already finished; only its commit was missing")
        elif run.settings.training.in_pool:
            model = None if isinstance(base, Artifact) else base_for_workers(run.store, base, known)
            _train_in_pool(context, job, model)
        else:
            reserve = run.settings.retention.reserve_gib
            run.store.refresh(context.work)
            (run.trainer or train_in_child)(job, context.log_file, reserve, context.watch.detail, context.progress)
        return _outcome(context.work)

    return run.find_or_make(spec.name, spec.kind, config, inputs, body, spec.round)


def _config(run: Run, spec: TrainingSpec, seed: int) -> dict[str, Any]:
    models, training, role = run.settings.models, run.settings.training, spec.role
    dtype = resolved_dtype(models.dtype)
    name, digest = prompt_of(role, run.settings.judge_prompt)
    config: dict[str, Any] = {
        "role": role,
        "prompt": name,
        "prompt_digest": digest,
        "context": models.max_tokens,
        "overlong": models.overlong,
        "reply_tokens": _reply_tokens(run, role),
        "dtype": dtype,
        **(head_facts(dtype) if role in ("label-judge", "scalar") else {}),
        "optimization": spec.optimization.model_dump(),
        "packing": training.packing,
        "attention": training.attention,
        "seed": seed,
        # Nothing where they are not used.
        **training.model_dump(include={"pack_tokens", "compile", "liger_kernels", "trainable_layers"}),
        **(training.model_dump(include={"pair_orders"}) if role in TWO_ORDERS else {}),
    }
    if models.system is not None:
        config["system"] = models.system
    return {**config, "label_smoothing": training.label_smoothing} if role == "label-judge" else config


def _reply_tokens(run: Run, role: Role) -> int:
    """The tokens that generation reserves for a reply; training must truncate or drop the same prompts."""
    if role == "prover":
        return run.settings.proofs.max_tokens
    return run.settings.judge_room


def _job(run: Run, spec: TrainingSpec, context: Context, seed: int) -> TrainingJob:
    settings = run.settings
    base = next(role for role in ("base", "content", "hub") if role in context.inputs)
    return TrainingJob(
        f"{run.store.run_name}/{spec.name}",
        spec.role,
        str(context.file("examples")),
        context.model(base),
        str(context.work),
        settings.models.for_role(spec.role).model_dump(mode="json"),
        settings.training.mechanics(),
        spec.optimization.model_dump(mode="json"),
        _reply_tokens(run, spec.role),
        seed,
        settings.training.label_smoothing,
        str(context.file("validation")) if "validation" in context.inputs else "",
        str(run.store.path / CACHE),
    )


def train_in_child(
    job: TrainingJob,
    log_file: Path,
    reserve_gib: float,
    on_line: Callable[[str], None],
    on_progress: Callable[[int, int], None],
) -> None:
    """Trains in a child process on this machine and waits for it; the result is then in the job's folder.

    Raises ChildError if the process fails, StageError if the disk has too little room for its files.
    """
    if job.node == 0:  # the others write into the same folder
        _check_room(job, reserve_gib)
    job_file = log_file.with_suffix(".job.json")
    write_json(job_file, asdict(job))
    # On a CPU with shared cores, threads that busy-wait make training drastically slower.
    environment = {} if visible_gpus() else {"OMP_WAIT_POLICY": "PASSIVE"}
    if "TENSORBOARD_LOGGING_DIR" not in os.environ:
        shown = log_file.stem.removesuffix(f".node-{job.node}")  # on whichever machine the first process is
        environment["TENSORBOARD_LOGGING_DIR"] = str(log_file.parent / "tensorboard" / shown)
    command = child.Command("tasks.training", [str(job_file)], environment, "train")
    child.run_children([command], log_file, on_line, lambda _, facts: on_progress(facts["done"], facts["total"]))


def _check_room(job: TrainingJob, reserve_gib: float) -> None:
    trained = trained_share(job.base, job.training.get("trainable_layers"))
    room = training_bytes(Path(job.base), Optimization.model_validate(job.optimization), trained)
    sets = [Path(examples) for examples in (job.examples, job.validation) if examples]
    room += encoding_bytes(sets, Path(job.cache) if job.cache else None, job.packed_to() is not None)
    check_room(Path(job.out), f"training the {job.role}", room, reserve_gib)


def _train_in_pool(context: Context, job: TrainingJob, model: dict[str, Any] | None) -> None:
    """Has workers of the pool ``train`` run the job, one on each machine, and waits; `model` is the base if it is not stored.

    A part that fails twice ends the training, unless it has come to another checkpoint in between: when a machine is lost,
    the processes of the others fail.
    """
    store, work = context.run.store, context.work
    here = {"examples": job.examples, "out": job.out, "validation": job.validation, "base": "" if model else job.base}
    # In a shared folder; a worker with its own copies of the store encodes what it trains on.
    here["cache"] = job.cache if store.remote is None else ""
    relative = {name: Path(path).relative_to(store.root).as_posix() for name, path in here.items() if path}
    parameters = {
        "job": {**asdict(job), "base": "", "cache": "", **relative},
        "store": store.url,
        "base_model": model,
        "reserve_gib": context.run.settings.retention.reserve_gib,
    }

    def left() -> str:
        return "" if (work / RESULT).exists() else "the training"

    nodes = context.run.settings.training.nodes
    labels = [f"node {i}" for i in range(nodes)] if nodes > 1 else ["training"]
    parts = [Part(label, {**parameters, "node": i}, left) for i, label in enumerate(labels)]
    seen = _checkpoints(work)

    def look() -> None:
        context.raise_if_lost()
        store.refresh(work, lambda name: name in (RESULT, STEPS))
        if (work / STEPS).exists():
            steps = json.loads((work / STEPS).read_text(encoding="utf-8"))
            context.progress(steps["done"], steps["total"])
        if new := _checkpoints(work) - seen:
            seen.update(new)
            for part in parts:
                part.failed = 0

    run_parts(DEPLOYMENT, store, work, parts, look, context.watch.warn)


def _checkpoints(work: Path) -> set[str]:
    """The complete checkpoints of a training in progress, by name; none of them is seen if the store is remote."""
    return {path.parent.name for path in (work / SCRATCH / "trainer").glob(f"*/{COMPLETE}")}


def _outcome(work: Path) -> Outcome:
    """The outcome reported by a finished training."""
    shutil.rmtree(work / SCRATCH, ignore_errors=True)  # the child may have been killed before it did this
    result = json.loads((work / RESULT).read_text(encoding="utf-8"))
    counts = Counts(**result["counts"])
    return Outcome(counts, result["metrics"]).warning(_lost(counts))


def _lost(counts: Counts) -> list[str]:
    """One line if more than half of the examples were dropped, otherwise none."""
    if sum(counts.dropped.values()) <= counts.rows_in / 2:
        return []
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in counts.dropped.items())
    return [f"over half of the examples are dropped, and not learned from: {reasons}, of {counts.rows_in:,}"]
