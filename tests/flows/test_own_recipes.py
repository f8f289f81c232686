"""A user's recipe: it may lie anywhere, and its relative paths start in its own folder, wherever it is used from."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from data.files import hash_folder, write_jsonl
from data.world import taste
from flows.config.parameters import FLOWS, AdaptConfig, BenchmarkConfig, SelfTrainConfig
from flows.config.recipe_paths import PATHS
from flows.config.recipes import (
    ConfigError,
    absolute_parameters,
    find_recipe,
    load_file,
    load_run,
    own,
    recipe_files,
)
from flows.running.carry_out import opened
from flows.server.entries import recipe_deployments
from tasks.export import base_name
from tasks.run.base_models import find_base
from tasks.settings.data import SOURCES
from tasks.settings.wording import Place, model_at
from tests.conftest import ROOT
from tests.support.checking import check_run

SELF_TRAIN = """
[models]
judge_base = "JUDGE"
prover_base = "../models/prover"
judge_prompt = "compact"
trust_remote_code = ["JUDGE"]
[data]
rationale = [{ path = "rationale.jsonl" }, { path = "hub:me/mine" }]
labeled = [{ path = "sub/*.jsonl" }]
unlabeled = [{ path = "${HOME}/x.jsonl" }, { path = "~/y.jsonl" }, { path = "/z.jsonl" }]
"""


def recipe(folder: Path, text: str, name: str = "mine.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def test_every_relative_path_starts_in_the_recipes_folder(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    (folder / "judge").mkdir(parents=True)
    path = recipe(folder, SELF_TRAIN.replace("JUDGE", "judge"))
    config = load_file("self-train", path)
    assert isinstance(config, SelfTrainConfig)
    assert (config.store, config.models.judge_base) == (f"{folder}/runs", f"{folder}/judge")
    assert config.models.trust_remote_code == (f"{folder}/judge",)
    assert config.models.prover_base == f"{tmp_path}/models/prover", "it starts with ../, though it is not there"
    read = [source.path for part in (config.data.rationale, config.data.labeled) for source in part]
    assert read == [f"{folder}/rationale.jsonl", "hub:me/mine", f"{folder}/sub/*.jsonl"]
    assert [source.path for source in config.data.unlabeled] == ["${HOME}/x.jsonl", "~/y.jsonl", "/z.jsonl"]


@pytest.mark.parametrize("name", ["owner/name", "name", "owner/name@refs/pr/1"])
def test_what_is_no_folder_beside_the_recipe_is_a_name_on_the_hub(name: str, tmp_path: Path) -> None:
    config = load_file("self-train", recipe(tmp_path, SELF_TRAIN.replace("JUDGE", name)))
    assert isinstance(config, SelfTrainConfig)
    assert (config.models.judge_base, config.models.trust_remote_code) == (name, (name,))


def test_judges_tasks_benchmarks_and_stores_elsewhere(tmp_path: Path) -> None:
    judge = '[judge]\npath = "{}"\n[benchmarks]\nsets = [{{ benchmark = "rm-bench", data = "{}" }}]\n'
    path = recipe(tmp_path, 'store = "s3://b/runs"\n' + judge.format("http://h/v1#x", "hub:a/b"))
    config = load_file("benchmark", path)
    assert isinstance(config, BenchmarkConfig)
    assert (config.store, config.judge.path, config.benchmarks.sets[0].data) == (
        "s3://b/runs",
        "http://h/v1#x",
        "hub:a/b",
    )
    text = 'store = "../all"\n' + judge.format("runs/a/final", "d/x.jsonl") + '[task]\nprover = "./p"\n'
    text += 'pairs = [{ path = "p-{seed}.jsonl" }]\nheldout = [{ path = "h.jsonl" }]\n'
    adapt = load_file("adapt", recipe(tmp_path / "a", text))
    assert isinstance(adapt, AdaptConfig)
    made = [adapt.store, adapt.judge.path, adapt.benchmarks.sets[0].data, adapt.task.prover]
    made += [adapt.task.pairs[0].path, adapt.task.heldout[0].path]
    wanted = ["../all", "runs/a/final", "d/x.jsonl", "p", "p-{seed}.jsonl", "h.jsonl"]
    assert made == [str((tmp_path / "a" / one).resolve()) for one in wanted]


def strings(kind: type[BaseModel], place: Place = ()) -> Iterator[tuple[Place, str]]:
    """(place, description) of every setting; ``*`` stands for the items of a list."""
    for name, field in kind.model_fields.items():
        here: Place = (*place, name)
        if (section := model_at(kind, (name,))) is not None:
            yield from strings(section, here)
        elif (section := model_at(kind, (name, 0))) is not None:
            yield from strings(section, (*here, "*"))
        elif field.annotation in (str, str | None):
            yield here, field.description or ""


def test_every_setting_that_names_a_file_or_a_folder_counts_as_a_path() -> None:
    """So that a new one is not forgotten."""
    named = {
        place
        for kind in FLOWS.values()
        for place, text in strings(kind)
        if re.search(r"\b([Ff]older|[Ff]iles?)\b", text) and place[-1] not in ("run_name", "split")
    }
    kinds = {("data", kind, "*", "path") for kind in SOURCES}
    assert named <= PATHS | kinds
    assert {place[-1] for place in named} == {"store", "path", "data", "judge_base", "prover_base", "prover"}


def test_parameters_count_as_written_in_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = recipe(tmp_path / "mine", SELF_TRAIN)
    overrides = {"data.labeled.0.path": "l.jsonl", "data.heldout": [{"path": "h.jsonl"}], "labels.votes": 4}
    monkeypatch.chdir(ROOT)
    config = load_run("self-train", path, {"store": "s", "overrides": overrides})
    assert isinstance(config, SelfTrainConfig)
    assert (config.store, config.labels.votes) == (f"{path.parent}/s", 4)
    assert [config.data.labeled[0].path, config.data.heldout[0].path] == [
        f"{path.parent}/{one}.jsonl" for one in ("l", "h")
    ]
    # What is given to a flow run, which works in the checkout, is the same.
    given = absolute_parameters(path, {"store": "s", "overrides": overrides})
    assert given["store"] == f"{path.parent}/s"
    assert given["overrides"]["data.heldout"] == [{"path": f"{path.parent}/h.jsonl"}]
    built_in = ROOT / "flows/recipes/demo.toml"
    assert absolute_parameters(built_in, {"store": "s"}) == {"store": "s"}
    for wrong in ({"overrides": "x"}, {"labels": 5}, {"data": {"labeled": "x"}}):
        with pytest.raises(ConfigError):
            load_run("self-train", path, wrong)


def test_a_built_in_recipe_works_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flow, path = find_recipe("demo")
    monkeypatch.chdir(ROOT)
    assert load_run(flow, path) == load_file(flow, path), "in the checkout, names stay short"
    monkeypatch.chdir(tmp_path)
    config = load_run(flow, path, {"overrides": {"data.heldout.0.path": "h.jsonl"}})
    assert isinstance(config, SelfTrainConfig)
    assert (config.store, config.models.judge_base) == (f"{ROOT}/runs", f"{ROOT}/data/world/base-judge")
    assert config.data.heldout[0].path == f"{ROOT}/h.jsonl"
    monkeypatch.setenv("GRAM_R2_HOME", str(tmp_path / "other"))
    assert load_run(flow, path).store == f"{tmp_path}/other/runs"


def test_a_folder_stands_for_the_only_recipe_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = recipe(tmp_path / "my-run", SELF_TRAIN, "my-run.toml")
    for name in ("my-run", "my-run/", "./my-run", str(tmp_path / "my-run")):
        flow, found = find_recipe(name)
        assert (flow, found.resolve(), own(found)) == ("self-train", path, True)
    recipe(tmp_path / "my-run", "", "other.toml")
    (tmp_path / "empty").mkdir()
    for name, message in {
        "my-run": "the folder my-run holds 2 recipes: name one of my-run/my-run.toml, my-run/other.toml",
        "empty": "the folder empty holds no .toml file",
    }.items():
        with pytest.raises(ConfigError) as caught:
            find_recipe(name)
        assert str(caught.value) == message


def test_a_folder_with_the_name_of_a_built_in_recipe_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert not own(find_recipe("demo")[1]), "a folder without recipes is not meant"
    recipe(tmp_path / "demo", SELF_TRAIN, "demo.toml")
    with pytest.raises(ConfigError, match=r"demo is a built-in recipe and a folder with recipes: .* write \./demo"):
        find_recipe("demo")
    assert own(find_recipe("demo/")[1])
    assert own(find_recipe("./demo")[1])
    assert not own(find_recipe("self-train/demo")[1])


@pytest.mark.parametrize(
    ("folder", "text", "flow"),
    [
        ("benchmark", SELF_TRAIN, "self-train"),
        ("x", "[models]\n[data]\n[training]\nfine_tuning = {}\n", "gram"),
        ("x", "[models]\n[data]\n[training]\nfinal = {}\n", "self-train"),
        ("gram", "[models]\n[data]\n", "gram"),
        ("x", "[judge]\n[benchmarks]\n", "benchmark"),
        ("x", "[judge]\n[benchmarks]\n[task]\n", "adapt"),
        ("x", "[models]\njudge_bas = 1\n[data]\n", "self-train"),
    ],
)
def test_the_flow_of_a_recipe_is_that_of_its_settings(folder: str, text: str, flow: str, tmp_path: Path) -> None:
    assert find_recipe(str(recipe(tmp_path / folder, text)))[0] == flow


def world_recipe(folder: Path) -> Path:
    for part, n in {"rationale": 6, "labeled": 12, "unlabeled": 12, "heldout": 6}.items():
        rows: list[dict[str, Any]] = [pair.to_json() for pair in taste.draw_pairs(n, seed=len(part))]
        write_jsonl(folder / f"{part}.jsonl", rows)
    base = ROOT / "data/world"
    text = (ROOT / "flows/recipes/demo.toml").read_text().replace("runs/world/seed-0/", "")
    return recipe(folder, text.replace("data/world/base-", f"{base}/base-"))


def test_the_same_recipe_is_planned_checked_and_deployed_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = world_recipe(tmp_path / "mine")
    (tmp_path / "elsewhere").mkdir()
    made: list[Any] = []
    for folder, name in ((tmp_path / "elsewhere", "../mine"), (tmp_path / "mine", "mine.toml"), (ROOT, str(path))):
        monkeypatch.chdir(folder)
        config = check_run(name, {"dry_run": True})
        deployed, problems = recipe_deployments([find_recipe(name)])
        made.append((config.model_dump(), deployed))
        assert not problems
    assert made[0] == made[1] == made[2]
    assert made[0][0]["store"] == f"{tmp_path}/mine/runs"


def test_built_in_recipes_keep_relative_paths() -> None:
    """Each worker has a checkout of its own."""
    assert all(not own(path) for _, path in recipe_files())
    [(made,), _] = recipe_deployments([find_recipe("self-train/demo")])
    assert made["parameters"]["data"]["labeled"][0]["path"] == "runs/world/seed-0/labeled.jsonl"


def test_store_and_models_are_found_by_variables_on_the_machine_that_runs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = SELF_TRAIN.replace("JUDGE", "${PLACE}/judge")
    monkeypatch.delenv("PLACE", raising=False)
    config = load_file("self-train", recipe(tmp_path / "mine", 'store = "${PLACE}/runs"\n' + text))
    assert isinstance(config, SelfTrainConfig)
    assert (config.store, config.models.judge_base) == ("${PLACE}/runs", "${PLACE}/judge"), (
        "the server is told no machine's"
    )
    monkeypatch.setenv("PLACE", str(tmp_path / "place"))
    judge = shutil.copytree(ROOT / "data/world/base-judge", tmp_path / "place/judge")
    with opened(config, config) as run:
        assert run.store.path == tmp_path / "place/runs/mine"
        found = find_base(run.store, config.models.judge_base)
    assert found == find_base(run.store, str(judge)) == (str(judge), {"content": hash_folder(judge)})
    assert base_name("${PLACE}/judge") == {"folder": "judge"}
