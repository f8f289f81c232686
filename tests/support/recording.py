"""A run that notes which files the body of each stage opens, and holds them against the inputs in the stage's key."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from data.sources.rows import expand_path, local_files
from data.sources.sources import Published
from data.store.artifacts import Artifact, FileRef, Input, Outcome
from tasks.generation.local import GenerationStats
from tasks.generation.shards import GenerationJob
from tasks.model.location import Checkpoint
from tasks.run.stage import Context, Run
from tasks.training.job import CACHE, TrainingJob

_recordings: list[set[Path]] = []


def _on_event(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _recordings and isinstance(arguments[0], str | Path):
        _recordings[-1].add(Path(arguments[0]).absolute())


sys.addaudithook(_on_event)  # it cannot be taken off again, and does nothing while nothing is recorded


@contextmanager
def recording() -> Iterator[set[Path]]:
    """Collects the files that this process opens."""
    _recordings.append(set())
    try:
        yield _recordings[-1]
    finally:
        _recordings.pop()


@dataclass
class RecordedRun(Run):
    """Counts what is opened under `folder` and is neither the stage's own nor one of its inputs as forgotten."""

    folder: Path = Path("/")
    opened: dict[str, set[Path]] = field(default_factory=dict)
    forgotten: dict[str, list[str]] = field(default_factory=dict)

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
        def recorded(context: Context) -> Outcome:
            with recording() as opened:
                outcome = body(context)
            logs, cache = self.store.path / "logs", self.store.path / CACHE
            seen = {path for path in opened if self.folder in path.parents and path != context.work}
            seen = {path for path in seen if not {context.work, logs, cache} & {*path.parents}}
            self.opened[name] = seen
            undeclared = [path for path in sorted(seen) if not any(_is_of(path, one) for one in inputs.values())]
            if undeclared:
                self.forgotten[name] = [path.relative_to(self.folder).as_posix() for path in undeclared]
            return outcome

        return super().find_or_make(name, kind, config, inputs, recorded, round, version)

    @classmethod
    def of(cls, run: Run, folder: Path) -> RecordedRun:
        """The same run, recorded. What its engine and its trainer are given counts as opened."""
        known = {one.name: getattr(run, one.name) for one in fields(Run)}
        made = cls(**known, folder=folder.absolute())
        made.generator, made.trainer = _noting_generation(run), _noting_training(run)
        return made


def _noting_generation(run: Run) -> Any:
    def generate(job: GenerationJob, *rest: Any) -> GenerationStats:
        _recordings[-1] |= {Path(job.rows).absolute(), Path(job.model).absolute()}
        assert run.generator is not None
        return run.generator(job, *rest)

    return generate


def _noting_training(run: Run) -> Any:
    def train(job: TrainingJob, *rest: Any) -> None:
        read = [job.examples, job.base, *([job.validation] if job.validation else [])]
        _recordings[-1] |= {Path(path).absolute() for path in read}
        assert run.trainer is not None
        run.trainer(job, *rest)

    return train


def _is_of(path: Path, one: Input) -> bool:
    """Whether a file, or the folder of a model, is an input or a part of it."""
    if isinstance(one, FileRef):
        return path == one.location
    if isinstance(one, Artifact):
        return one.path in path.parents
    if isinstance(one, Checkpoint):
        return Path(one.model).absolute() in (path, *path.parents)
    if isinstance(one, Published):
        return str(path) in local_files(expand_path(one.source.path))
    raise AssertionError(f"what is {one!r}?")
