"""Whether a run has come to its end: ``finished.json`` holds the key of each stage that it then consisted of.

Those keys are compared with the stages that stand in place, so a run that is being made again is unfinished once more.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from data.files import write_json
from data.store.store import RunStore

if TYPE_CHECKING:  # it loads Prefect
    from tasks.run.stage import Run

FINISHED = "finished.json"
_LAST = "final"
"""The stage that ends most runs; those that an earlier version has finished have no other sign."""


def is_finished(store: RunStore) -> bool:
    """Whether every stage of the run stands in place as it was when the run last came to its end."""
    path = store.path / FINISHED
    store.bring(path)
    if not path.is_file():
        return store.in_place(_LAST) is not None
    keys: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return all((there := store.in_place(name)) is not None and there.manifest.key == keys[name] for name in keys)


def stages_of_finished(store: RunStore) -> set[str] | None:
    """The names of the stages that a finished run consists of: others in its folder are of what it was before.

    None if it is unfinished, or has been finished by a version that did not note them.
    """
    path = store.path / FINISHED
    return set(json.loads(path.read_text(encoding="utf-8"))) if is_finished(store) and path.is_file() else None


def mark_finished(run: Run) -> None:
    """Notes that the run has come to its end with the stages that it has gone through."""
    path = run.store.path / FINISHED
    write_json(path, {artifact.manifest.name: artifact.manifest.key for artifact in run.finished_stages()})
    run.store.share(path)


def may_change(store: RunStore, on_change: str) -> bool:
    """Whether finished stages may be replaced, and failed rows retried: "auto" allows it until the run is finished."""
    return on_change == "redo" or (on_change == "auto" and not is_finished(store))
