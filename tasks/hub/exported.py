"""The judge that a run has exported, found by the run's folder or URL, and checked against its manifest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data.files import StoreError
from data.sources.source import HUB
from data.store.artifacts import MANIFEST, Artifact, Manifest
from data.store.remote import is_remote
from data.store.store import RunStore

FINAL = "final"
_TRAINED_ON = ("rationale", "labeled", "unlabeled", "pretraining")


class PushError(ValueError):
    """A judge that cannot be sent: what is wrong, and what to do."""


@dataclass(frozen=True)
class Exported:
    """An exported judge, with all its files on this machine and intact.

    `benchmarks` are its finished benchmarks other than the one on held-out pairs, each with the set's hub name if it has one;
    `datasets` the hub names of the data that the run read for training. Both are empty for a ``final/`` without its run.
    """

    final: Artifact
    benchmarks: tuple[tuple[Artifact, str | None], ...] = ()
    datasets: tuple[str, ...] = ()

    @property
    def run_name(self) -> str:
        return str(self.final.manifest.config["card"]["run"])

    @property
    def accuracy(self) -> float:
        """On held-out pairs."""
        return float(self.final.manifest.metrics["accuracy"])


def find_exported(run: str | Path) -> Exported:
    """The judge of a run: its folder or URL, or the folder ``final/`` alone.

    From a store at a URL, the files are downloaded into its cache. Raises PushError if there is no such run, if its export is
    missing or not finished, or if a file is not what was written.
    """
    folder = Path(run)
    if not is_remote(str(run)) and (folder / MANIFEST).is_file():
        return Exported(_checked(Artifact(folder.resolve(), _manifest(folder))))
    found = _run_store(str(run))
    final = _final_of(found)
    benchmarks = tuple((played, _hub_name_of(found, played)) for played in _benchmarks(found, final))
    return Exported(_checked(_brought(found, final)), benchmarks, tuple(dict.fromkeys(_datasets(found))))


def _run_store(run: str) -> RunStore:
    try:
        if is_remote(run):
            root, _, name = run.rstrip("/").rpartition("/")
            return RunStore(root, name)
        folder = Path(run).resolve()
        return RunStore(folder.parent, folder.name)
    except (StoreError, ValueError) as error:
        raise PushError(str(error)) from error


def _final_of(store: RunStore) -> Artifact:
    where = store.shown(store.path)
    try:
        final = store.in_place(FINAL)
    except StoreError as error:
        raise PushError(str(error)) from error
    if final is not None:
        return final
    if store.remote is not None:
        under_way = any(name.startswith(f".work/{FINAL}-") for name in store.remote.sizes(store.run_name))
    else:
        under_way = (store.path / FINAL).is_dir() or any(store.path.glob(f".work/{FINAL}-*"))
    if under_way:
        raise PushError(
            f"the export of {where} is not finished (no {FINAL}/{MANIFEST}): start the run again to finish it"
        )
    raise PushError(f"{where} has no exported judge (no {FINAL}/): let the run end first; it is exported last")


def _manifest(folder: Path) -> Manifest:
    try:
        manifest = Manifest.load(folder / MANIFEST)
    except (StoreError, KeyError, TypeError) as error:
        raise PushError(str(error)) from error
    if manifest.kind != "export":
        raise PushError(
            f"{folder} is the stage {manifest.name!r} of a run, not an exported judge: give the run, or its {FINAL}/"
        )
    return manifest


def _brought(store: RunStore, final: Artifact) -> Artifact:
    """The artifact with all its files on this machine."""
    if store.remote is not None:
        for name in final.damage():  # a damaged copy is fetched again
            (final.path / name).unlink(missing_ok=True)
        for name in final.manifest.files:
            path = f"{store.run_name}/{FINAL}/{name}"
            try:
                store.remote.fetch(path)
            except FileNotFoundError as error:
                raise PushError(
                    f"{store.shown(final.path / name)} is missing: start the run again to redo it"
                ) from error
    return final


def _checked(final: Artifact) -> Artifact:
    """The artifact. Raises PushError if one of its files is not what was written."""
    if final.manifest.retired:
        raise PushError(
            f"{final.path / final.manifest.retired[0]} was removed to save space: start the run again to restore it"
        )
    for name, what in final.damage().items():
        raise PushError(f"{final.path / name} {what}: start the run again to export it anew")
    return final


# ---- what the card says ------------------------------------------------------------------------------------------------------


def _benchmarks(store: RunStore, final: Artifact) -> Iterator[Artifact]:
    """The finished benchmarks of the exported judge, except the one on held-out pairs."""
    judge = final.manifest.inputs[f"judge-{final.manifest.config['chosen_round']}"]
    for name in sorted(store.names_in_place()):
        if not name.rpartition("/")[2].startswith("benchmark-"):
            continue
        played = store.in_place(name)
        if played is not None and "games" in played.manifest.metrics and _judge_of(store, played) == judge:
            yield played


def _judge_of(store: RunStore, played: Artifact) -> str | None:
    """The content of the judge that has played a benchmark."""
    inputs = played.manifest.inputs
    if "games-1" not in inputs:
        return inputs.get("judge")
    # A knockout is scored from the games of its levels, which know the judge.
    games = store.in_place(f"{played.manifest.name}-games-1")
    return games.manifest.inputs.get("judge") if games is not None and games.content == inputs["games-1"] else None


def _hub_name_of(store: RunStore, played: Artifact) -> str | None:
    made = store.in_place(f"benchmarks/{played.manifest.kind.removeprefix('benchmark-')}")
    data = str(made.manifest.config.get("data", "")) if made is not None else ""
    return data.removeprefix(HUB) if data.startswith(HUB) else None


def _datasets(store: RunStore) -> Iterator[str]:
    made = store.in_place("data")
    settings = made.manifest.config.get("data", {}) if made is not None else {}
    for source in (source for kind in _TRAINED_ON for source in settings.get(kind, ())):
        if str(source.get("path", "")).startswith(HUB):
            yield str(source["path"]).removeprefix(HUB)
