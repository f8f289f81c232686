"""What a base comes with must not keep a model from being written, and what is written must be what was trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from data.files import write_json
from tasks.model.chat import load_tokenizer
from tasks.model.merging import copy_small_files
from tasks.model.saving import make_savable
from tests.conftest import ROOT

BASE = ROOT / "data/world/base-judge"
IDS = {"bos_token_id": 1, "eos_token_id": [5, 2]}


# ---- settings of generation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ({"temperature": 0.9, "top_p": 0.6}, {"temperature": 0.9, "top_p": 0.6, "do_sample": True}),
        ({"top_k": 20}, {"top_k": 20, "do_sample": True}),
        ({"temperature": 1.0, "pad_token_id": 0}, {"temperature": 1.0, "pad_token_id": 0}),
        ({"temperature": 0.9, "do_sample": False}, {}),
        ({"pad_token_id": -1}, {}),
        ({"early_stopping": True, "pad_token_id": 0}, {"pad_token_id": 0}),
        ({"max_new_tokens": 40}, {"max_new_tokens": 40}),
    ],
)
def test_every_base_can_be_written(given: dict[str, Any], written: dict[str, Any], tmp_path: Path) -> None:
    import transformers

    write_json(tmp_path / "generation_config.json", {**IDS, **given})
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
        )
    )
    model.generation_config = transformers.GenerationConfig.from_pretrained(tmp_path)
    make_savable(model)
    model.save_pretrained(tmp_path / "out")
    found = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    del found["transformers_version"]
    assert found == {**IDS, **written}


# ---- the chat template of an adapter ------------------------------------------------------------------------------------------


def a_folder(place: Path, template: str | None, beside: bool) -> Path:
    """The world's tokenizer with this template, in a file of its own or, as once was usual, among the settings."""
    place.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BASE / name, place)
    config = json.loads((BASE / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    if template is not None and beside:
        (place / "chat_template.jinja").write_text(template)
    elif template is not None:
        config["chat_template"] = template
    write_json(place / "tokenizer_config.json", config)
    return place


@pytest.mark.parametrize("of_base", [True, False])
@pytest.mark.parametrize("of_adapter", [True, False])
@pytest.mark.parametrize(("adapters", "merged"), [("ADAPTER", "ADAPTER"), (None, "BASE")])
def test_an_adapter_keeps_its_template(
    of_base: bool, of_adapter: bool, adapters: str | None, merged: str, tmp_path: Path
) -> None:
    base = a_folder(tmp_path / "base", "BASE", of_base)
    adapter = a_folder(tmp_path / "adapter", adapters, of_adapter)
    (tmp_path / "out").mkdir()
    copy_small_files(adapter, base, tmp_path / "out")
    assert load_tokenizer(str(tmp_path / "out")).chat_template == merged


def test_an_adapter_without_a_tokenizer_has_that_of_its_base(tmp_path: Path) -> None:
    base = a_folder(tmp_path / "base", "BASE", beside=False)
    for name in ("adapter", "out"):
        (tmp_path / name).mkdir()
    copy_small_files(tmp_path / "adapter", base, tmp_path / "out")
    assert load_tokenizer(str(tmp_path / "out")).chat_template == "BASE"
