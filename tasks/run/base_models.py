"""The commits of the hub that a run's models are: the first ones found, for all its rounds and all later starts.

``models.json`` in the run folder maps each name to its commit. A name without a revision, or with that of a branch, means
another commit as soon as anything changes there, and all that was made with the first one would be made again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from data.files import write_json
from data.store.store import RunStore
from tasks.model.location import Found, end_of_adapters, find_model, find_on_hub

MODELS = "models.json"


def find_base(store: RunStore, model: str) -> Found:
    """A model as `find_model` finds it; of one on the hub, also of an adapter's base there, the run's commit.

    Raises what `find_model` raises.
    """

    def on_hub(name: str) -> Found:
        commits = _noted(store)
        if name in commits:
            return find_on_hub(_at_commit(name, commits))
        folder, known = find_on_hub(name)
        write_json(store.path / MODELS, {**commits, name: known["commit"]})
        store.share(store.path / MODELS)
        return folder, known

    return find_model(model, on_hub)


def base_for_workers(store: RunStore, model: str, known: Mapping[str, str]) -> dict[str, Any]:
    """A model that `find_base` has found as another machine finds it (`found_by_worker`), and what identifies it as the same."""
    if "hub" in known:
        return {"model": f"{known['hub']}@{known['commit']}", "known": dict(known)}
    commits, end = _noted(store), end_of_adapters(model)
    adapted = {"adapted": _at_commit(end, commits)} if end in commits else {}
    return {"model": model, "known": dict(known), **adapted}


def found_by_worker(wanted: Mapping[str, Any]) -> Found:
    """The model that `base_for_workers` described, on this machine. Raises what `find_model` raises."""
    adapted = wanted.get("adapted", "")

    def on_hub(name: str) -> Found:
        # Any other name is that of an adapter that is not on this machine.
        return find_on_hub(adapted if name.partition("@")[0] == adapted.partition("@")[0] else name)

    return find_model(wanted["model"], on_hub)


def _noted(store: RunStore) -> dict[str, str]:
    path = store.path / MODELS
    if store.remote is not None:
        path.unlink(missing_ok=True)  # a copy may be of a run that is there no more
        store.bring(path)
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _at_commit(name: str, commits: Mapping[str, str]) -> str:
    return f"{name.partition('@')[0]}@{commits[name]}" if name in commits else name
