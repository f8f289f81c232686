"""A training whose processes another launcher has started and connected, such as torchrun, or srun."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.settings import Optimization, TrainingSettings
from tasks.training.__main__ import carry_out
from tasks.training.encoded import encode_sets, found_sets
from tasks.training.job import TrainingJob
from tests.conftest import free_port
from tests.support.training_jobs import example_rows, train_in_child, training_job


@pytest.fixture
def job(tmp_path: Path) -> TrainingJob:
    """Its settings do not say how many processes there are, but the launcher."""
    return training_job(
        tmp_path, example_rows(3), TrainingSettings(processes=2), Optimization(max_steps=1, batch_size=4)
    )


def test_processes_of_a_launcher_know_whether_the_first_has_encoded(job: TrainingJob) -> None:
    assert found_sets(job) is None
    made = encode_sets(job)
    assert found_sets(job) == made
    (Path(job.out) / "dropped.jsonl").unlink()  # the first process would encode again
    assert found_sets(job) is None


@pytest.mark.train
def test_the_rendezvous_of_torchrun_or_srun_is_taken(job: TrainingJob, tmp_path: Path) -> None:
    """In the only process of a launcher, a training that would start two."""
    told = {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    result = train_in_child(tmp_path, job, environment={**told, "OMP_NUM_THREADS": "1"})
    assert (result["counts"]["kept"], result["metrics"]["steps"], result["metrics"]["processes"]) == (3, 1, 1)


def test_a_launcher_must_say_which_process_of_its_machine_one_is(
    job: TrainingJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=r"but not LOCAL_RANK: with srun, it is \$SLURM_LOCALID"):
        carry_out(job, Path())
