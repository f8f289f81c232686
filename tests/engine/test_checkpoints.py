"""Checkpoints of a training in progress: which of them is gone on from, and which are kept."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from data.files import write_json
from data.store.artifacts import StageError
from tasks.model.chat import ChatEncoder
from tasks.settings import Mechanics, Optimization, TrainingSettings
from tasks.training.distributed import SHARD_FOLDER
from tasks.training.job import COMPLETE
from tasks.training.objectives import training_arguments
from tasks.training.progress import last_checkpoint, progress_callback
from tests.support.training_jobs import BASE, example_rows, training_job

pytestmark = pytest.mark.train


def test_a_checkpoint_that_was_not_written_to_its_end_is_passed_over(tmp_path: Path) -> None:
    for step in (20, 100, 200):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "optimizer.pt").write_text("12345")
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
        sizes = {"optimizer.pt": 5, "trainer_state.json": 2}
        write_json(tmp_path / f"checkpoint-{step}" / COMPLETE, {"files": sizes, "seconds": 1.0})
    write_json(
        tmp_path / "checkpoint-300" / COMPLETE, {"files": {}, "seconds": 1.0}
    )  # all was removed before it was marked
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-200"
    (tmp_path / "checkpoint-200" / "optimizer.pt").write_text("1234")
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-100"
    (tmp_path / "checkpoint-100" / COMPLETE).unlink()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-20"
    assert last_checkpoint(tmp_path / "none") is None


def test_a_checkpoint_of_the_other_kind_is_not_passed_over(tmp_path: Path) -> None:
    """As after a change of training.processes: beginning again in silence would in time remove what eight GPUs have done."""
    saved = tmp_path / "checkpoint-20"
    saved.mkdir()
    (saved / "trainer_state.json").write_text("{}")
    write_json(saved / COMPLETE, {"files": {"trainer_state.json": 2}, "seconds": 1.0})
    with pytest.raises(
        StageError, match=r"checkpoint-20 was written on one GPU.* start with training.processes = 1; to"
    ):
        last_checkpoint(tmp_path, sharded=True)
    (saved / SHARD_FOLDER).mkdir()
    with pytest.raises(
        StageError, match=r"-20 was written on several GPUs.* start on several GPUs; to begin again, remove"
    ):
        last_checkpoint(tmp_path)


@pytest.mark.parametrize(("best", "other"), [(None, 300), (200, 200), (400, 300)])
def test_a_clock_that_is_set_back_costs_no_checkpoint(tmp_path: Path, best: int | None, other: int) -> None:
    """It was an hour ahead for the first two. What the trainer removes after each save goes by the folders' times."""
    from transformers.trainer_utils import rotate_checkpoints

    job = training_job(tmp_path, example_rows(1), TrainingSettings(), Optimization(max_steps=1))
    folder = tmp_path / "trainer"
    arguments = training_arguments(job, str(folder), ChatEncoder.load(str(BASE)))
    for step in (100, 200, 300, 400):
        saved = folder / f"checkpoint-{step}"
        saved.mkdir(parents=True)
        (saved / "trainer_state.json").write_text("{}")
        rotate_checkpoints(str(folder), arguments.save_total_limit, use_mtime=True)
        state = SimpleNamespace(global_step=step, is_world_process_zero=True, best_global_step=best)
        progress_callback(Mechanics(), 0.0).on_save(arguments, state, None)
        if step < 300:
            os.utime(saved, (time.time() + 3600 + step,) * 2)
    assert last_checkpoint(folder) == saved
    assert {path.name for path in folder.iterdir()} == {f"checkpoint-{other}", saved.name}
