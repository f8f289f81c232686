"""Trainings on other workers, one machine or two for each, with a real server and real workers."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from data.files import StoreError
from data.store.artifacts import Artifact
from data.store.store import RunStore
from data.world import taste
from flows.server.processes import Services, start_worker
from flows.workers import train_model
from tasks.run.stage import Run
from tasks.train import train_judge
from tasks.training.job import COMPLETE
from tests.chaos.subject import ENDED, flow_run_of, state_of_run
from tests.conftest import artifact, settings_with, until
from tests.engine.test_engine import JUDGE
from tests.support.following import start_deployment
from tests.support.in_thread import InThread

pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.train]

STEPS = 40
"""Seconds of work: the worker is killed at the first checkpoint, and there must be some left."""


@pytest.fixture(scope="module")
def trainers(services: Services) -> Iterator[Services]:
    """Two workers of the pool train, which reach each other on the loopback."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(services.environment, "GLOO_SOCKET_IFNAME", "lo")
        for name in ("train-1", "train-2"):
            start_worker(services, name, pool="train")
    yield services
    for name in ("train-1", "train-2"):
        services.stop(name)


def training(services: Services, folder: Path, **settings: object) -> InThread:
    """A training stage of a run of its own in this folder."""
    optimization = {"max_steps": STEPS, "batch_size": 8, "micro_batch_size": 2, "learning_rate": 1e-3}
    run = Run(
        RunStore(folder, "run"),
        settings_with(
            models={"judge_base": str(JUDGE.resolve()), "dtype": "float32"},
            training={"first_judge": optimization, "log_every": 5, "checkpoint_minutes": 0, **settings},
        ),
        seed=4,
    )
    rows = [
        {**pair.to_json(), "id": f"{pair.pair.id}:ab", "rationale": taste.rationale(pair.pair)}
        for pair in taste.draw_pairs(24, seed=5)
    ]
    examples = artifact(run, "examples", {"examples.jsonl": rows})
    return InThread(services, lambda seen: train_judge(run, 0, examples))


@pytest.fixture(scope="module")
def here(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The same training on this machine, which nobody disturbs."""
    stage = training(services, tmp_path_factory.mktemp("here"))
    stage.start()
    stage.join(timeout=240)
    assert isinstance(stage.result, Artifact), stage.result
    return stage.result


def the_same_again(services: Services, run: str) -> str:
    """Starts the deployment train/model with the parameters of a run; returns the new run's id."""
    given = httpx.get(f"{services.ui}/api/flow_runs/{run}").json()["parameters"]
    return start_deployment(services, "train/model", given)


def trainer_processes(folder: Path) -> list[psutil.Process]:
    """The trainings of a folder; a program that one of them starts has its command line for a moment, and is none."""
    found = [
        process
        for process in psutil.process_iter(["cmdline", "ppid"])
        if "tasks.training" in (process.info["cmdline"] or []) and str(folder) in " ".join(process.info["cmdline"])
    ]
    return [process for process in found if process.info["ppid"] not in {other.pid for other in found}]


def logs(folder: Path) -> str:
    return "".join(path.read_text() for path in (folder / "run/logs").glob("*.train*.log"))


def losses(made: Artifact) -> list[float]:
    return [json.loads(line)["loss"] for line in made.file("steps.jsonl").read_text().splitlines()]


def test_a_training_goes_to_a_worker_and_from_a_lost_one_to_another(
    trainers: Services, here: Artifact, tmp_path: Path
) -> None:
    stage = training(trainers, tmp_path, in_pool=True)
    stage.start()
    until(lambda: trainer_processes(tmp_path))
    [process] = trainer_processes(tmp_path)
    assert "prefect.engine" in process.parent().cmdline(), "the flow run on the worker, not this process"
    # As when a run was taken for lost while it works: another one for the same training waits, and then has nothing to do.
    second = the_same_again(trainers, flow_run_of(process.parent()))
    until(lambda: list(tmp_path.rglob(COMPLETE)))
    process.parent().send_signal(signal.SIGKILL)
    until(lambda: not process.is_running())
    most = 0
    while stage.is_alive():
        most = max(most, len(trainer_processes(tmp_path)))
        time.sleep(0.05)
    assert isinstance(stage.result, Artifact), stage.result
    assert most == 1, "two trainings wrote one checkpoint"
    until(lambda: state_of_run(trainers, second) in ENDED, 60)
    assert state_of_run(trainers, second) in ("COMPLETED", "CANCELLED")
    assert not list((tmp_path / "run").glob(".work/*"))
    assert list((tmp_path / "run").glob(".encoded/*.arrow")), "in the shared folder, for the next round"
    assert "resuming from checkpoint-" in logs(tmp_path)
    weights = "checkpoint/model.safetensors"
    assert stage.result.manifest.files[weights] == here.manifest.files[weights], "byte for byte"
    assert stage.result.manifest.key == here.manifest.key, "where it runs is no part of what it is"


def test_two_machines_train_together_and_go_on_when_one_is_lost(
    trainers: Services, here: Artifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two processes on each: the losses are those of one process, whatever was lost in between."""
    caplog.set_level("INFO", logger="gram_r2")
    stage = training(trainers, tmp_path, in_pool=True, nodes=2, processes=2)
    stage.start()
    until(lambda: list(tmp_path.rglob(COMPLETE)))
    [second] = [process for process in trainer_processes(tmp_path) if ".node-1." in process.cmdline()[-1]]
    second.parent().send_signal(signal.SIGKILL)
    stage.join(timeout=240)
    assert isinstance(stage.result, Artifact), stage.result
    assert re.search(r"node 1: its run '.*' ended Crashed with the training left", caplog.text)
    assert logs(tmp_path).count("resuming from checkpoint-") == 4
    assert stage.result.manifest.metrics["processes"] == 4
    assert losses(stage.result) == pytest.approx(losses(here), abs=1e-4)
    assert len(losses(here)) == STEPS / 5
    assert stage.result.manifest.key == here.manifest.key
    assert sorted(stage.result.manifest.files) == sorted(here.manifest.files)
    assert not list((tmp_path / "run").glob(".work/*"))


def test_a_base_model_that_differs_on_the_worker_is_refused(tmp_path: Path) -> None:
    told = {"model": str(JUDGE.resolve()), "known": {"content": "of another"}}
    with pytest.raises(StoreError, match="all machines must have the same"):
        train_model.fn({"examples": "run/e.jsonl", "out": "run/o", "base": ""}, str(tmp_path), told)


def test_a_job_cannot_name_files_outside_its_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="may only name files in its store"):
        train_model.fn({"examples": "../../etc/passwd", "out": "run/o", "base": "run/b"}, str(tmp_path))
