"""Which card a lock stands for: the same one however the card is named, and the one that CUDA then uses."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.machine import gpus
from tasks.machine.gpus import claim_gpus

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
