"""Judges that self-training is compared with, on the same labeled pairs: discriminative, label-only, and GRAM.

Each becomes a `Method`: its benchmarks, and the stages that produced it, whose tokens and seconds are its cost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data.files import json_line, read_jsonl
from data.store.artifacts import Artifact, Counts, FileRef, Outcome
from tasks.benchmark.play import benchmark, query_for, set_name
from tasks.model.orders import ORDERS
from tasks.model.scalar import SCALAR
from tasks.run.stage import Context, Run
from tasks.settings import BaselineSettings, Optimization
from tasks.train import TrainingSpec, train
from tasks.training_set import example_of

_TRAININGS = ("pretrain", "train-prover", "train-judge")
_GENERATIONS = ("prove", "vote", "calibration-vote")
_BEFORE_ROUNDS = ("pretrained", "prover")
"""The trainings of a run that all its rounds build on."""
CHANCE = 0.5
"""The accuracy of a judge that guesses at random."""


@dataclass(frozen=True)
class Method:
    """One way to obtain a judge: its name, the stages it took, and the judge's benchmarks."""

    name: str
    stages: tuple[Artifact, ...]
    benchmarks: tuple[Artifact, ...]

    def to_json(self) -> dict[str, Any]:
        """The report's row. Trained tokens count every epoch; generated tokens are those of proofs and votes."""
        trained = [a.manifest.metrics for a in self.stages if a.manifest.kind in _TRAININGS]
        generated = [a.manifest.metrics for a in self.stages if a.manifest.kind in _GENERATIONS]
        played = next(a.manifest for a in self.benchmarks if set_name(a) == "held-out")
        heldout = played.metrics
        votes = heldout["games"] / (len(ORDERS) * played.counts.rows_in)
        row = {
            "method": self.name,
            "pretrained": any(a.manifest.kind == "pretrain" for a in self.stages),
            "accuracy": heldout["accuracy"],
            "interval": heldout["interval"],
            "tokens_trained": round(sum(m["tokens"] * m["epochs"] for m in trained)),
            "tokens_generated": sum(m["tokens_generated"] for m in generated),
            "seconds": round(sum(a.manifest.seconds for a in self.stages), 1),
            "tokens_a_judgment": round(votes * heldout["mean_tokens"], 2),
            "warnings": [
                f"{a.manifest.name}: {line}" for a in (*self.stages, *self.benchmarks) for line in a.manifest.warnings
            ],
            "sets": {set_name(a): a.manifest.metrics["accuracy"] for a in self.benchmarks if set_name(a) != "held-out"},
        }
        drawn = {set_name(a): a.manifest.metrics["interval"] for a in self.benchmarks if "drawn" in a.manifest.metrics}
        return {**row, **({"drawn": drawn} if drawn else {}), **per_cost(row)}


def per_cost(row: dict[str, Any]) -> dict[str, float]:
    """Accuracy above chance, in points, per million tokens trained or generated, and per hour."""
    points = 100 * (row["accuracy"] - CHANCE)
    tokens = row["tokens_trained"] + row["tokens_generated"]
    return {
        "points_a_million_tokens": round(points / tokens * 1e6, 2),
        "points_an_hour": round(points / row["seconds"] * 3600, 2),
    }


def labeled_pairs(run: Run, data: Artifact) -> list[FileRef]:
    """All labeled pairs of the run, including those with a human rationale."""
    return [data.ref("labeled.jsonl"), *([data.ref("rationale.jsonl")] if run.settings.data.rationale else [])]


def preference_examples(run: Run, name: str, pairs: Sequence[FileRef], orders: Sequence[str] = ORDERS) -> Artifact:
    """A stage that makes training examples without rationales: each labeled pair in these orders."""
    inputs = {f"pairs-{i}": ref for i, ref in enumerate(pairs)}

    def body(context: Context) -> Outcome:
        labels: Counter[str] = Counter()
        with (context.work / "examples.jsonl").open("w", encoding="utf-8") as stream:
            for example in _examples(map(context.file, inputs), orders):
                labels[example["label"]] += 1
                stream.write(json_line(example))
        n = labels.total()
        return Outcome(Counts(n, n), {"label_balance": dict(sorted(labels.items()))})

    return run.find_or_make(name, "examples", {"orders": list(orders)}, inputs, body)


