"""What is removed from a run when a round, or the run, has ended."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from data.store.artifacts import SHARDS, Artifact
from tasks.run.rounds import is_rolled_back
from tasks.run.stage import Run
from tasks.training.job import CACHE


def forget_encoded(run: Run) -> None:
    """Removes the encoded examples of a run without further trainings; those that no round needs any more went before."""
    shutil.rmtree(run.store.path / CACHE, ignore_errors=True)


def retire(run: Run, round: int) -> None:
    """Removes what the settings do not keep, now that a round's judge has been measured."""
    retention, store = run.settings.retention, run.store
    for judge in _other_judges(run, round):
        if retention.judges == "last_and_best":
            store.retire(judge, _weights(judge))
        store.forget_copies(judge, "checkpoint")
    if retention.completions == "last_round":
        for kind in ("calibration-vote", "vote", "prove"):
            for before in range(round):
                made = run.finished_stage(kind, before)
                if made is not None:
                    store.retire(made, [name for name in made.manifest.files if name.startswith(SHARDS)])


def _other_judges(run: Run, round: int) -> Iterator[Artifact]:
    """The judges that are neither this round's nor the best so far, chosen as in `tasks.export`."""
    accuracy = {
        i: float(benchmark.manifest.metrics["accuracy"])
        for i in range(round + 1)
        if (benchmark := run.finished_stage("benchmark", i)) is not None and not is_rolled_back(run, i)
    }
    best = max(accuracy, key=lambda i: (accuracy[i], -i), default=round)
    for i in range(round):
        judge = run.finished_stage("train-judge", i)
        if judge is not None and i != best:
            yield judge


def _weights(judge: Artifact) -> list[str]:
    return [name for name in judge.manifest.files if name.endswith(".safetensors")]
