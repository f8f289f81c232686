"""A finished stage: its key, its files, and the counts that account for every row."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from data.files import StoreError, sha256_file
from data.records import canonical_json

MANIFEST = "manifest.json"
EARLIER = ".earlier.json"
"""The previous manifest of an artifact, in the folder where it is being recreated."""
DONE = ".done"
"""Suffix of the markers for complete parts of a stage in progress; a marker lists the part's files under "files"."""
BEGUN = f".stage{DONE}"
"""Marker in the folder of every stage in progress: workers skip a stage without it, because it has already ended."""
SCRATCH = "scratch.tmp"
"""The folder of a stage's caches and checkpoints while it is in progress."""
STALE = ".stale"
"""The folder of what has been set aside because its key is no longer current."""
SHARDS = "shards-"
"""Prefix of folders whose files are each valid on their own, whatever the state of the others."""
WARNINGS = "warnings"
"""The metric with what log, UI and report must say loudly of a finished stage: a list of texts; absent if there is nothing."""
FORMAT = 1
"""Version of the manifest's layout; a manifest of another version is rejected."""


class StageError(RuntimeError):
    """A stage that must not continue. The message states what was seen and what to change."""


@dataclass(frozen=True)
class Counts:
    """What became of every row given to a stage. `dropped` and `failed` map a reason to a number of rows."""

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

    def warning(self, lines: Sequence[str]) -> Outcome:
        """The same outcome with these lines added to what must be said loudly."""
        if not lines:
            return self
        return replace(self, metrics={**self.metrics, WARNINGS: [*self.metrics.get(WARNINGS, ()), *lines]})


@dataclass(frozen=True)
class Manifest:
    """What is known about a finished stage. `files` maps a relative path to its sha256 and size in bytes.

    `retired` names those that were removed to save space: the stage remains valid for downstream stages. `seconds` is the
    working time of all attempts; of those, `earlier_s` were before the last one, which began at `started`.
    """

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
    retired: Sequence[str] = ()
    reused_from: str | None = None
    earlier_s: float = 0.0

    @property
    def warnings(self) -> list[str]:
        """What must be said loudly of this stage."""
        return list(self.metrics.get(WARNINGS, ()))

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Raises StoreError if it is not a manifest, has another format, or names files outside its folder."""
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise StoreError(f"{path} is not JSON: {error}; remove {path.parent} to have its stage redone") from error
        if raw.get("format") != FORMAT:
            raise StoreError(
                f"{path}: manifest format {raw.get('format')!r}, this software reads {FORMAT}: "
                f"it was written by another version ({raw.get('software')})"
            )
        outside = [name for name in raw["files"] if Path(name).is_absolute() or ".." in Path(name).parts]
        if outside:
            raise StoreError(f"{path} names files outside its folder: {outside}")
        return cls(**{**raw, "counts": Counts(**raw["counts"])})


class NoSuchFileError(StoreError):
    """An artifact does not have the requested file."""


class Input(Protocol):
    """What a stage reads: an `Artifact`, a `FileRef`, or something that no stage produced, such as a base model."""

    @property
    def content(self) -> str:
        """Its identity in keys; for files, a hash of their content."""
        ...


@dataclass(frozen=True)
class FileRef:
    """One file of an artifact: its location, and the hash that goes into the keys of the stages that read it."""

    location: Path
    sha256: str
    fetch: Callable[[], object] = field(default=lambda: None, compare=False)

    @property
    def path(self) -> Path:
        """The file on this machine, fetched if necessary."""
        self.fetch()
        return self.location

    @property
    def content(self) -> str:
        return self.sha256


@dataclass(frozen=True)
class Artifact:
    """A finished stage: its directory and its manifest. `reused` means that this run did not have to make it.

    `taken_from` says where it was instead of in its place: set aside (`STALE`), or in the run of this name. `fetch` brings
    one of its files to this machine if the store is remote.
    """

    path: Path
    manifest: Manifest
    reused: bool = False
    taken_from: str = ""
    fetch: Callable[[str], object] = field(default=lambda name: None, compare=False)

    def file(self, name: str) -> Path:
        """The path of one of its files. Raises StoreError if the manifest does not list it."""
        ref = self.ref(name)
        return ref.path

    def folder(self, name: str) -> Path:
        """The path of one of its folders, with all its files. Raises StoreError if the manifest lists none."""
        inside = [file for file in self.manifest.files if file.startswith(f"{name}/")]
        if not inside:
            raise StoreError(f"{self.path} has no folder {name!r}; it has {', '.join(self.manifest.files)}")
        for file in inside:
            self.fetch(file)
        return self.path / name

    def ref(self, name: str) -> FileRef:
        """One of its files with its content hash, for a stage that reads only that one; it is fetched when it is read."""
        if name not in self.manifest.files:
            raise NoSuchFileError(f"{self.path} has no file {name!r}; it has {', '.join(self.manifest.files)}")
        return FileRef(self.path / name, str(self.manifest.files[name]["sha256"]), lambda: self.fetch(name))

    @property
    def content(self) -> str:
        return self.manifest.content

    def damage(self) -> dict[str, str]:
        """The damaged files and what is wrong with each: missing, or of another size or content than was written."""
        found: dict[str, str] = {}
        for name, facts in self.manifest.files.items():
            if name in self.manifest.retired:
                continue
            file = self.path / name
            if not file.is_file():
                found[name] = "is missing"
            elif file.stat().st_size != facts["bytes"]:
                found[name] = f"is {file.stat().st_size} bytes long but was written with {facts['bytes']}"
            elif sha256_file(file) != facts["sha256"]:
                found[name] = "is not what was written (its sha256 differs)"
        return found


@dataclass(frozen=True)
class Stage:
    """A stage to be run. `name` is its place in the run folder, `kind` its name in metrics and the UI.

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


def manifests_under(folder: Path) -> Iterator[Path]:
    """The manifests in a folder, except those of stages in progress, whose folders come and go during the search."""
    for inside, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if MANIFEST in files:
            yield Path(inside) / MANIFEST