def _examples(files: Iterable[Path], orders: Sequence[str]) -> Iterator[dict[str, Any]]:
    for file in files:
        for row in read_jsonl(file):
            yield from (example_of(row, order, "") for order in orders)


def response_pairs(run: Run, name: str, batches: Sequence[FileRef]) -> Artifact:
    """A stage that joins several files of unlabeled pairs into one for pre-training."""
    inputs = {f"batch-{i}": ref for i, ref in enumerate(batches)}

    def body(context: Context) -> Outcome:
        n = 0
        with (context.work / "examples.jsonl").open("w", encoding="utf-8") as stream:
            for role in inputs:
                for row in read_jsonl(context.file(role)):
                    n += 1
                    stream.write(json_line(row))
        return Outcome(Counts(n, n))

    return run.find_or_make(name, "examples", {}, inputs, body)


# ---- the three methods ------------------------------------------------------------------------------------------------


def discriminative(run: Run, optimization: Optimization, pairs: Sequence[FileRef], sets: Sequence[Artifact]) -> Method:
    """A model that scores each response on its own, trained with the Bradley-Terry loss."""
    examples = preference_examples(run, "discriminative/examples", pairs, ORDERS[:1])
    spec = TrainingSpec("discriminative/judge", "scalar", examples.ref("examples.jsonl"), optimization)
    judge = train(run, spec, run.settings.models.judge_base)
    return _measured(run, "discriminative", SCALAR, (judge,), sets)


def label_only(run: Run, baselines: BaselineSettings, pairs: Sequence[FileRef], sets: Sequence[Artifact]) -> Method:
    """A generative judge that learns to write the label alone (Eq. 1)."""
    label_run = replace(run, settings=run.settings.with_label_judge(baselines.label_prompt, "vocabulary"))
    examples = preference_examples(label_run, "label-only/examples", pairs)
    spec = TrainingSpec("label-only/judge", "judge", examples.ref("examples.jsonl"), baselines.label_only)
    judge = train(label_run, spec, run.settings.models.judge_base)
    return _measured(label_run, "label-only", baselines.label_prompt, (judge,), sets)


def gram(
    run: Run,
    baselines: BaselineSettings,
    pairs: Sequence[FileRef],
    batches: Sequence[FileRef],
    sets: Sequence[Artifact],
) -> Method:
    """GRAM (METHOD 0): pre-trained on the responses of the unlabeled pairs, then fine-tuned with label smoothing."""
    label_run = replace(run, settings=run.settings.with_label_judge(baselines.label_prompt, "labels"))
    base: list[Artifact] = []
    if baselines.gram_pretraining is not None and batches:
        responses = response_pairs(label_run, "gram/responses", batches)
        spec = TrainingSpec(
            "gram/pretrained", "pretrained", responses.ref("examples.jsonl"), baselines.gram_pretraining
        )
        base.append(train(label_run, spec, run.settings.models.judge_base))
    examples = preference_examples(label_run, "gram/examples", pairs)
    spec = TrainingSpec("gram/judge", "label-judge", examples.ref("examples.jsonl"), baselines.gram)
    judge = train(label_run, spec, base[0] if base else run.settings.models.judge_base)
    return _measured(label_run, "gram", baselines.label_prompt, (*base, judge), sets)


def _measured(run: Run, name: str, prompt: str, stages: tuple[Artifact, ...], sets: Sequence[Artifact]) -> Method:
    """The method whose judge is the last of these stages."""
    settings = run.settings
    query = query_for(settings.benchmarks, prompt, settings.models, settings.reply_tokens, run.seed)
    return Method(name, stages, tuple(benchmark(run, None, stages[-1], played, query, place=name) for played in sets))


def of_rounds(run: Run, name: str, last: int) -> Method:
    """The run's own judge of round `last` as a method; its cost is all trainings, proofs and votes that led to it."""
    stages = [
        a
        for a in run.finished_stages()
        if a.manifest.name in _BEFORE_ROUNDS
        or (
            a.manifest.kind in (*_TRAININGS, *_GENERATIONS)
            and a.manifest.round is not None
            and a.manifest.round <= last
        )
    ]
    games = [a for a in run.finished_stages() if a.manifest.round == last and a.manifest.kind.startswith("benchmark")]
    return Method(name, tuple(stages), tuple(games))
