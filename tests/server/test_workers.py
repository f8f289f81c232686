"""Stages whose work is done by other workers, with a real server, real workers, real vLLM and real training."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from data.files import StoreError, link_tree, write_jsonl
from data.store.artifacts import BEGUN, Artifact
from data.store.store import RunStore
from data.world import taste
from flows.server.local import Services, start_deployment, start_worker
from flows.workers import train_model
from tasks.generation.local import GenerationStats, generate_in_children
from tasks.generation.pool import generate_in_pool
from tasks.generation.shards import GenerationJob, read_shards
from tasks.run.stage import Run
from tasks.train import train_judge
from tasks.training.job import COMPLETE
from tests.chaos.subject import ENDED, flow_run_of, state_of_run
from tests.conftest import artifact, settings_with, until
from tests.engine.test_engine import GENERATION, JUDGE, MODELS

pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.engine]

N_ROWS = 400
PARAMS = {"prompt": "compact", "votes": 4, "temperature": 1.0, "top_p": 1.0, "max_tokens": 60, "context": 128}


@pytest.fixture(scope="module")
def pool(services: Services) -> Iterator[Services]:
    """Two workers of the pool gpu."""
    for name in ("gpu-1", "gpu-2"):
        start_worker(services, name, pool="gpu")
    yield services
    for name in ("gpu-1", "gpu-2"):
        services.stop(name)


@pytest.fixture
def job(tmp_path: Path) -> GenerationJob:
    write_jsonl(tmp_path / "run/rows.jsonl", (row.to_json() for row in taste.draw_pairs(N_ROWS, seed=3)))
    link_tree(JUDGE, tmp_path / "run/judge")
    RunStore(tmp_path, "run").begin(tmp_path / "run/.work/votes-12")
    generation = GENERATION.model_copy(update={"shard_rows": 20, "workers": 2}).model_dump(mode="json")
    return GenerationJob(
        "tasks.label:vote_requests", PARAMS | {"overlong": "drop", "seed": 9}, str(tmp_path / "run/rows.jsonl"), N_ROWS,
        str(tmp_path / "run/judge"), str(tmp_path / "run/.work/votes-12/shards-20"),
        MODELS.model_dump(mode="json"), generation,
    )  # fmt: skip


class InThread(threading.Thread):
    """A stage, as a flow would carry it out; what it said, how far it came, and how it ended."""

    def __init__(self, services: Services, stage: Callable[[InThread], object]) -> None:
        super().__init__(daemon=True)
        self.services, self.stage = services, stage
        self.lines: list[str] = []
        self.done: list[int] = []
        self.stop = False
        self.result: object = None

    def progressed(self, done: int, total: int) -> None:
        self.done.append(done)
        if self.stop:
            raise KeyboardInterrupt

    def run(self) -> None:
        from prefect.settings import PREFECT_API_URL, temporary_settings

        with temporary_settings({PREFECT_API_URL: self.services.environment["PREFECT_API_URL"]}):
            try:
                self.result = self.stage(self)
            except BaseException as error:
                self.result = error


def generating(services: Services, job: GenerationJob) -> InThread:
    store = RunStore(Path(job.rows).parent.parent, "run")
    return InThread(services, lambda seen: generate_in_pool(job, seen.lines.append, seen.progressed, store))


def engines(job: GenerationJob) -> list[psutil.Process]:
    """The engine processes of this job."""
    folder = str(Path(job.rows).parent)
    found = psutil.process_iter(["cmdline"])
    return [
        p
        for p in found
        if "tasks.generation.worker" in (p.info["cmdline"] or []) and folder in " ".join(p.info["cmdline"])
    ]


def whole(job: GenerationJob) -> list[dict[str, Any]]:
    lines = list(read_shards(job))
    assert [line["row"] for line in lines] == list(range(N_ROWS))
    assert all("requests" in line for line in lines)
    return lines


def test_two_workers_share_a_stage_and_a_lost_ones_shards_go_to_another(pool: Services, job: GenerationJob) -> None:
    stage = generating(pool, job)
    stage.start()
    until(lambda: len(engines(job)) == 2)
    until(lambda: len(list(Path(job.out).glob("*.jsonl"))) >= 2)
    # The flow run of the first engine: its process is the engine's parent.
    engines(job)[0].parent().send_signal(signal.SIGKILL)
    stage.join(timeout=240)
    assert isinstance(stage.result, GenerationStats), stage.result
    assert any("ended Crashed with" in line and "another worker takes over" in line for line in stage.lines), (
        stage.lines
    )
    assert stage.done == sorted(stage.done)
    assert stage.done[-1] == N_ROWS
    assert stage.result.tokens > 0
    alone = GenerationJob(**{**job.to_json(), "out": str(Path(job.out).parent.parent / "alone/shards-20")})
    generate_in_children(alone, Path(job.rows).parent / "log", lambda line: None, lambda done, total: None)
    # The same samples as on one machine: a lost row's place in the batch may change its last digits, not its text.
    texts = [[c["text"] for line in whole(j) for r in line["requests"] for c in r["completions"]] for j in (job, alone)]
    assert texts[0] == texts[1]


def test_a_stage_that_is_stopped_ends_its_engines_and_keeps_what_they_finished(
    pool: Services, job: GenerationJob
) -> None:
    stage = generating(pool, job)
    stage.start()
    until(lambda: len(list(Path(job.out).glob("*.jsonl"))) >= 2)
    stage.stop = True
    stage.join(timeout=60)
    assert isinstance(stage.result, KeyboardInterrupt)
    until(lambda: not engines(job), 60)
    kept = {path.name: path.read_bytes() for path in Path(job.out).glob("*.jsonl")}
    assert 2 <= len(kept) < 20
    again = generating(pool, job)
    again.start()
    again.join(timeout=240)
    assert isinstance(again.result, GenerationStats), again.result
    whole(job)
    assert {name: (Path(job.out) / name).read_bytes() for name in kept} == kept


def test_a_part_of_a_stage_that_has_ended_is_not_done(pool: Services, job: GenerationJob) -> None:
    """A run that waited for a worker while its stage was finished without it."""
    store = RunStore(Path(job.rows).parent.parent, "run")
    (Path(job.out).parent / BEGUN).unlink()
    told = {"job": job.relative_to(store.root).to_json(), "store": store.url, "worker": 0}
    run = start_deployment(pool, "generate/shards", told)
    until(lambda: state_of_run(pool, run) == "COMPLETED", 60)
    assert not Path(job.out).exists()


def test_a_stage_taken_up_again_finds_the_runs_that_are_at_work(pool: Services, job: GenerationJob) -> None:
    """As after a kill of the flow: its engines go on, and the next attempt waits for them instead of starting others."""
    first = generating(pool, job)
    first.start()
    until(lambda: len(engines(job)) == 2)
    second = generating(pool, job)
    second.start()
    second.join(timeout=240)
    first.join(timeout=60)
    assert isinstance(second.result, GenerationStats), second.result
    assert any("is still running" in line for line in second.lines)
    assert not any("cancelling the run" in line for line in second.lines)
    runs = httpx.post(f"{pool.ui}/api/flow_runs/filter", json={"limit": 4, "sort": "EXPECTED_START_TIME_DESC"}).json()
    mine = [run for run in runs if run["parameters"].get("store") == str(Path(job.rows).parent.parent)]
    assert len(mine) == 2
    whole(job)


def test_a_run_that_fails_stops_the_stage_with_what_it_said(pool: Services, job: GenerationJob) -> None:
    broken = replace(job, builder="tasks.label:no_such_builder", generation={**job.generation, "workers": 1})
    stage = generating(pool, broken)
    stage.start()
    stage.join(timeout=240)
    assert "ended Failed with" in str(stage.result)
    assert "no_such_builder" in str(stage.result)


# ---- training -----------------------------------------------------------------------------------------------------------


STEPS = 40
"""Seconds of work: the worker is killed at the first checkpoint, and there must be some left."""


@pytest.fixture(scope="module")
def trainers(services: Services) -> Iterator[Services]:
    """Two workers of the pool train."""
    for name in ("train-1", "train-2"):
        start_worker(services, name, pool="train")
    yield services
    for name in ("train-1", "train-2"):
        services.stop(name)


def training(services: Services, folder: Path, in_pool: bool) -> InThread:
    """A training stage of a run of its own in this folder."""
    optimization = {"max_steps": STEPS, "batch_size": 8, "learning_rate": 1e-3}
    run = Run(
        RunStore(folder, "run"),
        settings_with(
            models={"judge_base": str(JUDGE.resolve()), "dtype": "float32"},
            training={"first_judge": optimization, "in_pool": in_pool, "log_every": 5, "checkpoint_minutes": 0},
        ),
        seed=4,
    )
    rows = [
        {**pair.to_json(), "id": f"{pair.pair.id}:ab", "rationale": taste.rationale(pair.pair)}
        for pair in taste.draw_pairs(24, seed=5)
    ]
    examples = artifact(run, "examples", {"examples.jsonl": rows})
    return InThread(services, lambda seen: train_judge(run, 0, examples))


def the_same_again(services: Services, run: str) -> str:
    """Starts the deployment train/model with the parameters of a run; returns the new run's id."""
    given = httpx.get(f"{services.ui}/api/flow_runs/{run}").json()["parameters"]
    return start_deployment(services, "train/model", given)


