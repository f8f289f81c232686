"""Adapting a judge to a task: which pairs each judge learns from, the trainings, and their effect on other benchmarks.

What a checkpoint learns depends on how it judges: a judge that reasons learns rationales and verdicts; a label-only judge,
labels; a discriminative model, which response is preferred.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.files import json_line, read_jsonl
from data.records import pair_key, parse_pair, prompt_key
from data.seeds import derive_seed
from data.sources.rows import DataError
from data.store.artifacts import Artifact, Counts, FileRef, Outcome
from tasks.benchmark.play import benchmark, query_for
from tasks.model.location import Checkpoint
from tasks.model.orders import ORDERS
from tasks.model.scalar import SCALAR
from tasks.prove import select_proofs, write_proofs
from tasks.run.stage import Context, Run
from tasks.settings import Optimization, Role, TaskSettings
from tasks.train import TrainingSpec, judge_role, train
from tasks.training_set import example_of, human_examples

VALIDATION = "validation.jsonl"


@dataclass(frozen=True)
class Adapted:
    """A judge adapted on `size` pairs (0: not adapted), its training, and its benchmarks on the task and the general sets."""

    size: int
    trained: Artifact | None
    heldout: Artifact
    general: tuple[Artifact, ...] = ()


def accuracy_of(one: Adapted) -> float:
    """Its share of right judgments on the held-out pairs."""
    return float(one.heldout.manifest.metrics["accuracy"])


def best_of(made: Sequence[Adapted]) -> Adapted | None:
    """The judge that `export` chooses: the adapted one with the highest accuracy, the smaller size if tied; None without any."""
    return max((one for one in made if one.trained), key=lambda one: (accuracy_of(one), -one.size), default=None)


def train_file(size: int) -> str:
    """The name of the file with the examples of this many pairs."""
    return f"train-{size}.jsonl"


def role_of(run: Run, prompt: str) -> Role:
    """The role that a judge with this prompt is trained for."""
    return "scalar" if prompt == SCALAR else judge_role(run)


# ---- the examples -----------------------------------------------------------------------------------------------------


def task_examples(
    run: Run, data: Artifact, task: TaskSettings, prompt: str, prover: Checkpoint | None = None
) -> Artifact:
    """The stage "task": a validation set and nested training sets. Raises DataError if a size exceeds the available pairs."""
    source = _source(run, data, prompt, prover)
    # Both orders keep A and B balanced; a discriminative model scores each response alone, so one order is enough.
    orders = ORDERS[:1] if prompt == SCALAR else ORDERS
    config = {
        "sizes": list(task.sizes),
        "validation_share": task.validation_share,
        "overlap": task.overlap,
        "orders": list(orders),
        "seed": run.seed,
    }

    def body(context: Context) -> Outcome:
        return _split(context, context.file("pairs"), task, orders, run.seed)

    return run.find_or_make("task", "task", config, {"pairs": source}, body)


def _source(run: Run, data: Artifact, prompt: str, prover: Checkpoint | None) -> FileRef:
    """The file of training pairs, one per line: with proofs, with a human rationale, or with the label alone."""
    labeled = data.ref("labeled.jsonl")
    if prompt == SCALAR or not run.settings.judge_prompt.has_rationale:
        return labeled
    if prover is None:
        return human_examples(run, data).ref("examples.jsonl")
    return select_proofs(run, 0, write_proofs(run, 0, prover, labeled), labeled).ref("selected.jsonl")


def _split(context: Context, source: Path, task: TaskSettings, orders: Sequence[str], seed: int) -> Outcome:
    n_rows = n_validation = 0
    # A pair's place in the shuffled order depends on that pair only, so adding pairs keeps the order of the others.
    drawn: list[tuple[int, str, list[dict[str, Any]]]] = []
    with (context.work / VALIDATION).open("w", encoding="utf-8") as validation:
        for row in read_jsonl(source):
            n_rows += 1
            pair = parse_pair(row)
            key = prompt_key(pair.prompt) if task.overlap == "prompt" else pair_key(pair)
            examples = list(_examples_of(row, orders))
            if derive_seed(seed, "validation", key) / 2**31 < task.validation_share:
                n_validation += 1
                validation.writelines(map(json_line, examples))
                continue
            place = (-derive_seed(seed, "task", row["id"]), str(row["id"]), examples)
            if len(drawn) < task.sizes[-1]:
                heapq.heappush(drawn, place)
            else:
                heapq.heappushpop(drawn, place)
    if task.validation_share and not n_validation:
        raise DataError(
            f"task.validation_share = {task.validation_share:g} keeps none of {n_rows} pairs, so no training can be stopped "
            "early: raise it, or set it to 0 and leave training.optimization.early_stopping out"
        )
    if len(drawn) < task.sizes[-1]:
        fitting = [size for size in task.sizes if size <= len(drawn)]
        raise DataError(
            f"task.sizes: {task.sizes[-1]} pairs are requested, but {len(drawn)} are available for training: {n_rows} in "
            f"{source.name}, {n_validation} of them kept for validation. Give more pairs, or sizes such as "
            f"{fitting or [len(drawn)]}"
        )
    ordered = [examples for _, _, examples in sorted(drawn, key=lambda place: (-place[0], place[1]))]
    with ExitStack() as files:
        streams = {
            size: files.enter_context((context.work / train_file(size)).open("w", encoding="utf-8"))
            for size in task.sizes
        }
        for i, examples in enumerate(ordered):
            for size, stream in streams.items():
                if i < size:
                    stream.writelines(map(json_line, examples))
    used = n_validation + len(ordered)
    dropped = {"not_needed": n_rows - used} if n_rows > used else {}
    return Outcome(Counts(n_rows, used, dropped), {"validation_pairs": n_validation})


def _examples_of(row: dict[str, Any], orders: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The examples of one pair: in these orders, or only as given for a human rationale, which names responses by position."""
    if row.get("rationale"):
        yield row
        return
    proofs = row.get("proofs")
    for order in orders:
        if proofs is None or order in proofs:
            yield example_of(row, order, proofs[order]["rationale"] if proofs else "")


# ---- the judges -------------------------------------------------------------------------------------------------------


def adapt(
    run: Run,
    judge: Checkpoint,
    prompt: str,
    examples: Artifact,
    task: TaskSettings,
    optimization: Optimization,
    heldout: Artifact,
    general: Sequence[Artifact],
) -> list[Adapted]:
    """The unadapted judge, and one adapted on each size; only the first and the last of them play the general sets."""
    settings = run.settings
    query = query_for(settings.benchmarks, prompt, settings.models, settings.reply_tokens, run.seed)

    def played(player: Artifact | Checkpoint, sets: Sequence[Artifact], place: str) -> list[Artifact]:
        return [benchmark(run, None, player, one, query, place) for one in sets]

    before = played(judge, [heldout, *general], "before")
    made = [Adapted(0, None, before[0], tuple(before[1:]))]
    validation = examples.ref(VALIDATION) if examples.manifest.metrics["validation_pairs"] else None
    for size in task.sizes:
        place, file = f"size-{size}", examples.ref(train_file(size))
        spec = TrainingSpec(f"{place}/judge", role_of(run, prompt), file, optimization, validation=validation)
        # By its name: the folder of a hub's cache, or of a merged adapter, is on this machine alone.
        trained = train(run, spec, settings.models.judge_base)
        sets = [heldout, *(general if size == task.sizes[-1] else ())]
        games = played(trained, sets, place)
        made.append(Adapted(size, trained, games[0], tuple(games[1:])))
    return made
