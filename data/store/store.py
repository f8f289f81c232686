"""Where a run's stages are stored. The disk decides: a directory with a valid manifest is a finished stage, nothing else is.

    runs/demo/                         the run folder, ``<store>/<run name>``
      round-1/labels/                  one stage's artifact
        manifest.json                  written last: its existence means done
        labels.jsonl  dropped.jsonl    its output
      .work/round-1--labels-3f0c…/     a stage in progress; resumed by its key
      .stale/…                         artifacts whose key is no longer current; moved back if it becomes current again
      .damaged/…                       artifacts with damaged files; their stages are redone
      .encoded/…                       token ids of training examples, for the next round; removed when the run has ended
      metrics.jsonl  report.html

A stage's key is the sha256 over what determines its content: its kind and version, the settings it reads, and the
content hashes of its inputs. The same key in another run of the same store is the same artifact: its files are linked
instead of recreated.

The store may be a URL, such as ``s3://bucket/runs``: then the run folder is a copy of what is there, see `data.store.remote`.

Files whose names begin with a dot are a stage's own notes while it is in progress, and not part of its artifact.
"""

from __future__ import annotations

import contextlib
import resource
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path

from data.files import StoreError, content_hash, flush, link_file, sha256_file, write_json
from data.store.artifacts import (
    BEGUN,
    EARLIER,
    FORMAT,
    MANIFEST,
    SCRATCH,
    SHARDS,
    STALE,
    Artifact,
    Manifest,
    Outcome,
    Stage,
    manifests_under,
)
from data.store.run_folder import RunFolder, Say, log
from data.store.worked import Attempt


