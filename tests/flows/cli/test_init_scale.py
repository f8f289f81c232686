"""Values of `gram-r2 init` that are scaled to the data, the models and the GPUs, and how a recipe's text has them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from flows.starting.draft import Draft, Rows, Section, path_in
from flows.starting.models import BaseModel, Machine, look_at, size_in_name
from flows.starting.scale import (
    Training,
    Value,
    context,
    heldout_share,
    optimization,
    reply_tokens,
    rounds,
    tensor_parallel,
)
from tests.conftest import ROOT

TINY, SMALL, LARGE = BaseModel("tiny", 0.7e6), BaseModel("SmolLM2-135M", 135e6), BaseModel("Llama-8B", 8e9)
CPU, ONE, EIGHT = Machine(0), Machine(1), Machine(8)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("meta-llama/Llama-3.2-3B-Instruct", 3e9),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 135e6),
        ("Qwen/Qwen3-14B", 14e9),
        ("Qwen/Qwen3-0.6B", 0.6e9),
        ("Qwen/Qwen3-30B-A3B", 30e9),
        ("mistralai/Mixtral-8x7B-v0.1", 56e9),
        ("4bit/model", None),
    ],
)
def test_the_size_that_a_name_states(name: str, size: float | None) -> None:
    assert size_in_name(name) == size


def test_a_folder_tells_its_size_and_context() -> None:
    model = look_at(str(ROOT / "data/world/base-judge"))
    assert (model.parameters, model.context, model.size) == (687_104, 512, "0.687M")
    assert model.tokens()(["zuvi no"]) == [3]


@pytest.mark.parametrize(
    ("model", "machine", "pairs", "expected"),
    [
        # 60 pairs: enough steps of small batches. Tiny models bear many passes, large ones five.
        (TINY, CPU, 48, {"learning_rate": 1e-3, "max_steps": 200, "batch_size": 32}),
        (SMALL, CPU, 48, {"learning_rate": 1e-4, "max_steps": 120, "batch_size": 8}),
        (LARGE, ONE, 48, {"learning_rate": 1e-4, "max_steps": 60, "batch_size": 8, "micro_batch_size": 4, "lora": True}),
        # Many pairs: one epoch; in full where the GPUs hold 16 bytes a weight.
        (LARGE, ONE, 50_000, {"learning_rate": 1e-4, "epochs": 1, "batch_size": 128, "micro_batch_size": 1, "lora": True}),
        (LARGE, EIGHT, 50_000, {"learning_rate": 1e-5, "epochs": 1, "batch_size": 128, "micro_batch_size": 1}),
        # Six GPUs share every batch evenly.
        (LARGE, Machine(6), 50_000, {"learning_rate": 1e-5, "epochs": 1, "batch_size": 132, "micro_batch_size": 1}),
    ],
)  # fmt: skip
def test_a_training_suits_its_examples_model_and_gpus(
    model: BaseModel, machine: Machine, pairs: int, expected: dict[str, object]
) -> None:
    training = Training(model, machine, 2 * pairs, 1000, 1000 if model is not LARGE else 2048)
    found = dict(optimization(training, training.packs).value)
    if "lora" in found:
        found["lora"] = True
    assert found == expected


def test_only_many_examples_on_gpus_are_packed() -> None:
    assert Training(LARGE, ONE, 100_000, 1000, 4096).packs
    assert not Training(LARGE, ONE, 10_000, 1000, 4096).packs
    assert not Training(LARGE, CPU, 100_000, 1000, 4096).packs


def test_rounds_use_the_unlabeled_pairs_as_far_as_the_machine_can() -> None:
    def of(unlabeled: int, model: BaseModel, machine: Machine) -> tuple[int, int]:
        count, pairs = rounds(unlabeled, model, machine)
        return count.value, pairs.value

    assert of(0, TINY, CPU)[0] == 0
    assert of(30, TINY, CPU) == (1, 30)
    assert of(60, TINY, CPU) == (2, 30)
    assert of(300, TINY, CPU) == (3, 100)
    assert of(300_000, SMALL, CPU) == (3, 200)
    assert of(1_000_000, BaseModel("3B", 3.2e9), ONE) == (3, 30_000)  # as in llama-3.2-3b-lora
    assert of(10_000_000, LARGE, Machine(64)) == (3, 500_000)


def test_held_out_pairs_are_a_fifth_of_few_and_two_thousand_of_many() -> None:
    assert [heldout_share(n).value for n in (60, 1000, 5000, 100_000)] == [0.2, 0.2, 0.1, 0.02]
    assert heldout_share(60).why == "about 12 pairs, split by prompt: an accuracy near 80% is known to ±23 points"


def test_lengths_fit_the_data_and_the_model() -> None:
    assert reply_tokens(31, tiny=True).value == 64
    assert context(19, 64, [TINY]).value == 192
    short = context(19_000, 1024, [LARGE, BaseModel("short", 3e9, context=8192)])
    assert (short.value, "short" in short.why) == (8192, True)


def test_an_engine_has_as_many_gpus_as_its_model_needs() -> None:
    assert [tensor_parallel([BaseModel("", size)], EIGHT) for size in (8e9, 14e9, 70e9)] == [1, 1, 4]
    assert tensor_parallel([BaseModel("", 70e9)], CPU) == 1


def test_the_text_has_the_values_and_paths_from_its_own_folder(tmp_path: Path) -> None:
    rows = (Rows("labeled", {"path": str(tmp_path / "pairs.jsonl"), "columns": {"label_a": ["ja", 1, True]}}, "Why."),)
    values = {"rate": Value(1e-5, "small"), "share": Value(0.2), "on": Value(True, "x" * 150), "a": Value({"r": 64})}
    draft = Draft("gram", "own", "A title.", (Section("data", "What.", values, rows),))
    text = draft.text(tmp_path / "own")
    assert tomllib.loads(text) == {
        "run_name": "own",
        "data": {
            "rate": 1e-5, "share": 0.2, "on": True, "a": {"r": 64},
            "labeled": [{"path": "../pairs.jsonl", "columns": {"label_a": ["ja", 1, True]}}],
        },
    }  # fmt: skip
    assert "rate = 1e-5   # small" in text
    assert max(map(len, text.splitlines())) <= 152
    assert draft.values()["data"]["labeled"][0]["path"] == str(tmp_path / "pairs.jsonl")
    assert path_in(tmp_path / "own", "/elsewhere/pairs.jsonl") == "/elsewhere/pairs.jsonl"
    assert path_in(tmp_path / "own", "hub:owner/name") == "hub:owner/name"
