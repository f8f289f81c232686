"""Which card a lock stands for: the same one however the card is named, and the one that CUDA then uses."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from data.store.artifacts import SCRATCH
from tasks.machine import gpus
from tasks.machine.gpus import claim_gpus
from tasks.settings import Optimization, TrainingSettings
from tasks.training import __main__ as training
from tasks.training.encoded import TRAIN, EncodedSet
from tests.support.training_jobs import example_rows, training_job

FOLDER = Path(f"/tmp/gram-r2-locks-{os.getuid()}")


@pytest.fixture
def cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Two cards, as a stand-in for nvidia-smi lists them."""
    ids = [f"GPU-{name}-{os.getpid()}-of-a-test" for name in ("aa11", "bb22")]
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\n" + "".join(f"echo '{i}, {one}'\n" for i, one in enumerate(ids)))
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    yield ids
    for one in ids:
        (FOLDER / f"gpu-{one}.lock").unlink(missing_ok=True)


@pytest.mark.parametrize("given", ["1", "GPU-bb22", "whole"])
def test_a_lock_is_named_after_the_card_however_it_is_given(
    given: str, cards: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = cards[1] if given == "whole" else given
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", name)
    [lock] = claim_gpus(1)
    assert (FOLDER / f"gpu-{cards[1]}.lock").read_text() == str(os.getpid())
    assert os.environ["CUDA_VISIBLE_DEVICES"] == name
    with (FOLDER / f"gpu-{cards[1]}.lock").open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    lock.close()


@pytest.mark.parametrize("order", [None, "FASTEST_FIRST"])
def test_cuda_counts_the_cards_as_the_locks_do(
    order: str | None, cards: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # restored at the end
    monkeypatch.setenv("CUDA_DEVICE_ORDER", order or "")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert gpus.visible_gpus() == ["0", "1"]
    for lock in claim_gpus(2):
        lock.close()
    assert (os.environ["CUDA_DEVICE_ORDER"], os.environ["CUDA_VISIBLE_DEVICES"]) == ("PCI_BUS_ID", "0,1")


def test_too_few_cards_are_an_error_before_examples_are_encoded(
    cards: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    job = training_job(tmp_path, [], TrainingSettings(processes=3), Optimization(max_steps=1, batch_size=3))
    with pytest.raises(ValueError, match="3 GPUs are needed, but only 2 are visible: 0, 1"):
        training.run_training(job, Path())


def test_examples_are_encoded_before_cards_are_claimed(
    cards: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And in another process: a library that looked for cards before would see those of others later on."""

    class ClaimedError(Exception):
        pass

    def claim(wanted: int) -> None:
        raise ClaimedError

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    monkeypatch.setattr(training, "claim_gpus", claim)
    job = training_job(tmp_path, example_rows(3), TrainingSettings(processes=1), Optimization(max_steps=1))
    with pytest.raises(ClaimedError):
        training.run_training(job, Path())
    assert EncodedSet.read(Path(job.out) / SCRATCH / TRAIN).counts.rows_in == 3
    assert "TOKENIZERS_PARALLELISM" not in os.environ
