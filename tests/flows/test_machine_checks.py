"""What would stop a run later because this machine lacks it is said before anything is spent: store, packages and GPUs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from data.world.splits import write_splits
from flows.config.checks import check_planned, problems
from flows.config.findings import findings
from tests.support.checking import config, refusal


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_splits(folder, seed=0)
    return folder


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"store": __file__}, "is a file: name a folder"),
        ({"store": "s4://bucket/runs"}, "store = 's4://bucket/runs': Protocol not known: s4"),
        (
            {"training.report_to": ["wandb"]},
            'training.report_to names wandb, which is not installed: pip install -e ".[wandb]", or leave it out',
        ),
        ({"training.processes": 3}, "training.processes = 3, but 2 GPUs are visible: 0, 1"),
        ({"generation.tensor_parallel": 4}, "generation.tensor_parallel = 4, but 2 GPUs are visible: 0, 1"),
        ({"training.attention": "flash_attention_2"}, "needs flash-attn: pip install flash-attn"),
        ({"training.attention": "kernels-community/x"}, '"kernels-community/x" is a kernel of the hub: pip install'),
        ({"training.liger_kernels": True}, "training.liger_kernels needs liger-kernel: pip install liger-kernel"),
    ],
)
def test_what_this_machine_lacks_is_said(
    changed: dict[str, Any], message: str, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert message in refusal(config(world, **changed))


def test_a_plan_is_of_a_run_that_may_use_other_gpus(world: Path) -> None:
    check_planned(config(world, **{"generation.tensor_parallel": 4, "training.attention": "flash_attention_2"}))


@pytest.mark.parametrize(("name", "value"), [("kv_cache_dtype", "fp8"), ("quantization", "fp8_per_tensor")])
def test_fp8_needs_a_gpu_on_this_machine(world: Path, name: str, value: str) -> None:
    given = config(world, **{f"generation.{name}": value})
    assert f'generation.{name} = "{value}" needs a GPU that computes in fp8, but no GPU is visible' in refusal(given)
    check_planned(given)


def test_a_store_that_cannot_be_written_is_refused(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    there = tmp_path / "there"
    there.mkdir()
    may = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: (Path(path), mode) != (there, os.W_OK | os.X_OK) and may(path, mode)
    )
    for store, reason in {
        "file": " is a file: name a folder",
        "file/runs": f" lies below a file, {tmp_path}/file: name a folder",
        "there": f": you may not write in {there}: name another folder",
        "there/new/runs": f": you may not write in {there}: name another folder",
    }.items():
        given = config(world, store=f"{tmp_path}/{store}")
        assert [line for line in problems(given)["store"] if line.startswith(f"store = '{tmp_path}/{store}'{reason}")]
    assert problems(config(world, store=f"{tmp_path}/new"))["store"] == []


def test_of_a_store_at_a_url_only_its_kind_is_known(world: Path) -> None:
    first = next(findings(config(world, store="memory://runs")))
    assert (first.kind, first.line) == ("note", "store: memory://runs/demo is at a URL: it is first opened by the run")
