"""What a changed setting will cost: which finished stages will be replaced, by what and why, before anything is started.

What counts is what stands in place: it is replaced just as much by what was set aside earlier, or by what another run has
made, as by what has to be made now.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from data.store.artifacts import (
    FORMAT,
    STALE,
    Artifact,
    FileRef,
    Input,
    Manifest,
    NoSuchFileError,
    Outcome,
    Stage,
    StageError,
)
from tasks.run.finished import is_finished
from tasks.run.stage import Context, Run, stage_of

REDO = "Set on_change='redo'"
"""What a refusal advises; no other error does."""
_LONGEST = 40
_REPEATS_RESULTS = ("export",)
"""Kinds of stages whose settings repeat the results of other stages: they differ whenever those do."""


@dataclass
class _Change:
    """A stage that is replaced for a reason of its own, and the stages that are replaced because of it.

    `replaced` maps what happens, such as "will redo", to the names of stages. If not `certain`, the others are redone only
    if a row that had failed succeeds.
    """

    stage: str
    why: str
    certain: bool = True
    replaced: dict[str, list[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        said = {
            how: [name for name in names if self.certain or name != self.stage] for how, names in self.replaced.items()
        }
        follows = "; ".join(f"{how}: {', '.join(names)}" for how, names in said.items() if names)
        between = ", " if self.certain else "; if one succeeds, "
        return f"{self.stage}: {self.why}{between}{follows}" if follows else f"{self.stage}: {self.why}"


class _NothingMore(Exception):
    """Raised where nothing more can be said: everything after it is new, or depends on what has yet to be made."""


class _Unknown:
    """Stands for what is only known of a stage once it is made."""

    def __getattr__(self, name: str) -> Any:
        raise _NothingMore

    def __getitem__(self, key: object) -> Any:
        raise _NothingMore


@dataclass(frozen=True)
class _Expected(Artifact):
    """A stage that will be made, or made again: it may have files that do not exist yet."""

    def ref(self, name: str) -> FileRef:
        try:
            return super().ref(name)
        except (NoSuchFileError, _NothingMore):
            return FileRef(self.path / name, self.content)


def _never_made(stage: Stage, path: Path) -> _Expected:
    unknown = cast("Any", _Unknown())
    manifest = Manifest(
        FORMAT, stage.name, stage.kind, stage.version, stage.round, stage.key, stage.config, stage.inputs,
        unknown, f"{stage.name}, not made yet", unknown, unknown, 0.0, 0.0, {},
    )  # fmt: skip
    return _Expected(path, manifest)


@dataclass
class _Rehearsal(Run):
    """Goes through a run's stages without making any.

    `unknown` has the content hashes that stand for what will only be known once it is made, `causes` the changes that each
    content hash depends on, `left` the finished stages that have not been gone through yet, and `new` those that the run
    does not have.
    """

    changes: list[_Change] = field(default_factory=list)
    causes: dict[str, list[_Change]] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    left: set[str] = field(default_factory=set)
    new: list[str] = field(default_factory=list)

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
        passed = next((a for a in self.finished if a.manifest.name == name), None)
        if passed is not None:  # visited a second time: its changes are known
            return passed
        self.left.discard(name)
        artifact = self._look_at(stage_of(name, kind, config, inputs, round, version))
        self.finished.append(artifact)
        return artifact

    def _look_at(self, stage: Stage) -> Artifact:
        """The stage as the run will have it, as far as that is known; notes what it replaces, and why."""
        in_place = self.store.in_place(stage.name)
        found = None if self.unknown.intersection(stage.inputs.values()) else self.store.peek(stage)
        causes = _each_once(change for content in stage.inputs.values() for change in self.causes.get(content, ()))
        if in_place is None:
            self.new.append(stage.name)
        if found is None and in_place is None:
            if not self.left:
                raise _NothingMore
            new = _never_made(stage, self.store.path / stage.name)
            self._remember([new.content], causes, known=False)
            return new
        stays = found is not None and not found.taken_from
        if stays:  # a change before it has led to the same content
            causes = [change for change in causes if not change.certain]
        elif in_place is not None:
            causes += self._own(stage, in_place.manifest, causes)
        if found is not None and self.has_rows_to_try_again(found.manifest):
            causes.append(
                self._noted(_Change(stage.name, f"{_failed_rows(found.manifest)} and will be retried", certain=False))
            )
        for change in causes:
            if not change.certain or in_place is not None:
                how = "will redo" if found is None or not change.certain else _taken(found)
                change.replaced.setdefault(how, []).append(stage.name)
        made = found or in_place
        assert made is not None
        files = made.manifest.files.values()
        self._remember([made.content, *(str(facts["sha256"]) for facts in files)], causes, known=found is not None)
        return found or _Expected(made.path, made.manifest, fetch=made.fetch)

    def _own(self, stage: Stage, in_place: Manifest, causes: Sequence[_Change]) -> list[_Change]:
        """The stage's own reason to be replaced, if the changes before it do not say it already."""
        explained = any(change.certain for change in causes)
        if explained and stage.kind in _REPEATS_RESULTS:
            return []
        why = ", ".join(_differences(in_place, stage, with_inputs=not explained))
        if not why:
            return []
        said = next((change for change in self.changes if change.why == why), None)
        if said is not None:
            return [] if said in causes else [said]
        return [self._noted(_Change(stage.name, why))]

    def _noted(self, change: _Change) -> _Change:
        self.changes.append(change)
        return change

    def _remember(self, contents: Sequence[str], causes: list[_Change], known: bool) -> None:
        """Notes what these content hashes depend on, for the stages that read them."""
        if causes:
            self.causes |= dict.fromkeys(contents, causes)
        if not known:
            self.unknown |= set(contents)


