"""The folder of one run on this machine, kept in sync with the store if that is at a URL.

`data.store.store` knows what a stage is and when it is done; this module only moves its files.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from data.files import StoreError, inside, link_tree, sha256_file, write_json, write_text
from data.store.artifacts import BEGUN, DONE, MANIFEST, STALE, Artifact, Manifest
from data.store.lease import TTL_S, Lease, LocalFile, RemoteFile
from data.store.remote import Remote, each, is_remote

Say = Callable[[str], None]
"""Receives lines that the user must see."""

log = logging.getLogger("gram_r2")
RUN_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
_RUN_NAME_RULE = "use 1 to 100 letters, digits, dots, dashes and underscores, starting with a letter or digit"


def wrong_run_name(name: str) -> str | None:
    """What is wrong with a run name, which names a folder; None if nothing is."""
    return None if re.fullmatch(RUN_NAME, name) else f"run name {name!r}: {_RUN_NAME_RULE}"


class RetiredError(StoreError):
    """A file that was removed to save space and is needed again."""


class RunFolder:
    """One run's files; a process must hold the run before it writes them, see `held`.

    `root` is a folder, or a URL; `path` is the run folder on this machine.
    """

    def __init__(self, root: str | Path, run_name: str) -> None:
        if problem := wrong_run_name(run_name):
            raise StoreError(problem)
        self.remote = Remote(str(root)) if is_remote(str(root)) else None
        self.root = self.remote.folder if self.remote else Path(root).resolve()
        self.url = self.remote.url if self.remote else str(self.root)
        self.run_name = run_name
        self.path = self.root / run_name
        self.lease: Lease | None = None
        self._parts_kept: dict[Path, int] = {}
        self._parts_seen: dict[Path, str] = {}

    @contextlib.contextmanager
    def held(self, say: Say = log.warning, ttl_s: float = TTL_S) -> Iterator[None]:
        """Holds this run for this process. Raises LeaseError, naming the holder, if another process has it."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.lease = self.lease_on(self.path, say, ttl_s)
        try:
            yield
        finally:
            self.lease.release()
            self.lease = None

    def lease_on(self, folder: Path, say: Say, ttl_s: float = TTL_S, part: str = "") -> Lease:
        """Takes a lease on the run, on a folder of it that exists, or on a part of it. Raises LeaseError if another has it."""
        name = f"{self._relative(folder)}/.lease{part}.json"
        file = RemoteFile(self.remote, name) if self.remote else LocalFile(self.root / name)
        return Lease(file, f"the run {self.run_name!r}", ttl_s, say)

    def _check_lease(self) -> None:
        """Raises LeaseError if the run was taken over from this process: call it before anything irreversible."""
        if self.lease is not None:
            self.lease.check()

    def shown(self, path: Path) -> str:
        """A path of this store as shown to the user."""
        return f"{self.remote.url}/{self._relative(path)}" if self.remote else str(path)

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    # ---- files of the run ----------------------------------------------------------------------------------------------------

    def share(self, path: Path) -> None:
        """Uploads a single file, such as a report, if the store is remote."""
        if self.remote is not None:
            self.remote.send(self._relative(path))

    def bring(self, path: Path) -> None:
        """The opposite of `share`: downloads the file if the store is remote and has it."""
        there = self.remote.read(self._relative(path)) if self.remote is not None else None
        if there is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(there)

    @contextlib.contextmanager
    def _copying(self) -> Iterator[None]:
        """Locks this machine's copies while they change: several workers on it may share them."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".copies.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def bring_all(self, paths: Iterable[str | Path]) -> None:
        """Downloads files and folders of finished stages; copies of what has been replaced since are downloaded again."""
        if self.remote is None:
            return
        with self._copying():
            for path in map(Path, paths):
                owner = next(p for p in path.parents if self.remote.read(f"{self._relative(p)}/{MANIFEST}") is not None)
                found = self._look(owner)
                assert found is not None
                if damage := self._damage(found):  # removes copies that differ from what was written
                    raise StoreError(f"{self.shown(owner)} is damaged: {damage}")
                name = path.relative_to(owner).as_posix()
                found.file(name) if name in found.manifest.files else found.folder(name)

    # ---- parts of a stage in progress ----------------------------------------------------------------------------------------

    def begin(self, work: Path) -> None:
        """Marks a stage's folder as in progress, for the workers that do parts of it."""
        work.mkdir(parents=True, exist_ok=True)
        write_json(work / BEGUN, {"files": []})
        self.keep(work)

    def is_under_way(self, work: Path) -> bool:
        """Whether the stage of this folder is still in progress: a worker may learn of it after it has ended."""
        if self.remote is not None:
            return self.remote.read(self._relative(work / BEGUN)) is not None
        return (work / BEGUN).exists()

    def keep(self, work: Path) -> None:
        """Uploads the complete parts of a stage in progress if the store is remote, for whoever resumes it."""
        if self.remote is None:
            return
        found: dict[Path, int] = {}
        # Folders come and go meanwhile: training removes its old checkpoints.
        with contextlib.suppress(FileNotFoundError):
            found = {marker: marker.stat().st_mtime_ns for marker in work.rglob(f"*{DONE}")}
        for marker, changed in found.items():
            if self._parts_kept.get(marker) != changed:
                with contextlib.suppress(FileNotFoundError):
                    self._send_part(marker)
                    self._parts_kept[marker] = changed
        for marker in [marker for marker in self._parts_kept if work in marker.parents and not marker.exists()]:
            # Only a checkpoint that a later one has replaced, not one whose local copies someone has removed.
            if not marker.name.startswith(".") and not marker.parent.exists() and marker.parent.parent.is_dir():
                self.remote.remove_tree(self._relative(marker.parent), first=marker.name)
            del self._parts_kept[marker]

    def _send_part(self, marker: Path) -> None:
        assert self.remote is not None
        content, there = marker.read_bytes(), self.remote.read(self._relative(marker))
        if content == there:
            return  # another worker on this machine has sent it
        # The local part may be from an earlier attempt that another machine has since continued.
        if there is not None and json.loads(there).get("attempt", 0) > json.loads(content).get("attempt", 0):
            return
        for name in [*json.loads(content)["files"], marker.name]:
            self.remote.send(self._relative(marker.parent / name))

    def refresh(self, work: Path, wanted: Callable[[str], bool] = lambda name: True) -> None:
        """The opposite of `keep`: downloads the wanted parts of a stage in progress that others have finished."""
        if self.remote is None:
            return
        with self._copying():
            found = {work / name: version for name, version in self.remote.versions(self._relative(work)).items()}
            markers = [one for one in found if one.name.endswith(DONE) and wanted(one.relative_to(work).as_posix())]
            new = [marker for marker in markers if self._parts_seen.get(marker) != found[marker]]
            each(lambda marker: self._bring_part(marker, found[marker]), new)

    def _bring_part(self, marker: Path, version: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # a checkpoint that has been replaced meanwhile
            self._bring_files(marker, version)

    def _bring_files(self, marker: Path, version: str) -> None:
        assert self.remote is not None
        there = self.remote.read(self._relative(marker))
        if there is None:
            return
        if not marker.exists() or marker.read_bytes() != there:
            for file in (Path(inside(marker.parent, name)) for name in json.loads(there)["files"]):
                file.unlink(missing_ok=True)
                self.remote.fetch(self._relative(file))
            write_text(marker, there.decode())
        self._parts_seen[marker] = version
        self._parts_kept[marker] = marker.stat().st_mtime_ns

    def forget_ended_work(self) -> None:
        """Removes this machine's copies of stages that are no longer in progress, such as on a worker of the pool train."""
        if self.remote is None:
            return
        with self._copying():
            for work in self.path.glob(".work/*"):
                if not self.is_under_way(work):
                    shutil.rmtree(work, ignore_errors=True)

    # ---- artifacts -----------------------------------------------------------------------------------------------------------

    def _look(self, path: Path) -> Artifact | None:
        """The finished artifact in a folder of this store, if there is one."""
        if self.remote is not None:
            there = self.remote.read(f"{self._relative(path)}/{MANIFEST}")
            if there is None or not (path / MANIFEST).exists() or (path / MANIFEST).read_bytes() != there:
                shutil.rmtree(path, ignore_errors=True)  # a copy of what is no longer there
            if there is None:
                return None
            if not (path / MANIFEST).exists():
                write_text(path / MANIFEST, there.decode())
        if not (path / MANIFEST).is_file():
            return None
        return Artifact(path, Manifest.load(path / MANIFEST), fetch=lambda name: self._fetch(path, name))

    def _damage(self, found: Artifact) -> dict[str, str]:
        """An artifact's damaged files and what is wrong with each. A damaged local copy of a remote file is just removed."""
        if self.remote is None:
            return found.damage()
        sizes, wrong = self.remote.sizes(self._relative(found.path)), {}
        for name, facts in found.manifest.files.items():
            if name in found.manifest.retired:
                continue
            if name not in sizes:
                wrong[name] = "is missing"
            elif sizes[name] != facts["bytes"]:
                wrong[name] = f"is {sizes[name]} bytes long but was written with {facts['bytes']}"
            copy = found.path / name
            if copy.exists() and sha256_file(copy) != facts["sha256"]:
                copy.unlink()
        return wrong

    def _fetch(self, path: Path, name: str) -> None:
        """Downloads a file of an artifact. Raises StoreError if it differs from what was written."""
        if (path / name).exists():
            return
        manifest = Manifest.load(path / MANIFEST)
        if name in manifest.retired:
            raise RetiredError(f"{self.shown(path / name)} was removed to save space")
        if self.remote is None:
            return
        copy = self.remote.fetch(f"{self._relative(path)}/{name}")
        if sha256_file(copy) != manifest.files[name]["sha256"]:
            copy.unlink()
            aside = self.path / ".damaged" / f"{path.name}-{time.time_ns()}"
            shown = self.shown(path / name)
            self._move(path, aside)
            raise StoreError(
                f"{shown} is not what was written (its sha256 differs); {manifest.name} was moved aside to "
                f"{self.shown(aside)}: start the run again to redo it"
            )

    def _set_aside(self, target: Path) -> None:
        """Moves what is in a stage's place to a folder named by its key, where it can be found again."""
        old = self._look(target)
        if old is not None or target.exists():
            name = self._relative(target).removeprefix(f"{self.run_name}/").replace("/", "--")
            self._move(target, self.path / STALE / f"{name}-{old.manifest.key[:16] if old else time.time_ns()}")

    def _move(self, source: Path, target: Path) -> None:
        self._check_lease()
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        if self.remote is not None:
            self.remote.move_tree(self._relative(source), self._relative(target))
        if source.exists():
            source.rename(target)

    def _copy(self, source: Path, target: Path, by: Path) -> None:
        """Makes `target` a copy of an artifact; in a local store by hard links, assembled in the folder `by`."""
        if self.remote is not None:
            self.remote.copy_tree(self._relative(source), self._relative(target))
            self._look(target)
            return
        shutil.rmtree(by, ignore_errors=True)
        link_tree(source, by)
        target.parent.mkdir(parents=True, exist_ok=True)
        by.rename(target)

    def forget_copies(self, artifact: Artifact, folder: str) -> None:
        """Removes this machine's copies of an artifact's folder if the store is remote."""
        if self.remote is not None:
            shutil.rmtree(artifact.path / folder, ignore_errors=True)

    def forget_copies_like(self, path: Path) -> None:
        """Removes this machine's copies of the corresponding folders of other rounds.

        For a worker, which sees a run's models come and go: of the judges, only the one that it has to run is kept.
        """
        if self.remote is None:
            return
        _, *below = path.relative_to(self.path).parts
        if len(below) < 2:  # not in a round's folder
            return
        for copy in self.path.glob(f"*/{'/'.join(below)}"):
            if copy != path:
                shutil.rmtree(copy, ignore_errors=True)