def trainer_processes(folder: Path) -> list[psutil.Process]:
    found = psutil.process_iter(["cmdline"])
    return [
        p for p in found if "tasks.training" in (p.info["cmdline"] or []) and str(folder) in " ".join(p.info["cmdline"])
    ]


def test_a_training_goes_to_a_worker_and_from_a_lost_one_to_another(trainers: Services, tmp_path: Path) -> None:
    stage = training(trainers, tmp_path / "pool", in_pool=True)
    stage.start()
    until(lambda: trainer_processes(tmp_path / "pool"))
    [process] = trainer_processes(tmp_path / "pool")
    assert "prefect.engine" in process.parent().cmdline(), "the flow run on the worker, not this process"
    # As when a run was taken for lost while it works: another one for the same training waits, and then has nothing to do.
    second = the_same_again(trainers, flow_run_of(process.parent()))
    until(lambda: list((tmp_path / "pool").rglob(COMPLETE)))
    process.parent().send_signal(signal.SIGKILL)
    until(lambda: not process.is_running())
    most = 0
    while stage.is_alive():
        most = max(most, len(trainer_processes(tmp_path / "pool")))
        time.sleep(0.05)
    assert isinstance(stage.result, Artifact), stage.result
    assert most == 1, "two trainings wrote one checkpoint"
    until(lambda: state_of_run(trainers, second) in ENDED, 60)
    assert state_of_run(trainers, second) in ("COMPLETED", "CANCELLED")
    assert not list((tmp_path / "pool/run").glob(".work/*"))
    assert list((tmp_path / "pool/run").glob(".encoded/*.arrow")), "in the shared folder, for the next round"
    logs = "".join(path.read_text() for path in (tmp_path / "pool/run/logs").glob("*.train.log"))
    assert "resuming from checkpoint-" in logs
    here = training(trainers, tmp_path / "here", in_pool=False)
    here.start()
    here.join(timeout=240)
    assert isinstance(here.result, Artifact), here.result
    weights = "checkpoint/model.safetensors"
    assert stage.result.manifest.files[weights] == here.result.manifest.files[weights], "byte for byte"
    assert stage.result.manifest.key == here.result.manifest.key, "where it runs is no part of what it is"


def test_a_base_model_that_differs_on_the_worker_is_refused(trainers: Services, tmp_path: Path) -> None:
    told = {"model": str(JUDGE.resolve()), "known": {"content": "of another"}}
    with pytest.raises(StoreError, match="all machines must have the same"):
        train_model.fn({"examples": "run/e.jsonl", "out": "run/o", "base": ""}, str(tmp_path), told)


def test_a_job_cannot_name_files_outside_its_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="may only name files in its store"):
        train_model.fn({"examples": "../../etc/passwd", "out": "run/o", "base": "run/b"}, str(tmp_path))
