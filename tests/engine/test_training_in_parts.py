"""A training by two processes, replicated (DDP) and sharded (FSDP): the same losses and weights as by one."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from data.files import write_json
from data.store.artifacts import SCRATCH
from tasks.machine import child
from tasks.machine.child import ChildError
from tasks.settings import LoraSettings, Optimization, Role, TrainingSettings
from tasks.training.examples import encode_set
from tasks.training.job import TrainingJob
from tasks.training.objectives import batch_arguments
from tasks.training.progress import last_checkpoint
from tasks.training.rank import METRICS, TRAIN
from tests.conftest import free_port
from tests.support.training_jobs import BASE, example_rows, job, losses, models_for, train_in_child

pytestmark = pytest.mark.train

CASES: list[tuple[Role, str, LoraSettings | None]] = [
    ("judge", "compact", None),
    ("judge", "compact", LoraSettings(r=4, alpha=8)),
    ("label-judge", "compact-label", None),
    ("scalar", "compact-label", None),
]


@pytest.mark.parametrize(("role", "prompt", "lora"), CASES)
def test_two_processes_train_as_one_does(tmp_path: Path, role: Role, prompt: str, lora: LoraSettings | None) -> None:
    """Examples differ in length, and each batch is accumulated: what a process has says nothing of what the batch has."""
    rows = [{**row, "rationale": row["rationale"] * (1 + i % 3 // 2)} for i, row in enumerate(example_rows(16))]
    optimization = Optimization(max_steps=4, batch_size=8, micro_batch_size=2, learning_rate=1e-3, lora=lora)
    told = {}
    for name, n in (("one", 1), ("two", 2), ("sharded", 2)):
        training = TrainingSettings(log_every=1, processes=n)
        told[name] = job(tmp_path / name, rows, training, optimization, role, models_for(prompt))
    results = {name: train_in_child(tmp_path / name, told[name]) for name in ("one", "two")}
    assert [results[name]["metrics"]["processes"] for name in ("one", "two")] == [1, 2]
    assert results["one"]["counts"] == results["two"]["counts"]
    assert losses(told["one"])[0] != pytest.approx(losses(told["one"])[-1], abs=1e-3), "it learned nothing to compare"
    same_as_one(told["one"], told["two"])
    if lora is None:  # adapters are replicated
        assert train_sharded(tmp_path / "sharded", told["sharded"])["processes"] == 2
        same_as_one(told["one"], told["sharded"])


def same_as_one(one: TrainingJob, other: TrainingJob) -> None:
    """Every step's loss, and in the end the weights."""
    assert losses(other) == pytest.approx(losses(one), abs=1e-4)
    ours, theirs = (load_file(Path(told.out) / "checkpoint/model.safetensors") for told in (one, other))
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-4) for name in ours)
    configs = [(Path(told.out) / "checkpoint/config.json").read_text() for told in (one, other)]
    assert configs[0] == configs[1]


def train_sharded(folder: Path, told: TrainingJob) -> dict[str, Any]:
    """Trains with the weights sharded over two processes; returns the metrics."""
    write_json(folder / "job.json", asdict(told))
    scratch = Path(told.out) / SCRATCH
    scratch.mkdir()
    encode_set(told, scratch / "cache", Path(told.out) / "dropped.jsonl").write(scratch / TRAIN)
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    shared |= {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    parts = [
        child.Command(
            "tests.support.sharded_on_cpu",
            [str(folder / "job.json")],
            {**shared, "RANK": rank, "LOCAL_RANK": rank},
            rank,
        )
        for rank in "01"
    ]
    child.run_children(parts, folder / "log", lambda line: None, lambda *_: None)
    metrics: dict[str, Any] = json.loads((scratch / METRICS).read_text())
    return metrics


def test_two_processes_that_were_stopped_go_on_from_their_checkpoint(tmp_path: Path) -> None:
    optimization = Optimization(max_steps=6, batch_size=4, micro_batch_size=2, learning_rate=1e-3)
    training = TrainingSettings(log_every=1, processes=2, checkpoint_minutes=0)
    through, stopped = (job(tmp_path / name, example_rows(12), training, optimization) for name in ("a", "b"))
    train_in_child(tmp_path / "a", through)
    with pytest.raises(KeyboardInterrupt):
        train_in_child(tmp_path / "b", stopped, until_step=4)
    assert last_checkpoint(Path(stopped.out) / SCRATCH / "trainer") is not None
    train_in_child(tmp_path / "b", stopped)
    assert "resuming from checkpoint-" in (tmp_path / "b/log").read_text()
    same_as_one(through, stopped)


def test_a_process_that_fails_ends_the_training_with_its_own_words(tmp_path: Path) -> None:
    """The base's weights are cut short: its examples can still be encoded, and every process fails to load it."""
    shutil.copytree(BASE, tmp_path / "base")
    weights = tmp_path / "base/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    told = job(tmp_path, example_rows(4), TrainingSettings(processes=2), Optimization(max_steps=1, batch_size=4))
    with pytest.raises(
        ChildError, match=r"(?s)train failed.*process \d failed with exit code 1.*SafetensorError"
    ) as raised:
        train_in_child(tmp_path, replace(told, base=str(tmp_path / "base")))
    assert "InvalidOffset" in str(raised.value) or "incomplete" in str(raised.value).lower()


def test_a_batch_must_be_cut_evenly() -> None:
    assert batch_arguments(Optimization(epochs=1, batch_size=64, micro_batch_size=2), 8) == {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 4,
    }
    assert batch_arguments(Optimization(epochs=1, batch_size=64), 4)["per_device_train_batch_size"] == 16
    with pytest.raises(
        ValueError, match="a batch of 64 examples cannot be cut into micro-batches of 16 for 3 processes"
    ):
        batch_arguments(Optimization(epochs=1, batch_size=64, micro_batch_size=16), 3)
