"""Where a run's stages live. Disk is the truth: a directory with a valid manifest is a finished stage, nothing else is.

    runs/demo/                         the run folder, ``<store>/<run name>``
      round-1/labels/                  one stage's artifact
        manifest.json                  written last: its existence means done
        labels.jsonl  dropped.jsonl    what it made
      .work/round-1--labels-3f0c…/     a stage under way; taken up again by its key
      .stale/…                         artifacts whose key is no longer the wanted one; taken back if it is again
      metrics.jsonl  report.html

A stage's key is the sha256 over what determines its content: its kind and version, the settings it reads, and the
content hashes of its inputs. The same key in another run of the same store is the same artifact: its files are linked
instead of made again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import resource
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from data.records import canonical_json

MANIFEST = "manifest.json"
FORMAT = 1
"""Version of the manifest's layout; a manifest of a newer one is refused, not guessed at."""

_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class StoreError(RuntimeError):
    """An artifact that cannot be trusted or written."""


class StageError(RuntimeError):
    """A stage that must not go on: what was seen, and what to change."""


@dataclass(frozen=True)
class Counts:
    """Where every row that a stage was given went. `dropped` and `failed` map a reason to a number of rows."""

    rows_in: int
    kept: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        out = self.kept + sum(self.dropped.values()) + sum(self.failed.values())
        if out != self.rows_in:
            raise StoreError(f"rows do not reconcile: {self.rows_in} in, {out} accounted for ({self})")


@dataclass(frozen=True)
class Outcome:
    """What a stage's body reports: its counts, and metrics for the run's tables (JSON values)."""

    counts: Counts
    metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """What is known about a finished stage. `files` maps a relative path to its sha256 and size in bytes."""

    format: int
    name: str
    kind: str
    version: int
    round: int | None
    key: str
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    files: Mapping[str, Mapping[str, Any]]
    content: str
    counts: Counts
    metrics: Mapping[str, Any]
    started: float
    seconds: float
    software: Mapping[str, str]
    peak_memory_mib: float = 0.0
    reused_from: str | None = None

    @classmethod
    def load(cls, path: Path) -> Manifest:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw.get("format") != FORMAT:
            raise StoreError(
                f"{path}: manifest format {raw.get('format')!r}, this software reads {FORMAT}: "
                f"it was written by another version ({raw.get('software')})"
            )
        return cls(**{**raw, "counts": Counts(**raw["counts"])})


