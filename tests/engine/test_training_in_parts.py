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
from transformers import AutoConfig, AutoModelForCausalLM

from data.files import write_json
from data.store.artifacts import SCRATCH
from tasks.machine import child
from tasks.machine.child import ChildError
from tasks.settings import LoraSettings, Optimization, Role, TrainingSettings
from tasks.training.encoded import encode_sets
from tasks.training.job import TrainingJob
from tasks.training.objectives import batch_arguments
from tasks.training.progress import last_checkpoint
from tests.conftest import free_port
from tests.support.processes import METRICS
from tests.support.training_jobs import BASE, example_rows, losses, models_for, train_here, train_in_child, training_job

pytestmark = pytest.mark.train

CASES: dict[str, tuple[Role, str, LoraSettings | None]] = {
    "judge": ("judge", "compact", None),
    "adapter": ("judge", "compact", LoraSettings(r=4, alpha=8)),
    "label-judge": ("label-judge", "compact-label", None),
    "scalar": ("scalar", "compact-label", None),
    "untied": ("judge", "compact", None),
    "upper-layers": ("judge", "compact", None),
}
SHARDED = [name for name, (_, _, lora) in CASES.items() if lora is None]
"""Adapters are replicated."""


def a_job(folder: Path, case: str, processes: int) -> TrainingJob:
    """Examples differ in length, and each batch is accumulated: what a process has says nothing of what the batch has."""
    role, prompt, lora = CASES[case]
    rows = [{**row, "rationale": row["rationale"] * (1 + i % 3 // 2)} for i, row in enumerate(example_rows(16))]
    optimization = Optimization(max_steps=4, batch_size=8, micro_batch_size=2, learning_rate=1e-3, lora=lora)
    layers = 2 if case == "upper-layers" else None
    training = TrainingSettings(log_every=1, processes=processes, trainable_layers=layers)
    models = models_for(prompt)
    if case == "untied":
        models = models.model_copy(update={"judge_base": str(untied_base(folder.parent / "base"))})
    return training_job(folder, rows, training, optimization, role, models)


def untied_base(folder: Path) -> Path:
    """A model like the shipped one, whose output layer has weights of its own, as in the 8B models."""
    if not folder.exists():
        torch.manual_seed(0)
        config = AutoConfig.from_pretrained(BASE, tie_word_embeddings=False)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(BASE / name, folder)
    return folder


def a_packed_job(folder: Path, processes: int) -> TrainingJob:
    """In bfloat16, packed, with activations computed again, and a checkpoint after every step."""
    training = TrainingSettings(
        log_every=1, processes=processes, packing=True, attention="sdpa", gradient_checkpointing=True,
        checkpoint_minutes=0,
    )  # fmt: skip
    optimization = Optimization(max_steps=4, batch_size=4, micro_batch_size=1, learning_rate=1e-3)
    models = models_for().model_copy(update={"dtype": "bfloat16"})
    return training_job(folder, example_rows(16), training, optimization, models=models)


def checkpoints(place: Path) -> Path:
    return place / "out" / SCRATCH / "trainer"


def metrics(job: TrainingJob) -> dict[str, Any]:
    """Those of a training by two processes."""
    found: dict[str, Any] = json.loads((Path(job.out) / SCRATCH / METRICS).read_text())
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every case trained by two processes: replicated and sharded, all by the same two."""
    folder = tmp_path_factory.mktemp("parts")
    jobs = [folder / f"replicated-{case}" for case in CASES] + [folder / f"sharded-{case}" for case in SHARDED]
    jobs += [folder / "sharded-through", folder / "sharded-resumed"]
    for place in jobs:
        case = place.name.partition("-")[2]
        job = a_job(place, case, 2) if case in CASES else a_packed_job(place, 2)
        write_json(place / "job.json", asdict(job))
        encode_sets(job)
    (folder / "sharded-resumed/resumes").write_text(str(checkpoints(folder / "sharded-through") / "checkpoint-2"))
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    shared |= {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    files = [str(place / "job.json") for place in jobs]
    parts = [
        child.Command("tests.support.processes", files, {**shared, "RANK": rank, "LOCAL_RANK": rank}, rank)
        for rank in "01"
    ]
    child.run_children(parts, folder / "log", lambda line: None, lambda *_: None)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one_does(folder: Path, case: str) -> None:
    one = a_job(folder / f"one-{case}", case, 1)
    assert train_here(one)["metrics"]["processes"] == 1
    assert losses(one)[0] != pytest.approx(losses(one)[-1], abs=1e-3), "it learned nothing to compare"
    for how in ("replicated", *(["sharded"] if case in SHARDED else [])):
        two = TrainingJob.read(folder / f"{how}-{case}/job.json")
        assert metrics(two)["processes"] == 2
        same_as_one(one, two)


def test_output_layers_of_their_own_are_trained_and_saved(folder: Path) -> None:
    """They differ from the embeddings, and from what they were; transformers finds all that it needs."""
    base = load_file(folder / "base/model.safetensors")
    for how in ("replicated", "sharded"):
        checkpoint = folder / f"{how}-untied/out/checkpoint"
        model, found = AutoModelForCausalLM.from_pretrained(checkpoint, output_loading_info=True)
        assert not any(found.values()), found
        head, embeddings = model.get_output_embeddings().weight, model.get_input_embeddings().weight
        assert not torch.allclose(head, embeddings, atol=1e-3)
        assert not torch.allclose(head, base["lm_head.weight"], atol=1e-3)
        assert not torch.allclose(embeddings, base["model.embed_tokens.weight"], atol=1e-3)


def same_as_one(one: TrainingJob, other: TrainingJob) -> None:
    """Every step's loss, and in the end the weights."""
    assert losses(other) == pytest.approx(losses(one), abs=1e-4)
    ours, theirs = (load_file(Path(job.out) / "checkpoint/model.safetensors") for job in (one, other))
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-4) for name in ours)
    configs = [(Path(job.out) / "checkpoint/config.json").read_text() for job in (one, other)]
    assert configs[0] == configs[1]


def test_a_sharded_training_that_is_resumed_is_the_one_that_was_not_stopped(folder: Path) -> None:
    """In every digit: the losses of the steps after its checkpoint, and all weights."""
    through, resumed = (TrainingJob.read(folder / f"sharded-{name}/job.json") for name in ("through", "resumed"))
    assert "resuming from checkpoint-2" in (folder / "log").read_text()
    assert [metrics(job)["steps"] for job in (through, resumed)] == [4, 4]
    assert len(losses(through)) == 4
    assert losses(resumed) == losses(through)
    ours, theirs = (load_file(Path(job.out) / "checkpoint/model.safetensors") for job in (through, resumed))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_gradients_are_summed_in_float32_and_losses_are_not_rounded(folder: Path, tmp_path: Path) -> None:
    """As in one process, though all else is computed in bfloat16."""
    one, through = a_packed_job(tmp_path, 1), TrainingJob.read(folder / "sharded-through/job.json")
    assert metrics(through)["reduced_in"] == ["torch.float32"]
    train_here(one)
    assert losses(through) == pytest.approx(losses(one), abs=1e-3)


def test_a_checkpoint_is_complete_with_the_files_of_all_processes(folder: Path, tmp_path: Path) -> None:
    """Each has written its part of weights and moments; without any of them, the checkpoint before is used."""
    kept = shutil.copytree(checkpoints(folder / "sharded-through"), tmp_path / "trainer")
    assert last_checkpoint(kept, sharded=True) == kept / "checkpoint-3"
    assert not list(kept.glob("*/model.safetensors")), "the weights are written once"
    names = [f"{part}/__{rank}_0.distcp" for part in ("pytorch_model_fsdp_0", "optimizer_0") for rank in (0, 1)]
    names += ["pytorch_model_fsdp_0/.metadata", "rng_state_0.pth", "rng_state_1.pth", "trainer_state.json"]
    for name in names:
        content = (kept / "checkpoint-3" / name).read_bytes()
        (kept / "checkpoint-3" / name).write_bytes(content[:-1])
        assert last_checkpoint(kept, sharded=True) == kept / "checkpoint-2", name
        (kept / "checkpoint-3" / name).write_bytes(content)
    assert last_checkpoint(kept, sharded=True) == kept / "checkpoint-3"
    (kept / "checkpoint-3" / names[1]).unlink()
    assert last_checkpoint(kept, sharded=True) == kept / "checkpoint-2"


def test_two_processes_that_a_run_starts_go_on_from_their_checkpoint(tmp_path: Path) -> None:
    """As a run's training child does it, which is stopped; in the end the losses and weights are those of one process."""
    optimization = Optimization(max_steps=6, batch_size=4, micro_batch_size=2, learning_rate=1e-3)
    training = TrainingSettings(log_every=1, processes=2, checkpoint_minutes=0)
    two = training_job(tmp_path / "two", example_rows(12), training, optimization)
    one = training_job(tmp_path / "one", example_rows(12), TrainingSettings(log_every=1), optimization)
    with pytest.raises(KeyboardInterrupt):
        train_in_child(tmp_path / "two", two, until_step=4)
    assert last_checkpoint(Path(two.out) / SCRATCH / "trainer") is not None
    results = [train_here(one), train_in_child(tmp_path / "two", two)]
    assert "resuming from checkpoint-" in (tmp_path / "two/log").read_text()
    assert [result["metrics"]["processes"] for result in results] == [1, 2]
    assert results[0]["counts"] == results[1]["counts"]
    same_as_one(one, two)


def test_a_process_that_fails_ends_the_training_with_its_own_words(tmp_path: Path) -> None:
    """The base's weights are cut short: its examples can still be encoded, and every process fails to load it."""
    shutil.copytree(BASE, tmp_path / "base")
    weights = tmp_path / "base/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    job = training_job(
        tmp_path, example_rows(4), TrainingSettings(processes=2), Optimization(max_steps=1, batch_size=4)
    )
    job = replace(job, base=str(tmp_path / "base"))
    write_json(tmp_path / "job.json", asdict(job))
    with pytest.raises(ChildError, match=r"(?s)process \d failed with exit code 1.*SafetensorError") as raised:
        train_here(job, tmp_path / "job.json")
    assert "InvalidOffset" in str(raised.value) or "incomplete" in str(raised.value).lower()


def test_a_batch_must_be_cut_evenly() -> None:
    assert batch_arguments(Optimization(epochs=1, batch_size=64, micro_batch_size=2), 8) == {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 4,
    }
    assert batch_arguments(Optimization(epochs=1, batch_size=64), 4)["per_device_train_batch_size"] == 16
    with pytest.raises(
        ValueError, match="a batch of 64 examples cannot be split into micro-batches of 16 for 3 processes"
    ):
        batch_arguments(Optimization(epochs=1, batch_size=64, micro_batch_size=16), 3)
