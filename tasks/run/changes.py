"""What a changed setting will cost: which finished stages will be redone, and why, before anything is started."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from data.store.artifacts import Artifact, Input, Manifest, NoSuchFileError, Outcome, Stage, StageError
from tasks.run.stage import Context, Run, stage_of

_LONGEST = 40


@dataclass
class _Change:
    """A stage that is redone for a reason of its own, and the stages that are redone because of it.

    If not `certain`, the others are redone only if a row that had failed succeeds.
    """

    why: str
    certain: bool = True
    redone: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        if self.certain:
            return f"{self.redone[0]}: {self.why}, will redo: {', '.join(self.redone)}"
        follow = f"; if one succeeds, will redo: {', '.join(self.redone[1:])}" if self.redone[1:] else ""
        return f"{self.redone[0]}: {self.why}{follow}"


class _NothingMore(Exception):
    """Raised at the first stage that was never made: everything after it is new."""


@dataclass
class _Rehearsal(Run):
    """Goes through a run's finished stages without making any. What depends on a stage to be redone is found by hash."""

    changes: list[_Change] = field(default_factory=list)
    causes: dict[str, list[_Change]] = field(default_factory=dict)

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
        stage = stage_of(name, kind, config, inputs, round, version)
        found = self.store.peek(stage)
        in_place = self.store.in_place(name)
        if found is None and in_place is None:
            raise _NothingMore
        artifact = found or in_place
        assert artifact is not None
        causes = list(self._causes(stage.inputs))
        if not any(cause.certain for cause in causes):
            own = None
            if found is None:
                assert in_place is not None
                own = _Change(", ".join(_differences(in_place.manifest, stage)))
            elif self.has_rows_to_try_again(artifact.manifest):
                own = _Change(_failed_rows(artifact.manifest), certain=False)
            if own is not None:
                self.changes.append(own)
                causes.append(own)
        for change in causes:
            change.redone.append(name)
        if causes:
            hashes = [artifact.content, *(str(facts["sha256"]) for facts in artifact.manifest.files.values())]
            self.causes |= {made: causes for made in hashes}
        self.finished.append(artifact)
        return artifact

    def _causes(self, inputs: Mapping[str, str]) -> Iterator[_Change]:
        seen: list[_Change] = []
        for content in inputs.values():
            for change in self.causes.get(content, ()):
                if change not in seen:
                    seen.append(change)
                    yield change


def announce(run: Run, algorithm: Callable[[Run], object], on_change: str, say: Callable[[str], None]) -> None:
    """Reports which finished stages of the run will be redone, and why.

    Raises StageError if there are any and `on_change` is "refuse".
    """
    rehearsal = _Rehearsal(run.store, run.settings, run.seed, retry_failed=run.retry_failed)
    try:
        algorithm(rehearsal)
    except _NothingMore:
        pass
    except NoSuchFileError:
        # A later stage reads a file that will exist once a stage has been redone, such as another round's batch.
        if not rehearsal.changes:
            raise
    for line in map(str, rehearsal.changes):
        say(line)
    refused = [change for change in rehearsal.changes if change.certain]
    if refused and on_change == "refuse":
        lines = "\n".join(f"  {change}" for change in refused)
        raise StageError(
            f"the run {run.store.run_name!r} was started with other settings or data, and on_change is 'refuse':\n{lines}\n"
            "Set on_change='redo' to redo these stages, or use another run_name"
        )


def _failed_rows(manifest: Manifest) -> str:
    counts = manifest.counts
    return f"{sum(counts.failed.values())} of {counts.rows_in} rows failed and will be retried"


def _differences(made: Manifest, wanted: Stage) -> list[str]:
    """How a stage differs from the one that was made: settings, inputs, or the version of its implementation."""
    before, after = _flat(made.config), _flat(wanted.config)
    found = [
        f"{name} {_shown(before.get(name))} → {_shown(after.get(name))}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
    inputs = {name for name in made.inputs.keys() | wanted.inputs.keys()}
    found += [
        f"input {name} has changed" for name in sorted(inputs) if made.inputs.get(name) != wanted.inputs.get(name)
    ]
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


def _shown(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
