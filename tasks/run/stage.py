"""How a stage is run: found in the store or made, shown in Prefect's UI if a flow is running, or standalone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data.store.artifacts import EARLIER, Artifact, FileRef, Input, Manifest, Outcome, Stage
from data.store.run_folder import RetiredError
from data.store.store import RunStore
from data.store.worked import note_work
from tasks.generation.local import Generator
from tasks.machine.checkout import software
from tasks.model.location import Checkpoint
from tasks.run.watch import Watch, describe, in_task, open_watch
from tasks.settings import Settings
from tasks.training.job import Trainer


@dataclass
class Run:
    """One run: its store, its seed, and the stages it has gone through so far, in order.

    `retry_failed`: whether failed rows of finished stages are retried, which makes later stages stale. `on_data` is called
    with the run's data and the benchmarks that will be played, as soon as they exist; `before_making` with each stage before
    it is found or made. `generator` and `trainer` replace child processes in tests.
    """

    store: RunStore
    settings: Settings
    seed: int
    generator: Generator | None = None
    trainer: Trainer | None = None
    retry_failed: bool = True
    finished: list[Artifact] = field(default_factory=list)
    on_finished: Callable[[Run], object] = lambda run: None
    on_data: Callable[[Run, Artifact, Sequence[Artifact]], object] = lambda run, data, sets: None
    on_round: Callable[[Run, int], object] = lambda run, round: None
    before_making: Callable[[Stage], object] = lambda stage: None

    def finished_stages(self) -> list[Artifact]:
        """The stages gone through so far, each once, in order."""
        first: dict[str, Artifact] = {}
        for artifact in self.finished:
            # If gone through twice, the first time shows whether it was made.
            first.setdefault(artifact.manifest.name, artifact)
        return list(first.values())

    def finished_stage(self, kind: str, round: int | None = None) -> Artifact | None:
        """The stage of this kind and round, if the run has gone through it."""
        stages = self.finished_stages()
        return next((a for a in stages if a.manifest.kind == kind and a.manifest.round == round), None)

    def warnings(self) -> list[str]:
        """What must be said loudly of the stages gone through so far, each line with the stage's name."""
        return [f"{a.manifest.name}: {line}" for a in self.finished_stages() for line in a.manifest.warnings]

    def find_or_make(
        self,
        name: str,
        kind: str,
        config: Mapping[str, Any],
        inputs: Mapping[str, Input],
        body: Callable[[Context], Outcome],
        round: int | None = None,
        version: int = 1,
    ) -> Artifact:
        """The artifact of one stage: found by its key, else made by `body`.

        `config` and `inputs` are all that its content may depend on: the key is derived from them, and the body reads
        its inputs only from its context.
        """
        stage = stage_of(name, kind, config, inputs, round, version)
        self.before_making(stage)
        artifact = in_task(stage, lambda: self._make(stage, inputs, body))
        if artifact.manifest.retired:
            artifact = replace(artifact, fetch=_Retired(self, stage, inputs, artifact, body).fetch)
        self.finished.append(artifact)
        self.on_finished(self)
        return artifact

    def _make(self, stage: Stage, inputs: Mapping[str, Input], body: Callable[[Context], Outcome]) -> Artifact:
        watch = open_watch(stage.name)
        log_file = self.store.path / "logs" / f"{stage.name.replace('/', '--')}.log"
        log_file.parent.mkdir(parents=True, exist_ok=True)

        def make(work: Path) -> Outcome:
            watch.detail(f"{stage.name}: started, key {stage.key[:16]}")
            return body(Context(self, inputs, work, log_file, watch))

        artifact = self.store.run(stage, make, software(), self.has_rows_to_try_again, watch.warn)
        if log_file.exists():
            self.store.share(log_file)
        watch.done()
        said = describe(artifact)
        (watch.warn if artifact.manifest.warnings else watch.log)(said)
        return artifact

    def has_rows_to_try_again(self, manifest: Manifest) -> bool:
        """Whether rows of a finished stage failed and are to be retried."""
        return self.retry_failed and self.has_failed_rows(manifest)

    def has_failed_rows(self, manifest: Manifest) -> bool:
        """Whether rows of a finished stage failed and could be retried."""
        attempts = manifest.metrics.get("attempts")
        # A retired stage's good rows have been removed: all of them would be redone for the sake of the failed ones.
        if manifest.retired or not manifest.counts.failed:
            return False
        return attempts is not None and attempts < self.settings.generation.max_attempts


def stage_of(
    name: str,
    kind: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, Input],
    round: int | None = None,
    version: int = 1,
) -> Stage:
    """The stage with the content of these inputs in its key."""
    return Stage(name, kind, version, config, {role: read.content for role, read in inputs.items()}, round)


@dataclass
class _Retired:
    """A stage with files that were removed to save space: recreated when the first of them is needed."""

    run: Run
    stage: Stage
    inputs: Mapping[str, Input]
    artifact: Artifact
    body: Callable[[Context], Outcome]

    def fetch(self, name: str) -> None:
        try:
            self.artifact.fetch(name)
        except RetiredError as error:
            store, watch = self.run.store, open_watch(self.stage.name)
            watch.log(f"{error}, but is needed again: redoing {self.stage.name}")
            work = store.work_dir(self.stage)
            store.begin(work)
            for retired in self.artifact.manifest.retired:  # so that shards keep their size
                (work / retired).parent.mkdir(parents=True, exist_ok=True)
            log_file = store.path / "logs" / f"{self.stage.name.replace('/', '--')}.log"
            self.body(Context(self.run, self.inputs, work, log_file, watch))
            self.artifact = store.restore(self.artifact, work)
            self.artifact.fetch(name)


@dataclass(frozen=True)
class Context:
    """What the body of a stage works with: its inputs, its folder, and where its log and progress go.

    What is not among its inputs is not in its key, so a body reads nothing else.
    """

    run: Run
    inputs: Mapping[str, Input]
    work: Path
    log_file: Path
    watch: Watch

    def file(self, role: str) -> Path:
        """The path of an input that is one file."""
        found = self.inputs[role]
        assert isinstance(found, FileRef), f"the input {role!r} is not one file"
        return found.path

    def artifact(self, role: str) -> Artifact:
        """An input that is a whole stage."""
        found = self.inputs[role]
        assert isinstance(found, Artifact), f"the input {role!r} is not a stage"
        return found

    def model(self, role: str) -> str:
        """The folder of an input that is a model, whether made by a stage or not; or the URL of an endpoint."""
        found = self.inputs[role]
        return found.model if isinstance(found, Checkpoint) else str(self.artifact(role).folder("checkpoint"))

    def earlier(self) -> Manifest | None:
        """The manifest of this stage's finished artifact, if some of its rows are being redone."""
        path = self.work / EARLIER
        return Manifest.load(path) if path.exists() else None

    def progress(self, done: int, total: int) -> None:
        """Shows the stage's progress, and saves its finished parts to the store.

        Raises LeaseError if the run has been taken over by another process.
        """
        self.raise_if_lost()
        note_work(self.work)
        self.run.store.keep(self.work)
        self.watch.progress(done, total)

    def raise_if_lost(self) -> None:
        """Raises LeaseError if the run has been taken over by another process."""
        if self.run.store.lease is not None:
            self.run.store.lease.raise_if_lost()
