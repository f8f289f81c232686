"""A model that also takes images, trained on text alone: its other parts, and what engines need for them, stay as they are."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tasks.settings import LoraSettings, Optimization, Role, TrainingSettings
from tests.support.composite import tiny_gemma
from tests.support.training_jobs import BASE, MODELS, Setup, example_rows

LORA = LoraSettings(r=4, alpha=8)
PROCESSORS = {"preprocessor_config.json": "{}", "processor_config.json": '{"image_seq_length": 4}'}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    """With the world's tokenizer."""
    folder = tmp_path_factory.mktemp("composite")
    tiny_gemma(len(tokenizer)).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BASE / name, folder)
    for name, content in PROCESSORS.items():
        (folder / name).write_text(content)
    return folder


def weights_of(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


@pytest.mark.train
@pytest.mark.parametrize(
    ("role", "lora", "layers"),
    [("judge", None, None), ("label-judge", LORA, None), ("scalar", None, 1), ("scalar", LORA, None)],
    ids=["full", "adapter", "scalar-upper", "scalar-adapter"],
)
def test_it_is_trained_on_text(
    base: Path, tmp_path: Path, role: Role, lora: LoraSettings | None, layers: int | None
) -> None:
    models = MODELS.model_copy(update={"judge_base": str(base)})
    optimization = Optimization(max_steps=2, batch_size=2, learning_rate=1e-2, weight_decay=0.1, lora=lora)
    setup = Setup(models, optimization, TrainingSettings(log_every=1, trainable_layers=layers), role)
    setup.train(tmp_path, example_rows(4))
    checkpoint = tmp_path / "out/checkpoint"
    for name, content in PROCESSORS.items():
        assert (checkpoint / name).read_text() == content
    before, after = weights_of(base), weights_of(checkpoint)
    assert before.keys() <= after.keys()
    changed = {name for name, weight in before.items() if not weight.equal(after[name])}
    assert any(name.startswith("language_model.model.layers.1.") for name in changed)
    assert all(name.startswith("language_model.") for name in changed)
