"""A self-training that is stopped in the middle of every stage and started again: over a fake engine, without Prefect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.store.store import RunStore
from flows.config.recipes import load_recipe, with_overrides
from flows.self_train import self_training
from tasks.generation.local import GenerationStats
from tasks.generation.shards import GenerationJob
from tasks.model.chat import ChatEncoder
from tasks.model.engine import Engine
from tasks.report.self_training import write_metrics
from tasks.run.stage import Run
from tasks.training.job import TrainingJob
from tests.chaos.subject import manifests
from tests.conftest import InProcess, rows_of
from tests.support.learning import copies
from tests.support.playing import world_engine
from tests.support.short_run import short_run

ANSWERS = 7


@dataclass
class Stopped:
    """Carries out stages, each of which is stopped once: a training at its beginning, a generation after some answers."""

    inner: Engine
    encoder: ChatEncoder
    stages: list[str] = field(default_factory=list)
    answers: float = 0

    def train(self, job: TrainingJob, *_: object) -> None:
        if self._stops(job.out):
            raise KeyboardInterrupt
        copies(job)

    def generate(
        self,
        job: GenerationJob,
        log_file: Path,
        on_line: Callable[[str], None],
        on_progress: Callable[[int, int], None],
        say: Callable[[str], None],
    ) -> GenerationStats:
        self.answers = ANSWERS if self._stops(str(Path(job.out).parent)) else float("inf")
        return InProcess(_Stopping(self), self.encoder)(job, log_file, on_line, on_progress, say)

    def _stops(self, work: str) -> bool:
        name = Path(work).name
        if name in self.stages:
            return False
        self.stages.append(name)
        return True


@dataclass
class _Stopping:
    """Stops when enough answers have been given."""

    of: Stopped

    def generate(self, requests: Any, on_answer: Callable[..., Any]) -> None:
        def answered(*answer: Any) -> Any:
            if self.of.answers == 0:
                raise KeyboardInterrupt
            self.of.answers -= 1
            return on_answer(*answer)

        self.of.inner.generate(requests, answered)

    def score(self, *texts: Any) -> list[float]:
        return self.of.inner.score(*texts)


def test_a_run_that_is_stopped_at_every_stage_redoes_nothing_and_ends_as_if_it_had_not_been(
    tmp_path: Path, encoder: ChatEncoder
) -> None:
    """In the end every stage has, byte for byte, the content that it has in the run that nobody disturbed."""
    target = {"data.calibration_share": 0.3, "labels.target_precision": 0.6, "labels.target_confidence": 0.6}
    small = {"rounds.pairs": 8, "generation.shard_rows": 5, "proofs.audit_pairs": 5}
    short = {**short_run(tmp_path / "world"), **target, **small}
    config = with_overrides(load_recipe("demo").model_dump(), short)

    def start(store: Path, generate: Any, train: Any) -> None:
        run = Run(RunStore(store, "run"), config, 0, generator=generate, trainer=train, on_finished=write_metrics)
        self_training(run)
        write_metrics(run, ended=True)

    start(tmp_path / "whole", InProcess(world_engine(encoder), encoder), copies)
    whole = manifests(tmp_path / "whole/run")
    run, stopped = tmp_path / "stopped/run", Stopped(world_engine(encoder), encoder)
    finished: list[set[str]] = []
    ended, before = False, manifests(run)
    while not ended:
        try:
            start(run.parent, stopped.generate, stopped.train)
            ended = True
        except KeyboardInterrupt:
            assert len(finished) < len(whole)
        now = manifests(run)
        assert {name: now[name] for name in before} == before, "a finished stage was made again"
        assert {line["name"] for line in rows_of(run / "metrics.jsonl") if line["reused"]} == before.keys()
        finished.append(set(now))
        before = now
    assert [name.rpartition("-")[0] for name in stopped.stages] == [
        "prover", "round-0--proofs", "round-0--judge", "round-0--benchmark", "round-0--audit-proofs",
        "round-0--judge-proofs", "round-1--calibration-votes", "round-1--votes", "round-1--proofs",
        "round-1--audit-proofs", "round-1--judge-proofs", "round-1--judge", "round-1--benchmark", "round-2--judge",
        "round-2--benchmark",
    ]  # fmt: skip
    assert len(finished) == 1 + len(stopped.stages)
    assert sorted(line["name"] for line in rows_of(run / "metrics.jsonl")) == sorted(now)
    assert {name: made.content for name, made in now.items()} == {name: made.content for name, made in whole.items()}