class RunStore(RunFolder):
    """The artifacts of one run: found by their keys, made, set aside, retired."""

    def __init__(self, root: str | Path, run_name: str) -> None:
        super().__init__(root, run_name)
        self._elsewhere_read: dict[str, bytes] | None = None

    # ---- looking -------------------------------------------------------------------------------------------------------------

    def find(self, stage: Stage, say: Say = log.warning) -> Artifact | None:
        """The artifact with this stage's key: in its place, set aside earlier, or from another run of this store.

        Local files are compared with their hashes, remote ones with their sizes. A damaged artifact is moved aside, and `say`
        reports the files; until it is made again, only the same content replaces it: another one with its key can lack rows.
        """
        here, earlier = self.path / stage.name, self.work_dir(stage) / EARLIER
        found = self._with_key(here, stage.key)
        if found is not None and (damage := self._damage(found)):
            self._move_damaged(stage, found, damage, say)
        elif found is not None:
            return replace(found, reused=True)
        content = Manifest.load(earlier).content if earlier.exists() else None
        aside = self.path / STALE / _flat(stage)
        if (found := self._with_key(aside, stage.key, content)) is not None and not self._damage(found):
            self._set_aside(here)
            self._move(aside, here)
            return replace(self._adopted(stage, here, None), taken_from=STALE)
        for other in self._elsewhere(stage.key, content):
            self._set_aside(here)
            self._copy(other, here, self.work_dir(stage))
            there = other.relative_to(self.root)
            return replace(self._adopted(stage, here, there.as_posix()), taken_from=there.parts[0])
        return None

    def in_place(self, name: str) -> Artifact | None:
        """The finished artifact in the place of a stage, whatever its key."""
        return self._look(self.path / name)

    def names_in_place(self) -> set[str]:
        """The names of all stages that stand finished in their places, whatever their keys."""
        if self.remote is not None:
            manifests = [Path(name) for name in self.remote.sizes(self.run_name) if name.endswith(f"/{MANIFEST}")]
        else:
            manifests = [path.relative_to(self.path) for path in manifests_under(self.path)]
        return {path.parent.as_posix() for path in manifests if not any(part.startswith(".") for part in path.parts)}

    def peek(self, stage: Stage) -> Artifact | None:
        """Like `find`, but nothing is moved, and damage in this run is not looked for."""
        places = {self.path / stage.name: "", self.path / STALE / _flat(stage): STALE}
        found = ((self._with_key(path, stage.key), origin) for path, origin in places.items())
        others = ((self._look(path), path.relative_to(self.root).parts[0]) for path in self._elsewhere(stage.key))
        return next((replace(one, taken_from=origin) for one, origin in chain(found, others) if one is not None), None)

    def _with_key(self, path: Path, key: str, content: str | None = None) -> Artifact | None:
        found = self._look(path)
        fits = found is not None and found.manifest.key == key and content in (None, found.manifest.content)
        return found if fits else None

    def _elsewhere(self, key: str, content: str | None = None) -> Iterator[Path]:
        """Artifacts with this key, and this content if one is given, in the other runs of the store."""
        for path in sorted(self._other_manifests(key)):
            # Damage in another run is that run's problem: this one makes its own artifact.
            with contextlib.suppress(StoreError):
                found = self._with_key(path.parent, key, content)
                if found is not None and not self._damage(found):
                    yield path.parent

    def _other_manifests(self, key: str) -> Iterator[Path]:
        """Manifests in other runs that contain this key as text: parsing a few hundred of them as JSON would be slow."""
        if self.remote is None:
            for path in manifests_under(self.root):
                with contextlib.suppress(FileNotFoundError):
                    if self._is_others(path.relative_to(self.root)) and key in path.read_text(encoding="utf-8"):
                        yield path
            return
        if self._elsewhere_read is None:
            names = [name for name in self.remote.sizes("") if name.endswith(f"/{MANIFEST}")]
            others = [name for name in names if self._is_others(Path(name))]
            self._elsewhere_read = {name: self.remote.read(name) or b"" for name in others}
        yield from (self.root / name for name, content in self._elsewhere_read.items() if key.encode() in content)

    def _is_others(self, manifest: Path) -> bool:
        return manifest.parts[0] != self.run_name and not any(part.startswith(".") for part in manifest.parts)

    # ---- making --------------------------------------------------------------------------------------------------------------

    def run(
        self,
        stage: Stage,
        body: Callable[[Path], Outcome],
        software: Mapping[str, str] | None = None,
        take_up_again: Callable[[Manifest], bool] = lambda manifest: False,
        say: Say = log.warning,
    ) -> Artifact:
        """The stage's artifact: found by its key, else made by `body`, which fills the directory it is given.

        The directory survives a crash: a later call with the same key passes it to `body` again, with its contents.
        A finished artifact that `take_up_again` picks, or a damaged one, is recreated using its intact shards; its
        manifest is then in the directory as `EARLIER`.
        """
        found = self.find(stage, say)
        work = self.work_dir(stage)
        if found is not None and not take_up_again(found.manifest):
            if self.remote is not None and self.is_under_way(work):  # a crash came between committing and removing
                self.remote.remove_tree(self._relative(work), first=BEGUN)
            return found
        if found is not None:
            self._take_up(found, work)
        elif self._is_committed(work, stage.key):
            # A crash came between writing the manifest and moving the folder to its place.
            return replace(self._put(stage, work), reused=True)
        self.begin(work)
        # Checkpoints are fetched by whoever trains.
        self.refresh(work, lambda name: not name.startswith(SCRATCH))
        attempt = Attempt.begin(work)
        return self._commit(stage, work, body(work), attempt, software or {})

    def work_dir(self, stage: Stage) -> Path:
        return self.path / ".work" / _flat(stage)

    def _commit(
        self, stage: Stage, work: Path, outcome: Outcome, attempt: Attempt, software: Mapping[str, str]
    ) -> Artifact:
        files = {
            file.relative_to(work).as_posix(): {"sha256": sha256_file(file), "bytes": file.stat().st_size}
            for file in sorted(work.rglob("*"))
            if file.is_file() and file != work / MANIFEST and not file.name.startswith(".")
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
            started=attempt.started,
            seconds=attempt.worked_s,
            earlier_s=attempt.earlier_s,
            software=software,
            # Of the flow's own process, so far; engines and trainers report theirs in the stage's metrics.
            peak_memory_mib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        )
        for name in files:  # before the manifest, which vouches for them
            flush(work / name)
        self._check_lease()
        write_json(work / MANIFEST, asdict(manifest))
        return self._put(stage, work)

    def _is_committed(self, work: Path, key: str) -> bool:
        """Whether a work folder holds a complete artifact that just has not been moved to its place yet."""
        file = work / MANIFEST
        manifest = Manifest.load(file) if file.is_file() else None
        return manifest is not None and manifest.key == key and not Artifact(work, manifest).damage()

    def _put(self, stage: Stage, work: Path) -> Artifact:
        """Moves a finished artifact to its place; what was there is set aside."""
        for note in filter(Path.is_file, work.rglob(".*")):
            note.unlink(missing_ok=True)
        target = self.path / stage.name
        self._set_aside(target)
        if self.remote is not None:
            # The manifest goes last, after a check: an upload of hours may have outlived the lease.
            self.remote.send_tree(work, self._relative(target), before_last=self._check_lease)
        target.parent.mkdir(parents=True, exist_ok=True)
        work.rename(target)
        flush(target.parent)
        if self.remote is not None:
            self.remote.remove_tree(self._relative(work), first=BEGUN)
        made = self._look(target)
        assert made is not None
        return made

    def _adopted(self, stage: Stage, path: Path, reused_from: str | None) -> Artifact:
        manifest = replace(Manifest.load(path / MANIFEST), name=stage.name, round=stage.round, reused_from=reused_from)
        write_json(path / MANIFEST, asdict(manifest))
        self.share(path / MANIFEST)
        found = self._look(path)
        assert found is not None
        return replace(found, reused=True)

    def _take_up(self, found: Artifact, work: Path, damage: Mapping[str, str] = {}) -> None:
        """Puts the intact shards of an artifact, and its manifest, into the folder where it is recreated."""
        if (work / EARLIER).exists():
            return  # an earlier attempt to recreate it was interrupted
        shutil.rmtree(work, ignore_errors=True)
        self.begin(work)
        for name in found.manifest.files:
            if name.startswith(SHARDS) and name not in damage and name not in found.manifest.retired:
                link_file(found.file(name), work / name)
        write_json(work / EARLIER, asdict(found.manifest))

    def _move_damaged(self, stage: Stage, found: Artifact, damage: Mapping[str, str], say: Say) -> None:
        aside = self.path / ".damaged" / f"{_flat(stage)}-{time.time_ns()}"
        for name, what in damage.items():
            where = f"{self.shown(found.path / name)} {what}"
            say(f"{where}; {stage.name} is moved aside to {self.shown(aside)} and redone")
        self._take_up(found, self.work_dir(stage), damage)
        self._move(found.path, aside)

    # ---- saving space --------------------------------------------------------------------------------------------------------

    def retire(self, artifact: Artifact, names: Iterable[str]) -> int:
        """Removes files of a finished stage, which stays valid; returns the number of bytes freed."""
        self._check_lease()
        # Read again: what was retired when the artifact was looked up may have been restored since.
        manifest = Manifest.load(artifact.path / MANIFEST)
        new = [name for name in names if name not in manifest.retired]
        retired = [*manifest.retired, *new]
        if new:
            write_json(artifact.path / MANIFEST, asdict(replace(manifest, retired=retired)))
            self.share(artifact.path / MANIFEST)
        # Also those of an earlier call that crashed after writing the manifest.
        for name in retired:
            (artifact.path / name).unlink(missing_ok=True)
        if self.remote is not None and retired:
            folder = self._relative(artifact.path)
            self.remote.remove(f"{folder}/{name}" for name in self.remote.sizes(folder) if name in retired)
        return sum(int(manifest.files[name]["bytes"]) for name in new)

    def restore(self, artifact: Artifact, work: Path) -> Artifact:
        """Puts retired files that have been recreated in `work` back into their artifact.

        They may differ slightly from the originals, because a GPU's order of additions varies: the manifest gets their
        hashes but keeps the content hash by which downstream stages know it.
        """
        self._check_lease()
        manifest, files = artifact.manifest, dict(artifact.manifest.files)
        for name in manifest.retired:
            files[name] = {"sha256": sha256_file(work / name), "bytes": (work / name).stat().st_size}
            link_file(work / name, artifact.path / name)
            self.share(artifact.path / name)
        write_json(artifact.path / MANIFEST, asdict(replace(manifest, files=files, retired=[])))
        self.share(artifact.path / MANIFEST)
        shutil.rmtree(work)
        if self.remote is not None:
            self.remote.remove_tree(self._relative(work), first=BEGUN)
        found = self._look(artifact.path)
        assert found is not None
        return found


def _flat(stage: Stage) -> str:
    return f"{stage.name.replace('/', '--')}-{stage.key[:16]}"
