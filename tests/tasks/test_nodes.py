"""A training on several machines: what its settings change, its runs, where they meet, who encodes, what is refused."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import tasks.train
from data.files import write_json
from data.store.artifacts import SCRATCH, Stage
from data.store.store import RunStore
from tasks.machine.remote_runs import Part
from tasks.run.stage import Run
from tasks.settings import LoraSettings, Mechanics, Optimization, TrainingSettings
from tasks.train import train_judge
from tasks.training.__main__ import run_training
from tasks.training.distributed import distributed_arguments
from tasks.training.encoded import TRAIN
from tasks.training.job import COMPLETE, RESULT, TrainingJob
from tasks.training.nodes import RENDEZVOUS, Rendezvous, address, open_rendezvous
from tests.conftest import ROOT, artifact, settings_with
from tests.support.training_jobs import example_rows, training_job

TWO = TrainingSettings(nodes=2, in_pool=True, processes=2)


@pytest.fixture
def job(tmp_path: Path) -> TrainingJob:
    return training_job(tmp_path, example_rows(3), TWO, Optimization(max_steps=1, batch_size=4))


@pytest.fixture
def port() -> Iterator[int]:
    """One that somebody listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


# ---- settings -------------------------------------------------------------------------------------------------------------


def test_machines_are_workers_of_the_pool() -> None:
    with pytest.raises(
        ValidationError, match="nodes = 2: the machines of a training are workers of the pool train: set in_"
    ):
        Mechanics(nodes=2)
    assert Mechanics(nodes=2, in_pool=True).mechanics()["nodes"] == 2
    assert "nodes" not in Mechanics().model_dump(), "as before it could be set"


def test_how_many_machines_train_is_in_no_key(tmp_path: Path) -> None:
    assert a_stage(tmp_path, in_pool=True, nodes=4, processes=2).key == a_stage(tmp_path).key


class LookedAtError(Exception):
    pass


def a_stage(folder: Path, **training: Any) -> Stage:
    """The stage of a judge's training with these settings; it is not made."""
    found: list[Stage] = []

    def look(stage: Stage) -> None:
        found.append(stage)
        if stage.kind == "train-judge":
            raise LookedAtError

    with pytest.raises(LookedAtError):
        train_judge(*a_training(folder, look, **training))
    return found[-1]


def a_training(folder: Path, look: Callable[[Stage], object] = lambda stage: None, **training: Any) -> tuple[Any, ...]:
    base = str(ROOT / "data/world/base-judge")
    settings = settings_with(models={"judge_base": base, "dtype": "float32"}, training=training)
    run = Run(RunStore(folder, "run"), settings, seed=4, before_making=look)
    return run, 0, artifact(run, "examples", {"examples.jsonl": example_rows(4)})


# ---- the runs of a training -----------------------------------------------------------------------------------------------


def test_each_machine_is_a_run_that_knows_which_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that fails when another is lost is started as often as it takes, if there is a checkpoint in between."""

    def run_parts(deployment: str, store: RunStore, work: Path, parts: Sequence[Part], look: Any, say: Any) -> None:
        assert deployment == "train/model"
        assert [part.label for part in parts] == ["node 0", "node 1", "node 2"]
        assert [part.parameters["node"] for part in parts] == [0, 1, 2]
        assert {part.left() for part in parts} == {"the training"}
        for step in (10, 20):
            for part in parts:
                part.failed = 1
            write_json(work / SCRATCH / f"trainer/checkpoint-{step}" / COMPLETE, {})
            look()
            assert [part.failed for part in parts] == [0, 0, 0]
            parts[2].failed = 1
            look()
            assert [part.failed for part in parts] == [0, 0, 1], "no other checkpoint"
        write_json(work / RESULT, {"files": [], "counts": {"rows_in": 4, "kept": 4, "dropped": {}}, "metrics": {}})
        assert {part.left() for part in parts} == {""}

    monkeypatch.setattr(tasks.train, "run_parts", run_parts)
    train_judge(*a_training(tmp_path, in_pool=True, nodes=3))


# ---- the rendezvous -------------------------------------------------------------------------------------------------------


def test_the_first_machine_writes_where_the_others_find_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    path = tmp_path / RENDEZVOUS
    assert Rendezvous.read(path) is None
    first, second = Rendezvous.announce(path, 8), Rendezvous.announce(path, 8)
    assert (first.attempt, second.attempt, second.host, second.processes) == (1, 2, "127.0.0.1", 8)
    assert Rendezvous.read(path) == second
    assert not second.is_open(), "it only listens once its launcher has started"


def test_the_address_is_that_of_the_network_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"):
        monkeypatch.delenv(name, raising=False)
    own = address()
    assert own
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "^docker,no-such")  # a pattern, which only NCCL reads
    assert address() == own
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "lo")
    assert address() == "127.0.0.1"


def test_the_others_wait_until_the_first_machine_is_there(tmp_path: Path, port: int) -> None:
    """An address of an attempt that was lost is not taken for it."""
    path = tmp_path / RENDEZVOUS
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        write_json(path, asdict(Rendezvous(1, "127.0.0.1", closed.getsockname()[1], 2)))
        found: list[Rendezvous | None] = []
        waiting = threading.Thread(target=lambda: found.append(open_rendezvous(path, tmp_path / RESULT)), daemon=True)
        waiting.start()
        time.sleep(0.2)
        assert not found
        write_json(path, asdict(Rendezvous(2, "127.0.0.1", port, 2)))
        waiting.join(timeout=30)
    assert found == [Rendezvous(2, "127.0.0.1", port, 2)]


def test_a_machine_that_comes_when_all_is_done_has_nothing_to_do(job: TrainingJob) -> None:
    """Nor does it encode anything: the first machine does."""
    write_json(Path(job.out) / RESULT, {})
    run_training(replace(job, node=1), Path())
    assert not (Path(job.out) / SCRATCH / TRAIN).exists()


def test_machines_with_different_numbers_of_gpus_are_refused(job: TrainingJob, port: int) -> None:
    write_json(Path(job.out) / SCRATCH / RENDEZVOUS, asdict(Rendezvous(1, "127.0.0.1", port, 4)))
    with pytest.raises(ValueError, match="would train in 2 processes, the first one in 4: use machines with the same"):
        run_training(replace(job, node=1), Path())


def test_a_batch_is_split_over_the_processes_of_all_machines(job: TrainingJob) -> None:
    odd = replace(job, optimization={**job.optimization, "batch_size": 6})
    with pytest.raises(
        ValueError, match="a batch of 6 examples cannot be split into micro-batches of 1 for 4 processes"
    ):
        run_training(odd, Path())
    assert not (Path(job.out) / SCRATCH / TRAIN).exists()


@pytest.mark.parametrize(
    ("on_each", "lora", "sizes"),
    [("2", None, (2, 2)), ("4", None, None), ("1", None, None), ("2", LoraSettings(), None)],
)
def test_weights_are_sharded_within_a_machine_and_replicated_across(
    on_each: str, lora: LoraSettings | None, sizes: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not where a machine has one process, which would hold them all; adapters are replicated everywhere."""
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", on_each)
    mesh = distributed_arguments(gpu=True, sharded=lora is None).get("parallelism_config")
    assert (mesh and (mesh.dp_replicate_size, mesh.dp_shard_size)) == sizes
