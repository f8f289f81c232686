"""A run stays with the commits of the hub that it has found first."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from huggingface_hub.utils import validate_repo_id

from data.files import hash_folder, write_json
from data.records import content_id
from data.store.store import RunStore
from flows.benchmark import find_judge
from tasks.model.folder import ModelError
from tasks.run.base_models import MODELS, base_for_workers, find_base, found_by_worker


class Hub:
    """What stands for the hub: a name has the commit that `newest` says, and any commit that is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.newest = folder, "c1"

    def __call__(self, name: str, revision: str | None = None, **_: object) -> str:
        validate_repo_id(name)
        snapshot = self.folder / name / "snapshots" / (self.newest if revision in (None, "main") else revision)
        snapshot.mkdir(parents=True, exist_ok=True)
        return str(snapshot)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub(tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.snapshot_download", made)
    return made


def test_later_rounds_and_starts_have_the_first_commit(hub: Hub, tmp_path: Path) -> None:
    first = find_base(RunStore(tmp_path, "run"), "org/base")
    hub.newest = "c2"
    again = find_base(RunStore(tmp_path, "run"), "org/base")
    assert first == again == (str(tmp_path / "hub/org/base/snapshots/c1"), {"hub": "org/base", "commit": "c1"})
    assert find_base(RunStore(tmp_path, "other"), "org/base")[1]["commit"] == "c2"
    assert json.loads((tmp_path / "run" / MODELS).read_text()) == {"org/base": "c1"}


def test_a_branch_moves_too_and_another_revision_is_another_model(hub: Hub, tmp_path: Path) -> None:
    store = RunStore(tmp_path, "run")
    assert find_base(store, "org/base@main")[1]["commit"] == "c1"
    hub.newest = "c2"
    assert find_base(store, "org/base@main")[1]["commit"] == "c1"
    assert find_base(store, "org/base@c0")[1] == {"hub": "org/base", "commit": "c0"}
    assert find_base(store, "org/base")[1]["commit"] == "c2", "it is a new name to the run"


def test_it_is_the_same_for_a_store_at_a_url(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAM_R2_CACHE", str(tmp_path / "one"))
    store = RunStore("memory://base-models", "run")
    find_base(store, "org/base")
    hub.newest = "c2"
    monkeypatch.setenv("GRAM_R2_CACHE", str(tmp_path / "another-machine"))
    assert find_base(RunStore("memory://base-models", "run"), "org/base")[1]["commit"] == "c1"
    assert store.remote is not None
    store.remote.remove([f"run/{MODELS}"])
    assert find_base(store, "org/base")[1]["commit"] == "c2", "the run is there no more: a copy does not decide"


def test_a_judge_that_is_measured_stays_the_same(hub: Hub, tmp_path: Path) -> None:
    judge = find_judge(RunStore(tmp_path, "run"), "org/judge")
    hub.newest = "c2"
    assert find_judge(RunStore(tmp_path, "run"), "org/judge") == judge


def adapter_of(base: str, folder: Path, *base_facts: dict[str, str]) -> str:
    """An adapter that counts as merged already with each of the bases that have these facts."""
    write_json(folder / "adapter_config.json", {"base_model_name_or_path": base})
    for facts in base_facts:
        merged = content_id(hash_folder(folder), facts)
        (Path(os.environ["XDG_CACHE_HOME"]) / "gram-r2/merged" / merged).mkdir(parents=True)
    return str(folder)


@pytest.fixture
def adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An adapter of a model on the hub, and one of that adapter."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    facts = [{"hub": "org/base", "commit": commit} for commit in ("c1", "c2")]
    one = adapter_of("org/base", tmp_path / "one", *facts)
    whole = [{"content": content_id(hash_folder(Path(one)), base)} for base in facts]
    return [one, adapter_of(one, tmp_path / "two", *whole)]


@pytest.mark.parametrize("which", [0, 1])
def test_the_base_of_an_adapter_stays_the_same_too(hub: Hub, tmp_path: Path, adapters: list[str], which: int) -> None:
    first = find_base(RunStore(tmp_path, "run"), adapters[which])
    hub.newest = "c2"
    assert find_base(RunStore(tmp_path, "run"), adapters[which]) == first
    assert find_base(RunStore(tmp_path, "other"), adapters[which]) != first
    assert json.loads((tmp_path / "run" / MODELS).read_text()) == {"org/base": "c1"}


def test_workers_have_the_runs_commits(hub: Hub, tmp_path: Path, adapters: list[str]) -> None:
    store = RunStore(tmp_path, "run")
    for model in ("org/base", *adapters):
        found = find_base(store, model)
        hub.newest = "c2"
        assert found_by_worker(base_for_workers(store, model, found[1])) == found


@pytest.mark.parametrize("missing", [0, 1])
def test_a_worker_without_an_adapter_takes_no_other_model_for_it(
    hub: Hub, tmp_path: Path, adapters: list[str], missing: int
) -> None:
    store = RunStore(tmp_path, "run")
    wanted = base_for_workers(store, adapters[1], find_base(store, adapters[1])[1])
    assert wanted["adapted"] == "org/base@c1"
    Path(adapters[missing]).rename(tmp_path / "elsewhere")
    (tmp_path / "hub").rename(tmp_path / "not here")
    with pytest.raises((FileNotFoundError, ModelError), match=rf"'{adapters[missing]}' is neither a local folder"):
        found_by_worker(wanted)
    assert not (tmp_path / "hub").exists(), "nothing is downloaded"


def test_of_a_folder_nothing_is_noted(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    assert "content" in find_base(RunStore(tmp_path, "run"), str(tmp_path / "model"))[1]
    assert not (tmp_path / "run" / MODELS).exists()