def _each_once(changes: Iterable[_Change]) -> list[_Change]:
    seen: list[_Change] = []
    for change in changes:
        if not any(change is one for one in seen):
            seen.append(change)
    return seen


def _taken(found: Artifact) -> str:
    return "will take back" if found.taken_from == STALE else f"will take from {found.taken_from}"


def announce(run: Run, algorithm: Callable[[Run], object], on_change: str, say: Callable[[str], None]) -> bool:
    """Reports which finished stages of the run will be replaced, by what and why, now or just before it happens.

    Raises StageError if there are any and `on_change` forbids it. What cannot be known yet is checked before
    each stage of the run is found or made. Returns whether the run was finished before and nothing in it has changed.
    """
    left = run.store.names_in_place()
    if not left:
        return False
    finished = is_finished(run.store)
    refused = _why_refused(run, on_change, finished)
    rehearsal = _Rehearsal(run.store, run.settings, run.seed, retry_failed=run.retry_failed, left=left)
    with contextlib.suppress(_NothingMore):
        algorithm(rehearsal)
    _report(rehearsal.changes, refused, say, rehearsal.new if finished else ())
    announced = {name for change in rehearsal.changes for names in change.replaced.values() for name in names}

    def check(stage: Stage) -> None:
        in_place = run.store.in_place(stage.name)
        if in_place is None or in_place.manifest.key == stage.key or stage.name in announced:
            return
        found = run.store.peek(stage)
        how = "will redo" if found is None else _taken(found)
        why = ", ".join(_differences(in_place.manifest, stage, with_inputs=True))
        _report([_Change(stage.name, why, replaced={how: [stage.name]})], refused, say)

    # What depends on stages that did not exist yet is only known once they do.
    run.before_making = check
    if finished and on_change == "auto":
        _say_failed_rows(run, rehearsal.finished, say)
    return finished and not (rehearsal.changes or rehearsal.unknown or rehearsal.new)


def _why_refused(run: Run, on_change: str, finished: bool) -> str:
    """Why nothing in the run may be replaced; empty if it may."""
    if on_change == "refuse":
        return f"the run {run.store.run_name!r} was started with other settings or data, and on_change is 'refuse'"
    if on_change == "auto" and finished:
        return f"the run {run.store.run_name!r} is finished, and was made with other settings or data"
    return ""


def _say_failed_rows(run: Run, stages: Sequence[Artifact], say: Callable[[str], None]) -> None:
    for manifest in (one.manifest for one in stages):
        if run.has_failed_rows(manifest):
            say(
                f"{manifest.name}: {_failed_rows(manifest)}; they are left alone, because the run is finished: set "
                "on_change='redo' to retry them"
            )


def _report(changes: Sequence[_Change], refused: str, say: Callable[[str], None], new: Sequence[str] = ()) -> None:
    """Says what will be replaced or, if that is `refused` for a reason, raises StageError, which says both.

    `new` are stages that a finished run will have besides: refused as well.
    """
    certain = [change for change in changes if change.certain]
    if not (refused and (certain or new)):
        for line in map(str, changes):
            say(line)
        return
    lines = [*map(str, certain), *([f"will make: {', '.join(new)}"] if new else [])]
    done = "replace these stages (they are set aside, not deleted)" if certain else "add these stages"
    raise StageError("\n  ".join([f"{refused}:", *lines]) + f"\n{REDO} to {done}, or use another run_name")


def _failed_rows(manifest: Manifest) -> str:
    counts = manifest.counts
    return f"{sum(counts.failed.values())} of {counts.rows_in} rows failed"


def _differences(made: Manifest, wanted: Stage, with_inputs: bool) -> list[str]:
    """How a stage differs from the one that was made: settings, inputs, or the version of its implementation."""
    before, after = _flat(made.config), _flat(wanted.config)
    found = [
        _difference(name, before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
    inputs = sorted(made.inputs.keys() | wanted.inputs.keys()) if with_inputs else []
    found += [f"input {name} has changed" for name in inputs if made.inputs.get(name) != wanted.inputs.get(name)]
    if (made.kind, made.version) != (wanted.kind, wanted.version):
        found.append(f"version {made.kind} {made.version} → {wanted.kind} {wanted.version}")
    return found


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _difference(name: str, before: object, after: object) -> str:
    """A setting's two values, if they are short enough to be read: not lists of records, and not hashes."""
    texts = ["none" if value is None else str(value) for value in (before, after)]
    return f"{name} has changed" if max(map(len, texts)) > _LONGEST else f"{name} {texts[0]} → {texts[1]}"
