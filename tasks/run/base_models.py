"""The commits of the hub that a run's models are: the first ones found, for all its rounds and all later starts.

``models.json`` in the run folder maps each name to its commit. A name without a revision, or with that of a branch, means
another commit as soon as anything changes there, and all that was made with the first one would be made again.
"""

from __future__ import annotations

import json

from data.files import write_json
from data.store.store import RunStore
from tasks.model.location import find_model, local_folder

MODELS = "models.json"


def find_base(store: RunStore, model: str) -> tuple[str, dict[str, str]]:
    """The folder of a model, and what identifies it in keys, as `find_model` gives them; of one on the hub, the run's commit.

    Raises what `find_model` raises.
    """
    if local_folder(model).exists():
        return find_model(model)
    path = store.path / MODELS
    if store.remote is not None:
        path.unlink(missing_ok=True)  # a copy may be of a run that is there no more
        store.bring(path)
    commits: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if model in commits:
        return find_model(f"{model.partition('@')[0]}@{commits[model]}")
    folder, known = find_model(model)
    write_json(path, {**commits, model: known["commit"]})
    store.share(path)
    return folder, known