@dataclass(frozen=True)
class FileRef:
    """One file of an artifact: where it is, and the hash that goes into the keys of the stages that read it."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Artifact:
    """A finished stage: its directory and its manifest. `reused` says that this run did not have to make it."""

    path: Path
    manifest: Manifest
    reused: bool = False

    def file(self, name: str) -> Path:
        """The path of one of its files. Raises StoreError where the manifest does not list it."""
        if name not in self.manifest.files:
            raise StoreError(f"{self.path} has no file {name!r}; it has {', '.join(self.manifest.files)}")
        return self.path / name

    def ref(self, name: str) -> FileRef:
        """One of its files with its content hash, for a stage that reads only that one."""
        return FileRef(self.file(name), str(self.manifest.files[name]["sha256"]))

    @property
    def content(self) -> str:
        return self.manifest.content


@dataclass(frozen=True)
class Stage:
    """A stage to be run. `name` is its place in the run folder, `kind` what it is called in metrics and the UI.

    `config` holds exactly the settings that it reads; `inputs` maps a role to the content hash of what it reads.
    """

    name: str
    kind: str
    version: int
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    round: int | None = None

    @property
    def key(self) -> str:
        described = {"kind": self.kind, "version": self.version, "config": self.config, "inputs": self.inputs}
        return hashlib.sha256(canonical_json(described).encode()).hexdigest()


class RunStore:
    """The artifacts of one run. Local file systems only; several processes must not write one run at once."""

    def __init__(self, root: str | Path, run_name: str) -> None:
        if not _RUN_NAME.fullmatch(run_name):
            raise StoreError(
                f"run name {run_name!r}: use 1 to 100 letters, digits, dots, dashes and underscores, "
                "starting with a letter or digit"
            )
        self.root = Path(root).expanduser().resolve()
        self.run_name = run_name
        self.path = self.root / run_name

    def lock(self) -> IO[str]:
        """Holds this run for this process until it ends. Raises StoreError, naming the holder, where another has it.

        A lock of this machine's kernel: it does not see a process on another machine that shares the folder.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        stream = (self.path / ".lock").open("a+", encoding="utf-8")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            raise StoreError(
                f"the run {self.run_name!r} is being worked on by {stream.read().strip()}: "
                "wait for it, cancel it, or give another run_name"
            ) from None
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        stream.flush()
        return stream

    def find(self, stage: Stage) -> Artifact | None:
        """The artifact with this stage's key: in its place, set aside earlier, or made by another run of this store."""
        here = self.path / stage.name
        found = self._valid(here, stage.key)
        if found is not None:
            return replace(found, reused=True)
        aside = self.path / ".stale" / _flat(stage)
        if self._valid(aside, stage.key) is not None:
            self._replace(here, aside)
            return self._adopted(stage, here, None)
        for other in self._elsewhere(stage.key):
            work = self.work_dir(stage)
            shutil.rmtree(work, ignore_errors=True)
            link_tree(other, work)
            self._replace(here, work)
            return self._adopted(stage, here, other.relative_to(self.root).as_posix())
        return None

    def run(self, stage: Stage, body: Callable[[Path], Outcome], software: Mapping[str, str] | None = None) -> Artifact:
        """The stage's artifact: found by its key, else made by `body`, which fills the directory it is given.

        The directory outlives a crash: a later call with the same key hands it to `body` again, with what was in it.
        """
        found = self.find(stage)
        if found is not None:
            return found
        work = self.work_dir(stage)
        finished = self._valid(work, stage.key)
        if finished is not None:  # a crash came between the manifest and the move to its place
            self._replace(self.path / stage.name, work)
            return replace(finished, path=self.path / stage.name, reused=True)
        work.mkdir(parents=True, exist_ok=True)
        started = time.time()
        outcome = body(work)
        return self._commit(stage, work, outcome, started, software or {})

    def work_dir(self, stage: Stage) -> Path:
        return self.path / ".work" / _flat(stage)

    def _commit(
        self, stage: Stage, work: Path, outcome: Outcome, started: float, software: Mapping[str, str]
    ) -> Artifact:
        for unfinished in work.rglob(".*.tmp"):  # left by a kill in the middle of a write
            unfinished.unlink()
        files = {
            file.relative_to(work).as_posix(): {"sha256": sha256_file(file), "bytes": file.stat().st_size}
            for file in sorted(work.rglob("*"))
            if file.is_file() and file != work / MANIFEST
        }
        manifest = Manifest(
            format=FORMAT,
            name=stage.name,
            kind=stage.kind,
            version=stage.version,
            round=stage.round,
            key=stage.key,
            config=stage.config,
            inputs=stage.inputs,
            files=files,
            content=content_hash(files),
            counts=outcome.counts,
            metrics=outcome.metrics,
            started=started,
            seconds=round(time.time() - started, 3),
            software=software,
            # Of the flow's own process, so far: that it stays flat is seen from one manifest to the next.
            peak_memory_mib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        )
        write_json(work / MANIFEST, asdict(manifest))
        target = self.path / stage.name
        self._replace(target, work)
        return Artifact(target, manifest)

    def _adopted(self, stage: Stage, path: Path, reused_from: str | None) -> Artifact:
        manifest = replace(Manifest.load(path / MANIFEST), name=stage.name, round=stage.round, reused_from=reused_from)
        write_json(path / MANIFEST, asdict(manifest))
        return Artifact(path, manifest, reused=True)

    def _replace(self, target: Path, new: Path) -> None:
        """Puts `new` in the place of `target`; what was there is set aside under its own key."""
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            name = target.relative_to(self.path).as_posix().replace("/", "--")
            old = Manifest.load(target / MANIFEST).key[:16] if (target / MANIFEST).exists() else f"{time.time_ns()}"
            aside = self.path / ".stale" / f"{name}-{old}"
            aside.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(aside, ignore_errors=True)
            target.rename(aside)
        new.rename(target)

    def _valid(self, path: Path, key: str) -> Artifact | None:
        """The artifact at `path` if it is finished and has this key. Raises StoreError where files of it are damaged."""
        if not (path / MANIFEST).is_file():
            return None
        manifest = Manifest.load(path / MANIFEST)
        if manifest.key != key:
            return None
        for name, facts in manifest.files.items():
            file = path / name
            if not file.is_file() or file.stat().st_size != facts["bytes"]:
                raise StoreError(
                    f"{file} is missing or not {facts['bytes']} bytes long: remove {path} to redo its stage"
                )
        return Artifact(path, manifest)

    def _elsewhere(self, key: str) -> Iterator[Path]:
        """Artifacts with this key in the other runs of the store."""
        for manifest_path in sorted(self.root.glob(f"*/**/{MANIFEST}")):
            parts = manifest_path.relative_to(self.root).parts
            if parts[0] == self.run_name or any(part.startswith(".") for part in parts):
                continue
            # The key is looked for as text first: reading a few hundred manifests as JSON is what costs.
            if key not in manifest_path.read_text(encoding="utf-8"):
                continue
            # Another run's damage is that run's trouble: this one makes its own.
            with contextlib.suppress(StoreError):
                if self._valid(manifest_path.parent, key) is not None:
                    yield manifest_path.parent


def _flat(stage: Stage) -> str:
    return f"{stage.name.replace('/', '--')}-{stage.key[:16]}"


def content_hash(files: Mapping[str, Mapping[str, Any]]) -> str:
    """One hash over the names and hashes of an artifact's files: what the stages after it read in their keys."""
    return hashlib.sha256(canonical_json({name: facts["sha256"] for name, facts in files.items()}).encode()).hexdigest()


def sha256_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_folder(path: Path) -> str:
    """The content hash of a folder that is no artifact, such as a base model on disk."""
    files = {f.relative_to(path).as_posix(): {"sha256": sha256_file(f)} for f in sorted(path.rglob("*")) if f.is_file()}
    return content_hash(files)


def link_tree(source: Path, target: Path, linked: str = "*") -> None:
    """Makes `target` a copy of the folder `source`, by hard links where the file system has them.

    Files that do not match `linked` are really copied, and so is the manifest: it is rewritten in its new place.
    """
    for file in sorted(source.rglob("*")):
        if not file.is_file():
            continue
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if file.name == MANIFEST or not file.match(linked):
            shutil.copy2(file, copy)
            continue
        try:
            os.link(file, copy)
        except OSError:
            shutil.copy2(file, copy)


def write_json(path: Path, value: object) -> None:
    """Writes JSON so that a crash leaves the old file or the new one, never half of it."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Like `write_json`, for text: a temporary file beside it, flushed to disk, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSONL file, one at a time. Raises StoreError with file and line where one is not JSON."""
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise StoreError(f"{path}, line {number}: not JSON ({error})") from error


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Writes rows as JSONL, one at a time, and returns their number. Not atomic: the manifest is what commits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with path.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json_line(row))
            count += 1
    return count


def json_line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
