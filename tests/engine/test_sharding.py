"""Sharded training (FSDP), one process at a time: who reads the weights, and whose files make a checkpoint complete."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from transformers import AutoModelForCausalLM, LlamaConfig

from tasks.settings import Mechanics
from tasks.training.distributed import load_model
from tasks.training.job import COMPLETE
from tasks.training.progress import progress_callback
from tests.support.training_jobs import BASE

pytestmark = pytest.mark.train

HOW = {"dtype": torch.float32, "trust_remote_code": False}


def test_only_the_first_process_reads_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(BASE / "config.json", tmp_path)
    monkeypatch.setenv("RANK", "1")
    model = load_model(AutoModelForCausalLM, str(tmp_path), True, {}, HOW)
    whole = AutoModelForCausalLM.from_pretrained(BASE, **HOW)
    assert {name: (one.shape, one.dtype) for name, one in model.named_parameters()} == {
        name: (one.shape, one.dtype) for name, one in whole.named_parameters()
    }
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert len({one.data_ptr() for one in model.parameters()}) == len(list(model.parameters()))
    buffers = dict(model.named_buffers())
    assert buffers.keys() == dict(whole.named_buffers()).keys()
    assert all(torch.equal(buffers[name], one) for name, one in whole.named_buffers())
    for rank, sharded in (("0", True), ("1", False)):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(OSError, match=r"no file named model\.safetensors"):
            load_model(AutoModelForCausalLM, str(tmp_path), sharded, {}, HOW)


class _Stored(torch.nn.Module):
    """A model whose files contain a buffer besides its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))
        self.register_buffer("scale", torch.ones(2))

    @classmethod
    def from_config(cls, config: Any, **_: Any) -> _Stored:
        return cls()

    @classmethod
    def from_pretrained(cls, base: str, **_: Any) -> str:
        return "read"

    def tie_weights(self) -> None:
        pass


def test_a_model_that_stores_more_than_weights_is_read_by_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trainer sends no buffers to the other processes."""
    monkeypatch.setenv("RANK", "1")
    assert load_model(_Stored, str(BASE), True, {}, HOW) == "read"


def test_weights_that_are_not_read_take_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """276 MB of them: less than a tenth is touched."""
    LlamaConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=4, num_attention_heads=8, vocab_size=1000
    ).save_pretrained(tmp_path)
    monkeypatch.setenv("RANK", "1")
    before = resident_mb()
    model = load_model(AutoModelForCausalLM, str(tmp_path), True, {}, HOW)
    assert sum(4 * one.numel() for one in model.parameters()) > 270e6
    assert resident_mb() - before < 27


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def test_the_files_of_a_checkpoint_are_those_that_any_process_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several machines with one folder, the first may not see yet what the others have written to its end."""
    saved = tmp_path / "checkpoint-3"
    saved.mkdir()
    (saved / "rng_state_0.pth").write_text("12345")
    (saved / "rng_state_1.pth").write_text("123")
    (saved / "trainer_state.json").write_text("{}")
    order: list[str] = []

    def gather(seen: list[dict[str, int]], own: dict[str, int]) -> None:
        order.append("gathered")
        seen[:] = [own, {"rng_state_1.pth": 6, "model/__1_0.distcp": 7}]

    for name, stand_in in {
        "is_initialized": lambda: True,
        "barrier": lambda: order.append("all have written"),
        "get_world_size": lambda: 2,
        "all_gather_object": gather,
    }.items():
        monkeypatch.setattr(dist, name, stand_in)
    for first in (False, True):
        state = SimpleNamespace(global_step=3, is_world_process_zero=first, best_global_step=None)
        progress_callback(Mechanics(), 0.0).on_save(SimpleNamespace(output_dir=str(tmp_path)), state, None)
        assert (saved / COMPLETE).exists() == first
    assert order == ["all have written", "gathered"] * 2
    sizes = json.loads((saved / COMPLETE).read_text())["files"]
    assert sizes == {"model/__1_0.distcp": 7, "rng_state_0.pth": 5, "rng_state_1.pth": 6, "trainer_state.json": 2}
