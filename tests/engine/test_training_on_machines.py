"""A sharded training by four processes, as two on each of two machines: the same losses and weights as by one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from data.files import write_json
from data.store.artifacts import SCRATCH
from tasks.machine import child
from tasks.settings import Optimization, TrainingSettings
from tasks.training.encoded import encode_sets
from tasks.training.progress import last_checkpoint
from tests.conftest import free_port
from tests.support.training_jobs import example_rows, losses, train_here, training_job

pytestmark = [pytest.mark.train, pytest.mark.slow]


def test_weights_in_two_copies_each_in_two_parts_are_trained_as_one(tmp_path: Path) -> None:
    optimization = Optimization(max_steps=4, batch_size=8, micro_batch_size=1, learning_rate=1e-3)
    one, four = (
        training_job(
            tmp_path / name, example_rows(24), TrainingSettings(log_every=1, checkpoint_minutes=0), optimization
        )
        for name in ("one", "sharded")
    )
    write_json(tmp_path / "sharded/job.json", asdict(four))
    encode_sets(four)
    shared = {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    shared |= {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    parts = [
        child.Command(
            "tests.support.processes",
            [str(tmp_path / "sharded/job.json")],
            {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank % 2)},
            str(rank),
        )
        for rank in range(4)
    ]
    child.run_children(parts, tmp_path / "log", lambda line: None, lambda *_: None)
    train_here(one)
    assert losses(four) == pytest.approx(losses(one), abs=1e-4)
    ours, theirs = (load_file(Path(job.out) / "checkpoint/model.safetensors") for job in (one, four))
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-4) for name in ours)
    kept = last_checkpoint(Path(four.out) / SCRATCH / "trainer", sharded=True)
    assert kept is not None
    sizes = [(kept / f"pytorch_model_fsdp_0/__{rank}_0.distcp").stat().st_size for rank in range(4)]
    weights = sum(value.nbytes for value in ours.values())
    assert weights <= sum(sizes) < 1.2 * weights, "the copies are written once, by all processes"
    assert min(sizes) > 0.1 * weights
