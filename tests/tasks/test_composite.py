"""Which parts of a model that also takes images are trained: those that text passes through, or processes wait forever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data.files import write_json
from tasks.model.merging import copy_small_files
from tasks.model.saving import copy_processor
from tasks.settings import LoraSettings
from tasks.training.layers import freeze_beside_text, parts_beside_text, pattern_beside_text, train_upper_layers
from tasks.training.objectives import lora_config
from tests.support.composite import tiny_gemma
from tests.support.training_jobs import BASE


@pytest.fixture
def model() -> Any:
    return tiny_gemma(100)


def learned(model: Any) -> set[str]:
    """The weights that learn from text. None that could learn is without a gradient."""
    import torch

    ids = torch.arange(5, 25)[None]
    model(input_ids=ids, labels=ids).loss.backward()
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert [name for name, weight in weights.items() if weight.grad is None] == []
    return set(weights)


def test_parts_for_images_are_frozen(model: Any) -> None:
    assert parts_beside_text(model) == ["model.vision_tower", "model.multi_modal_projector"]
    freeze_beside_text(model)
    assert {name.split(".")[1] for name in learned(model)} == {"language_model"}


def test_parts_for_images_have_no_adapter(model: Any) -> None:
    import peft

    freeze_beside_text(model)
    found = learned(peft.get_peft_model(model, lora_config(LoraSettings(r=4), False, pattern_beside_text(model))))
    assert len(found) == 2 * 2 * 7, "two matrices for each of the seven products of two layers"
    assert all("language_model" in name for name in found)


def test_the_upper_layers_are_those_for_text(model: Any) -> None:
    train_upper_layers(model, 1)
    found = learned(model)
    assert found
    assert all(name.startswith("model.language_model.layers.1.") for name in found)


def test_a_model_for_text_alone_has_no_other_parts() -> None:
    import transformers

    for kind in (transformers.AutoModelForCausalLM, transformers.AutoModelForSequenceClassification):
        plain = kind.from_config(transformers.AutoConfig.from_pretrained(BASE))
        assert (parts_beside_text(plain), pattern_beside_text(plain)) == ([], None)


def test_what_it_needs_for_images_goes_along(tmp_path: Path) -> None:
    for name in ("base", "adapter", "merged", "trained"):
        (tmp_path / name).mkdir()
    files = ["preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"]
    for file in files:
        write_json(tmp_path / "base" / file, {})
    copy_small_files(tmp_path / "adapter", tmp_path / "base", tmp_path / "merged")
    copy_processor(tmp_path / "base", tmp_path / "trained")
    for name in ("merged", "trained"):
        assert sorted(file.name for file in (tmp_path / name).iterdir()) == files
