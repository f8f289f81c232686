"""Where a run's stages live. Disk is the truth: a directory with a valid manifest is a finished stage, nothing else is.

    runs/demo/                         the run folder, ``<store>/<run name>``
      round-1/labels/                  one stage's artifact
        manifest.json                  written last: its existence means done
        labels.jsonl  dropped.jsonl    what it made
      .work/round-1--labels-3f0c…/     a stage under way; taken up again by its key
      .stale/…                         artifacts whose key is no longer the wanted one; taken back if it is again
      .damaged/…                       artifacts with files that are not what was written; their stages are made again
      metrics.jsonl  report.html

A stage's key is the sha256 over what determines its content: its kind and version, the settings it reads, and the
content hashes of its inputs. The same key in another run of the same store is the same artifact: its files are linked
instead of made again.

Files whose names begin with a dot are a stage's own notes while it is under way, and not part of its artifact.
"""

from __future__ import annotations

import contextlib
import logging
import re
import resource
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from data.artifacts import EARLIER, FORMAT, MANIFEST, SHARDS, Artifact, Manifest, Outcome, Stage
from data.files import StoreError, content_hash, link_file, link_tree, sha256_file, write_json
from data.lease import TTL_S, Lease

Say = Callable[[str], None]
"""Where a line that a person must see goes."""

_log = logging.getLogger("gram_r2")
_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class RunStore:
    """The artifacts of one run. Local file systems only; a process that writes it holds it first, see `held`."""

    def __init__(self, root: str | Path, run_name: str) -> None:
        if not _RUN_NAME.fullmatch(run_name):
            raise StoreError(
                f"run name {run_name!r}: use 1 to 100 letters, digits, dots, dashes and underscores, "
                "starting with a letter or digit"
            )
        self.root = Path(root).expanduser().resolve()
        self.run_name = run_name
        self.path = self.root / run_name
        self.lease: Lease | None = None

    @contextlib.contextmanager
    def held(self, say: Say = _log.warning, ttl_s: float = TTL_S) -> Iterator[None]:
        """Holds this run for this process. Raises LeaseError, naming the holder, where another process has it."""
        self.lease = Lease(self.path / ".lease.json", ttl_s, say)
        try:
            yield
        finally:
            self.lease.release()
            self.lease = None

    def find(self, stage: Stage, say: Say = _log.warning) -> Artifact | None:
        """The artifact with this stage's key: in its place, set aside earlier, or made by another run of this store.

        Every file is read and compared with its hash. An artifact with damage is moved aside, and `say` names the files.
        """
        here = self.path / stage.name
        found = self._with_key(here, stage.key)
        if found is not None and (damage := found.damage()):
            self._move_damaged(stage, found, damage, say)
        elif found is not None:
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

    def in_place(self, name: str) -> Artifact | None:
        """The finished artifact in the place of a stage, whatever its key."""
        path = self.path / name
        return Artifact(path, Manifest.load(path / MANIFEST)) if (path / MANIFEST).is_file() else None

    def peek(self, stage: Stage) -> Artifact | None:
        """Like `find`, but nothing is moved and the files are not read."""
        here, aside = self.path / stage.name, self.path / ".stale" / _flat(stage)
        found = self._with_key(here, stage.key) or self._with_key(aside, stage.key)
        return found or next((Artifact(p, Manifest.load(p / MANIFEST)) for p in self._elsewhere(stage.key)), None)

    def run(
        self,
        stage: Stage,
        body: Callable[[Path], Outcome],
        software: Mapping[str, str] | None = None,
        take_up_again: Callable[[Manifest], bool] = lambda manifest: False,
        say: Say = _log.warning,
    ) -> Artifact:
        """The stage's artifact: found by its key, else made by `body`, which fills the directory it is given.

        The directory outlives a crash: a later call with the same key hands it to `body` again, with what was in it.
        A finished artifact that `take_up_again` picks, or one that was damaged, is made again with what is good of its
        shards; its manifest then lies in the directory as `EARLIER`.
        """
        found = self.find(stage, say)
        if found is not None and not take_up_again(found.manifest):
            return found
        work = self.work_dir(stage)
        if found is not None:
            self._take_up(found, work)
        elif (finished := self._valid(work, stage.key)) is not None:
            # A crash came between the manifest and the move to its place.
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
            started=started,
            seconds=round(time.time() - started, 3),
            software=software,
            # Of the flow's own process, so far: that it stays flat is seen from one manifest to the next.
            peak_memory_mib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        )
        if self.lease is not None:
            self.lease.check()
        write_json(work / MANIFEST, asdict(manifest))
        for note in work.rglob(".*"):
            if note.is_file():
                note.unlink()
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

    def _with_key(self, path: Path, key: str) -> Artifact | None:
        """The artifact at `path` if it is finished and has this key."""
        if not (path / MANIFEST).is_file():
            return None
        manifest = Manifest.load(path / MANIFEST)
        return Artifact(path, manifest) if manifest.key == key else None

    def _valid(self, path: Path, key: str) -> Artifact | None:
        """Like `_with_key`, and no file of it is damaged."""
        found = self._with_key(path, key)
        return None if found is None or found.damage() else found

    def _move_damaged(self, stage: Stage, found: Artifact, damage: Mapping[str, str], say: Say) -> None:
        aside = self.path / ".damaged" / f"{_flat(stage)}-{time.time_ns()}"
        for name, what in damage.items():
            say(f"{found.path / name} {what}; {stage.name} is moved aside to {aside} and made again")
        self._take_up(found, self.work_dir(stage), damage)
        aside.parent.mkdir(parents=True, exist_ok=True)
        found.path.rename(aside)

    def _take_up(self, found: Artifact, work: Path, damage: Mapping[str, str] = {}) -> None:
        """Puts the good shards of an artifact, and its manifest, into the folder in which it is made again."""
        if (work / EARLIER).exists():
            return  # an attempt to make it again was under way
        shutil.rmtree(work, ignore_errors=True)
        for name in found.manifest.files:
            if name.startswith(SHARDS) and name not in damage:
                link_file(found.path / name, work / name)
        write_json(work / EARLIER, asdict(found.manifest))

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
