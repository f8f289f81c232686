"""What is refused of trainings on several processes and machines, before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.config.checks import check, check_planned
from flows.config.every_run import RunParameters
from flows.config.machine_checks import gpu_problems
from flows.config.parameters import AdaptConfig, BaselinesConfig, GramConfig
from flows.config.recipes import (
    RECIPES,
    ConfigError,
    find_recipe,
    load_file,
    load_recipe_of,
    recipe_files,
    with_overrides,
)
from flows.config.trainings import training_problems
from tests.conftest import ROOT
from tests.support.planning import demo

BASES = {f"models.{role}_base": str(ROOT / f"data/world/base-{role}") for role in ("judge", "prover")}
SPREAD = {"training.in_pool": True, "training.nodes": 2}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("world")


def test_machines_need_a_folder_that_all_of_them_see(world: Path) -> None:
    config = demo(world, **{**BASES, **SPREAD, "store": "memory://runs"})
    said = r"training.nodes = 2: the machines of a training write its checkpoints together, .* not 'memory://runs'"
    for how in (check, check_planned):
        with pytest.raises(ConfigError, match=said):
            how(config)
    assert not list(training_problems(demo(world, **{**BASES, "store": "memory://runs"})))
    assert not list(training_problems(demo(world, **{**BASES, **SPREAD, "training.judge.batch_size": 16})))


@pytest.mark.parametrize(
    ("training", "processes"),
    [({**SPREAD, "training.processes": 3}, 6), ({"training.processes": 5}, 5), ({**SPREAD, "training.nodes": 5}, 5)],
)
def test_a_batch_that_they_cannot_share_is_refused(world: Path, training: dict[str, Any], processes: int) -> None:
    batch = {"training.judge.batch_size": 16, "training.judge.micro_batch_size": 1}
    found = list(training_problems(demo(world, **{**BASES, **training, **batch})))
    said = f"training.judge: a batch of 16 examples cannot be split into micro-batches of 1 for {processes} processes"
    assert [line for line in found if line.startswith(said)]


@pytest.mark.parametrize(
    ("flow", "recipe", "kind", "batch"),
    [
        ("gram", "demo", GramConfig, "training.fine_tuning"),
        ("adapt", "demo", AdaptConfig, "training.optimization"),
        ("baselines", "world", BaselinesConfig, "baselines.gram"),
    ],
)
def test_it_is_of_the_batches_of_every_flow(flow: str, recipe: str, kind: Any, batch: str) -> None:
    values = load_recipe_of(flow, recipe).model_dump(mode="json")
    for size, refused in ((7 * 8, False), (7 * 8 + 1, True)):
        changes = {"training.processes": 7, f"{batch}.batch_size": size, f"{batch}.micro_batch_size": 1}
        found = list(training_problems(with_overrides(values, changes, kind)))
        assert any(line.startswith(f"{batch}: a batch of {size}") for line in found) == refused


def test_a_batch_that_this_machines_gpus_cannot_share_is_refused(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `processes` is left at 0, their number is that of the visible GPUs; a plan may be for another machine."""
    final = {"training.final": {"learning_rate": 1e-4, "epochs": 1, "batch_size": 12}}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4,5,6,7")
    config = demo(world, **{**BASES, **final, "training.processes": 0, "training.prover.batch_size": 16})
    said = r"training.final: a batch of 12 examples cannot be split into micro-batches of 1 for 8 processes: .*visible GPU\)"
    with pytest.raises(ConfigError, match=said):
        check(config)
    check_planned(config)
    for changed in ({"training.processes": 4}, {"training.in_pool": True}):
        assert not _unshared(with_overrides(config.model_dump(mode="json"), changed))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    assert not _unshared(config)


@pytest.mark.parametrize("gpus", [1, 2, 4, 8])
def test_every_recipe_can_train_on_the_gpus_of_a_common_machine(gpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus))))
    recipes = [*recipe_files(), *(find_recipe(str(path)) for path in sorted((RECIPES / "own").rglob("*.toml")))]
    assert {path: found for flow, path in recipes if (found := _unshared(load_file(flow, path)))} == {}


def _unshared(config: RunParameters) -> list[str]:
    """What the checks of this machine and of the settings say of batches."""
    return [line for line in (*gpu_problems(config), *training_problems(config)) if "cannot be split" in line]


def test_upper_layers_and_adapters_exclude_each_other(world: Path) -> None:
    config = demo(world, **{**BASES, "training.trainable_layers": 1, "training.judge.lora": {"r": 4}})
    [said] = training_problems(config)
    assert said.startswith(
        "training.judge.lora adds adapters to a frozen model, and training.trainable_layers = 1 trains"
    )


def test_no_more_layers_can_be_trained_than_there_are(world: Path) -> None:
    """Said of each base model that has fewer, before a run and before a plan."""
    said = r"models.judge_base = .*training.trainable_layers = 4, but the model has 3 layers: lower it"
    for how in (check, check_planned):
        with pytest.raises(ConfigError, match=said):
            how(demo(world, **{**BASES, "training.trainable_layers": 4}))
    check_planned(demo(world, **{**BASES, "training.trainable_layers": 3}))


def test_a_judge_that_learns_pairs_needs_an_even_batch(world: Path) -> None:
    """Prover and final fine-tuning have one example a pair, in whatever batches."""
    final = {"training.final": {"learning_rate": 1e-4, "epochs": 1, "batch_size": 7}}
    batches = {"training.first_judge.batch_size": 7, "training.prover.batch_size": 7, **final}
    [said] = training_problems(demo(world, **{**BASES, **batches, "training.pair_orders": True}))
    assert said.startswith("training.first_judge.batch_size = 7 would part the two orders of a pair")
    assert said.endswith(": make it even, or leave training.pair_orders out")
    assert not list(training_problems(demo(world, **{**BASES, **batches})))
