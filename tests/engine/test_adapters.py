"""An adapter where a model is wanted: merged with the base that it names, or refused in one line."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from data.files import write_json
from tasks.model.folder import ModelError, check_model_folder
from tasks.model.location import find_model, model_folder
from tests.conftest import ROOT

BASE = ROOT / "data/world/base-judge"


def adapter_of(base: Path, folder: Path) -> Any:
    """A model with an adapter that changes it, whose adapter alone is saved."""
    import peft
    import torch
    import transformers

    torch.manual_seed(3)
    plain = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = peft.LoraConfig(r=4, lora_alpha=8, init_lora_weights=False, task_type="CAUSAL_LM")
    model = peft.get_peft_model(plain, config)
    model.save_pretrained(folder)
    return model.eval()


@pytest.mark.train
def test_an_adapter_becomes_the_model_that_it_makes_of_its_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    import transformers

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    base = Path(shutil.copytree(BASE, tmp_path / "base"))
    adapted = adapter_of(base, tmp_path / "adapter")
    folder, known = find_model(str(tmp_path / "adapter"))
    check_model_folder(folder, context=512)
    assert known == {"content": Path(folder).name}
    merged = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.arange(10, 40)[None]
    with torch.no_grad():
        assert torch.allclose(merged(ids).logits, adapted(ids).logits, atol=1e-4)
        assert not torch.allclose(
            merged(ids).logits, transformers.AutoModelForCausalLM.from_pretrained(base)(ids).logits, atol=1e-2
        )
    made = Path(folder).stat().st_mtime_ns
    assert find_model(str(tmp_path / "adapter")) == (folder, known)
    assert Path(folder).stat().st_mtime_ns == made, "it is merged once"
    (base / "generation_config.json").write_text("{}")
    assert find_model(str(tmp_path / "adapter"))[1] != known, "another base, another model"


def test_a_plan_needs_the_base_alone(tmp_path: Path) -> None:
    write_json(tmp_path / "adapter_config.json", {"base_model_name_or_path": str(BASE)})
    assert model_folder(str(tmp_path), weights=False) == str(BASE)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("/nowhere/base", r"holds an adapter of /nowhere/base, which is not available .* merge the two"),
        (None, r"holds an adapter of a base model that it does not name, not a whole model: merge the two"),
    ],
)
def test_an_adapter_without_its_base_is_one_line(tmp_path: Path, base: str | None, message: str) -> None:
    write_json(tmp_path / "adapter_config.json", {"base_model_name_or_path": base})
    for weights in (True, False):
        with pytest.raises(ModelError, match=message) as refused:
            model_folder(str(tmp_path), weights)
        assert "\n" not in str(refused.value)


@pytest.mark.train
def test_what_peft_says_of_an_adapter_that_does_not_fit_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_json(
        tmp_path / "adapter" / "adapter_config.json", {"base_model_name_or_path": str(BASE), "peft_type": "LORA"}
    )
    with pytest.raises(ModelError, match=r"cannot be merged with its base model .*base-judge: "):
        model_folder(str(tmp_path / "adapter"))
