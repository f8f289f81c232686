"""The finished stages of a run as they stand in its folder, for reading only: which file each read, and what it has of a pair."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from data.files import StoreError
from data.store.artifacts import SHARDS, Artifact
from data.store.store import RunStore
from tasks.run.finished import stages_of_finished
from tasks.trust.rows_by_id import Row, RowFile, index_all, index_folder

# Named as in tasks.benchmark, whose stages load Prefect: that takes longer than a trace.
ITEMS, FACTS, GAMES = "items.jsonl", "benchmark.json", "games.jsonl"
EXAMPLES = "examples.jsonl"
_NOT_OF_PAIRS = ("steps.jsonl", "hits.jsonl")


@dataclass(frozen=True)
class Stages:
    """A run's finished stages in the order in which they were made; of a finished run, those of its end. `say` is told what
    takes long.

    `retired` collects the stages of which something was asked that has been removed to save space.
    """

    store: RunStore
    say: Callable[[str], object]
    retired: dict[str, str] = field(default_factory=dict)

    @cached_property
    def all(self) -> list[Artifact]:
        of_run = stages_of_finished(self.store)
        names = (name for name in self.store.names_in_place() if of_run is None or name in of_run)
        found = (self.store.in_place(name) for name in names)
        return sorted(
            (one for one in found if one is not None), key=lambda one: (one.manifest.started, one.manifest.name)
        )

    @cached_property
    def _by_content(self) -> Mapping[str, Artifact]:
        return {one.content: one for one in self.all}

    @cached_property
    def _by_sha256(self) -> Mapping[str, tuple[Artifact, str]]:
        # Of equal files the first: the others are copies, or both are empty.
        files = [(one, name) for one in self.all for name in one.manifest.files]
        return {str(one.manifest.files[name]["sha256"]): (one, name) for one, name in reversed(files)}

    def with_file(self, name: str) -> Iterator[Artifact]:
        """The stages that have a file of this name."""
        return (one for one in self.all if name in one.manifest.files)

    def read(self, stage: Artifact, role: str) -> Artifact | None:
        """The stage that another has read as a whole in this role, if it stands in its place."""
        return self._by_content.get(stage.manifest.inputs.get(role, ""))

    def file_read(self, stage: Artifact, role: str) -> tuple[Artifact, str] | None:
        """The file that a stage has read in this role, and whose it is; of a whole stage, its items."""
        content = stage.manifest.inputs.get(role, "")
        whole = self._by_content.get(content)
        if whole is not None and ITEMS in whole.manifest.files:
            return whole, ITEMS
        return self._by_sha256.get(content)

    def learners(self, stage: Artifact, name: str) -> list[Artifact]:
        """The models that have learned from this file of a stage."""
        sha256 = stage.manifest.files[name]["sha256"]
        return [one for one in self.all if is_training(one) and one.manifest.inputs.get("examples") == sha256]

    def lists(self, stage: Artifact) -> list[str]:
        """The files of a stage that list rows, but for copies of another stage's, such as of data that reviews have joined."""
        files = stage.manifest.files
        return [name for name in files if is_list(name) and self._by_sha256[str(files[name]["sha256"])][0] is stage]

    # ---- rows ----------------------------------------------------------------------------------------------------------------

    @cached_property
    def _folder(self) -> Path:
        return index_folder(self.store.path)

    def row_file(self, stage: Artifact, name: str) -> RowFile:
        """A file of a stage, to look rows up in. Raises StoreError if it has been removed to save space."""
        return RowFile.of(stage.file(name), str(stage.manifest.files[name]["sha256"]), self._folder)

    def index(self) -> None:
        """Indexes all large files with rows of pairs that are not indexed yet; from a store at a URL they are fetched."""
        lists = [(one, name) for one in self.all for name in one.manifest.files if _has_pairs(one, name)]
        missing = [one.manifest.files[name]["bytes"] for one, name in lists if not (one.path / name).exists()]
        if missing and self.store.remote is not None:
            self.say(f"fetching {len(missing)} files of {sum(missing) / 1e9:,.1f} GB from {self.store.url}, once")
        files = [self.row_file(one, name) for one, name in lists]
        index_all(files, self.say)
        if self._folder.parent == self.store.path:  # not those of other runs in the cache
            for old in set(self._folder.glob("*.sqlite")) - {file.index for file in files}:
                old.unlink(missing_ok=True)

    def rows(self, stage: Artifact, name: str, identity: str) -> list[tuple[int, Row]]:
        """The rows with this id in a stage's file, with their numbers from 0; none if it has no such file, or not any more."""
        if name not in stage.manifest.files or self._is_retired(stage, name):
            return []
        return self.row_file(stage, name).rows(identity)

    def row(self, stage: Artifact, name: str, identity: str) -> Row | None:
        """The first row with this id in a stage's file."""
        found = self.rows(stage, name, identity)
        return found[0][1] if found else None

    def generated(self, stage: Artifact, identity: str) -> tuple[Row, Row] | None:
        """The row with this id that a stage has generated for, and what it has generated: a line of its shards.

        None if it has not generated for it, or if its shards have been removed to save space.
        """
        for role in stage.manifest.inputs:
            read = self.file_read(stage, role)
            if read is None or not read[1].endswith(".jsonl"):
                continue
            for number, row in self.rows(*read, identity):
                size = int(stage.manifest.metrics["shard_rows"])
                shard = f"{SHARDS}{size}/{number // size:06d}.jsonl"
                line = self.row(stage, shard, identity)
                if line is not None:
                    return row, line
        return None

    def _is_retired(self, stage: Artifact, name: str) -> bool:
        if name not in stage.manifest.retired:
            return False
        self.retired[stage.manifest.name] = "completions" if name.startswith(SHARDS) else name
        return True


def is_training(stage: Artifact) -> bool:
    return stage.manifest.kind.startswith(("train-", "pretrain"))


def is_list(name: str) -> bool:
    """Whether a stage's file with this name is one of rows, and not a shard or a part of a model."""
    return name.endswith(".jsonl") and "/" not in name


def open_stages(store: RunStore, say: Callable[[str], object] = lambda line: None) -> Stages:
    """A run's finished stages, with their large files indexed. Raises StoreError if there are none."""
    stages = Stages(store, say)
    if not stages.all:
        raise StoreError(f"{store.shown(store.path)} has no finished stage, so there is nothing to trace yet")
    stages.index()
    return stages


def _has_pairs(stage: Artifact, name: str) -> bool:
    return is_list(name) and name not in _NOT_OF_PAIRS and name not in stage.manifest.retired
